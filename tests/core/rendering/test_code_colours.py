"""Colours of code: that all of the code is there, and what has which colour."""

from __future__ import annotations

import re
import time

import pytest
from hostile_markdown import judged
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.rendering.code_colours import _TABLE, coloured_code, language_named

SPAN = re.compile(r"<span style=\"[^\"]*--jp-mirror-editor-(\w+)-[^\"]*\">([^<]*)</span>")
LANGUAGES = [*(names.split()[0] for names in _TABLE), "diff"]
PIECES = ['"', "'", "`", '"""', "'''", "\\", "#", "//", "/*", "*/", "--", "<!--", "-->", "<", ">"]
PIECES += ["a", " ", "\n", "1", ".", "=", ":", "$", "{", "}", "def ", "class ", "@", "%", "+", "é"]


@pytest.mark.parametrize(
    ("language", "code", "colours"),
    [
        ("python", 'def f(n: int):\n    """d\n    """\n    return n + 1  # c', [
            ("keyword", "def"), ("def", "f"), ("builtin", "int"), ("string", "&quot;&quot;&quot;d\n"
            "    &quot;&quot;&quot;"), ("keyword", "return"), ("number", "1"), ("comment", "# c")]),
        ("JSON", '{"a": ["b", 1, true]}', [
            ("property", "&quot;a&quot;"), ("string", "&quot;b&quot;"), ("number", "1"),
            ("keyword", "true")]),
        ("bash", "for f in *.txt; do echo \"$f\" '#no'; done # yes", [
            ("keyword", "for"), ("keyword", "in"), ("keyword", "do"), ("keyword", "echo"),
            ("string", "&quot;$f&quot;"), ("string", "&#39;#no&#39;"), ("keyword", "done"),
            ("comment", "# yes")]),
        ("sql", "SELECT a FROM t -- all", [
            ("keyword", "SELECT"), ("keyword", "FROM"), ("comment", "-- all")]),
        ("html", '<a href="x">y</a><!-- z -->', [
            ("tag", "&lt;a"), ("property", "href"), ("string", "&quot;x&quot;"), ("tag", "&gt;"),
            ("tag", "&lt;/a&gt;"), ("comment", "&lt;!-- z --&gt;")]),
        ("yaml", "a: true # c", [("property", "a"), ("keyword", "true"), ("comment", "# c")]),
        ("diff", "@@ -1 +1 @@\n-a\n+b", [
            ("property", "@@ -1 +1 @@"), ("string", "-a"), ("keyword", "+b")]),
        ("rust", "fn f<'a>(c: char) { c == 'x' }", [
            ("keyword", "fn"), ("def", "f"), ("string", "&#39;x&#39;")]),
        ("brainfuck", "def + 1", []),
    ],
)  # fmt: skip
def test_words_have_their_colours(language: str, code: str, colours: list[tuple[str, str]]) -> None:
    assert SPAN.findall(coloured_code(code, language)) == colours


@given(st.sampled_from(LANGUAGES), st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_no_character_of_code_is_lost(language: str, code: str) -> None:
    judge = judged(coloured_code(code, language).replace("\n\n", "\n&#10;"))
    assert judge.text == code
    assert [fault for fault in judge.faults if "blank" not in fault] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_is_linear_for_every_language(language: str) -> None:
    known = language_named(language)
    assert known is not None
    for piece in PIECES:
        code = piece * (20_000 // len(piece))
        began = time.thread_time()
        coloured_code(code, language)
        assert time.thread_time() - began < 0.5, piece
