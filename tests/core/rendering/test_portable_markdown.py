"""Markdown for files: the same to every parser, with nothing live in it."""

from __future__ import annotations

import re

import pytest
from hostile_markdown import IMAGE, PIECES, judged, mixtures
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbllm.core.rendering.markdown_html import answer_html
from nbllm.core.rendering.portable_markdown import escaped_markdown, fenced, portable_markdown

OURS = re.compile(r"<(pre|code)>[^<>]*(</\1>)?|</(pre|code)>")


def live(text: str, *disabled: str) -> list[str]:
    """What a CommonMark renderer would interpret that is not nbllm's own."""
    tokens = MarkdownIt("commonmark").enable("table").disable(list(disabled)).parse(text)
    leaves = [leaf for token in tokens for leaf in [token, *(token.children or [])]]
    html = [leaf.content for leaf in leaves if leaf.type in ("html_inline", "html_block")]
    links = [str(leaf.attrs["href"]) for leaf in leaves if leaf.type == "link_open"]
    return [
        *(each for each in html if "<" in OURS.sub("", each)),
        *(leaf.content for leaf in leaves if leaf.type == "image"),
        *(link for link in links if not re.match("https?://|mailto:", link, re.IGNORECASE)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Plain *text* with `code` and **more**.",
        "# A\n\n## B",
        "1. Do this:\n\n   ```cpp\n   int a;\n   ```\n2. Done.",
        "> quoted",
        "- [ ] a\n- [x] b",
        "$x^2$ and\n\n$$\ny\n$$",
        "<https://example.org/a_b> and [a](http://b.c)",
        "```html\n<b>kept</b> ![kept](x)\n```",
        "| a | b |\n| --- | --: |\n| 1 | 2 |",
    ],
)
def test_ordinary_markdown_stays_as_it_is(text: str) -> None:
    assert portable_markdown(text) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
        ("![alt](http://stranger/x.png)", "[image: alt](http://stranger/x.png)"),
        ("[a](javascript:x)", r"\[a\](javascript:x)"),
        ("`<b>`", "<code>&#60;b&#62;</code>"),
        ("costs $5", r"costs \$5"),
        ("$\\href{a}{b}$", "<code>&#36;&#92;href{a}{b}&#36;</code>"),
        ("```mermaid\nx\n```", "```\nx\n```"),
        (f'``` "{IMAGE}\nx\n```', "```\nx\n```"),
        ("- ```\n  <b>\n  ```", "- <pre>&#60;b&#62;</pre>"),
        ("```\n<b>", "```\n<b>\n```"),
    ],
)
def test_what_could_be_live_is_written_otherwise(text: str, safe: str) -> None:
    assert portable_markdown(text) == safe


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_nothing_live_is_left_in_any_mixture(text: str) -> None:
    assert live(portable_markdown(text)) == []


def test_nothing_live_is_left_where_a_parser_knows_less() -> None:
    for text in mixtures(3, 1_000):
        written = portable_markdown(text)
        assert live(written) == []
        assert live(written, "table") == []
        assert judged(answer_html(written)).faults == []


def test_names_are_read_as_they_are_written() -> None:
    name = f"a_b *c* `d` {IMAGE}\n# [e](javascript:f) $g$"
    assert live(f"# {escaped_markdown(name)}") == []
    html = MarkdownIt("commonmark").render(f"# {escaped_markdown(name)}")
    assert judged(html).text.strip() == " ".join(name.split())


@pytest.mark.parametrize("code", ["a", "```", "````\n```", "~~~", "`"])
def test_nothing_ends_a_fence_early(code: str) -> None:
    (token,) = MarkdownIt("commonmark").parse(fenced(code, "json"))
    assert (token.info, token.content) == ("json", f"{code}\n")
