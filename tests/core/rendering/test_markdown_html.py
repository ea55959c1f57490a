"""The HTML of answers: what it shows, that nothing in it is live, that it never takes long."""

from __future__ import annotations

import os
import time

import pytest
from hostile_markdown import IMAGE, PIECES, judged, mixtures
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbllm.core.rendering.markdown_html import answer_html
from nbllm.core.rendering.markdown_parser import LONGEST, SECONDS

MIXTURES = int(os.environ.get("NBLLM_MIXTURES", "1500"))
REMOTE = 'target="_blank" rel="noopener noreferrer"'


def shown(text: str) -> str:
    """What a reader sees of an answer; fails where anything in it is live."""
    judge = judged(answer_html(text))
    assert judge.faults == []
    return judge.text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Hello *you*, **all**, ~~no~~ `a<b`", "<p>Hello <em>you</em>, <strong>all</strong>, "
         "<s>no</s> <code>a&lt;b</code></p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("# A\n\n### B", "<h1>A</h1>\n<h3>B</h3>"),
        ("3. a\n4. b", '<ol start="3">\n<li>a\n</li>\n<li>b\n</li>\n</ol>'),
        ("- [ ] a\n- [x] b\n- c", '<ul>\n<li style="list-style-type:none">☐ a\n</li>\n'
         '<li style="list-style-type:none">☑ b\n</li>\n<li>c\n</li>\n</ul>'),
        ("> a\n\n---", "<blockquote>\n<p>a</p>\n</blockquote>\n<hr>"),
        ("|a|b|\n|-|-:|\n|1|2|", '<table>\n<thead>\n<tr><th style="text-align:left">a</th>'
         '<th style="text-align:right">b</th></tr>\n</thead>\n<tbody>\n<tr><td style="text-align:'
         'left">1</td><td style="text-align:right">2</td></tr>\n</tbody>\n</table>'),
        ("```\na\n\n\nb\n```", '<pre style="margin:1em 2em"><code>a&#10;&#10;\nb</code></pre>'),
        ("[a](http://b.c)", f'<p><a href="http://b.c" {REMOTE}>a</a></p>'),
        ("See https://b.c/d_e).", f'<p>See <a href="https://b.c/d_e" {REMOTE}>https://b.c/d_e</a>'
         ").</p>"),
        ("![a](http://b.c)", f'<p><a href="http://b.c" {REMOTE}>image: a</a></p>'),
        ("[![a](http://b.c)](http://d.e)", f'<p><a href="http://d.e" {REMOTE}>image: a</a></p>'),
        ("[a]\n\n[a]: http://b.c", f'<p><a href="http://b.c" {REMOTE}>a</a></p>'),
        ("$a<b$", "<p><span>$a&lt;b$</span></p>"),
        ("a \\(b\\)", "<p>a <span>\\(b\\)</span></p>"),
        ("\\[\na\n- b\n\\]", "<p>\\[\na\n- b\n\\]</p>"),
        ("a\n$$\nb\n= c\n$$\nd", "<p>a</p>\n<p>$$\nb\n= c\n$$</p>\n<p>d</p>"),
        ("> $$\n> a\n> $$", "<blockquote>\n<p>$$\na\n$$</p>\n</blockquote>"),
        ("\\begin{align}\na&=b\n\\end{align}", "<p>\\begin{align}\na&amp;=b\n\\end{align}</p>"),
    ],
)  # fmt: skip
def test_it_shows_what_markdown_means(text: str, html: str) -> None:
    assert answer_html(text) == html
    assert judged(html).faults == []


@pytest.mark.parametrize(
    "text",
    [
        "costs $5 and $10",
        "from $5-$10, US$7 or $3k and $4k",
        "between $5 and US$, or 10$ and 20$",
        "a $ b $ c",
        "$HOME/bin:$PATH",
        "C:\\new\\table and \\alpha",
        "<b>bold</b> & <script>alert(1)</script> &copy;".replace("&copy;", "©"),
        "[a](javascript:alert(1)) [b](data:text/html,x) [c](./file.ipynb) [d](#e)",
        "see \\begin{align}",
        "1 < 2 > 0",
    ],
)
def test_what_is_no_markup_is_read_as_it_is_written(text: str) -> None:
    assert shown(text) == text
    assert "<a " not in answer_html(text)


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("$x$", 1),
        ("the $n$th of $2n + 1$", 2),
        ("so $$x$$", 1),
        ("\\(x\\) and \\[y\\]", 2),
        ("$f(x) = \\sin x$, costs $5", 1),
        ("`$x$` and \\$x\\$", 0),
        ("$x $y", 0),
        ("$\\frac{1}{2}$ of $5", 1),
        ("\\\\(x\\\\)", 0),
    ],
)
def test_formulas_are_told_from_money(text: str, formulas: int) -> None:
    html = answer_html(text)
    isolated = html.count("<span>$</span>") + html.count("<span>\\</span>")
    assert html.count("<span>") - isolated == formulas


@pytest.mark.parametrize(
    "formula",
    [
        r"\href{javascript:alert(1)}{x}",
        r"\require{html}x",
        r"\class{a}{x}",
        r"\cssId{a}{x}",
        r"\style{color:red}{x}",
        r"\unicode{x3c}",
        r"\def\x{\x\x}\x",
        r"\newcommand{\x}{y}",
        r"\mmlToken{mi}[onclick=alert(1)]{x}",
        r"\begin{html}x\end{html}",
        r"\begin x",
        r"\text{$\url{http://stranger.test}$}",
        r"\includegraphics{http://stranger.test}",
        "{" * 40 + "x" + "}" * 40,
        r"\sqrt" * 40 + "x",
        r"\pi" * 450,
    ],
)
@pytest.mark.parametrize(("opening", "closing"), [("$", "$"), ("$$\n", "\n$$"), ("\\(", "\\)")])
def test_formulas_with_other_words_are_shown_as_they_are_written(
    formula: str, opening: str, closing: str
) -> None:
    html = answer_html(f"{opening}{formula}{closing}")
    judge = judged(html)
    assert judge.faults == []
    assert "".join(judge.text.split()) == "".join(f"{opening}{formula}{closing}".split())
    assert "<code>" in html or "<span>$</span>" in html or "<span>\\</span>" in html


@pytest.mark.parametrize(
    "text",
    [
        f'``` "{IMAGE}\ncode\n```',
        f"See http://a.b/?q=`{IMAGE}` now",
        f"See http://a.b/\\{IMAGE}",
        f"~~`{IMAGE}`",
        f"text\n\n```{IMAGE}",
        f'```mermaid\ngraph LR\nX["{IMAGE}"]\n```',
        'Z@{ img: "http://stranger.test/m4" }',
        "<JaVaScRiPt:alert(1)>",
        "[x]: javascript:alert(1)\n\n[x] [x][] [y][x]",
        "![x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](java\u200bscript:x) [x](&#106;avascript:x) [x](\\javascript:x) [x](<javascript:x>)",
        "[x]()![x]()[x](<>)",
        '[x](http://a.b" onclick="alert(1)) [y](http://a.b \'c" onclick="d\')',
        "[x](http://user:pass@stranger.test) [x](http://) [x](https:/a) [x](http:a)",
        "\ud83d[x](http://a.b/\ud83d)\x00",
        f"| a |\n|---|\n| {IMAGE} | [x](javascript:1) |",
    ],
)
def test_nothing_of_an_answer_is_live(text: str) -> None:
    judge = judged(answer_html(text))
    assert judge.faults == []
    assert "\ud83d" not in judge.text


def test_no_mixture_is_live() -> None:
    for text in mixtures(1, MIXTURES):
        assert judged(answer_html(text)).faults == [], text


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_mixture_that_hypothesis_finds_is_live(text: str) -> None:
    assert judged(answer_html(text)).faults == []


@given(st.text(max_size=60))
def test_no_text_is_live(text: str) -> None:
    assert judged(answer_html(text)).faults == []


def test_a_markdown_file_that_it_is_exported_into_has_it_as_html() -> None:
    for text in mixtures(4, 500):
        tokens = MarkdownIt("commonmark").parse(answer_html(text))
        assert {token.type for token in tokens} <= {"html_block"}, text


def test_while_it_grows_it_is_as_safe() -> None:
    for text in mixtures(2, 60):
        for end in range(len(text)):
            assert judged(answer_html(text[:end], coloured=False)).faults == []


ENDLESS = {
    "code spans": "`a",
    "emphasis": "*a **b ",
    "underscores": "_a *b ",
    "strikethrough": "~~a ",
    "brackets": "[",
    "images": "![",
    "links": "[a](",
    "angles": "<",
    "entities": "&",
    "quotes": "> ",
    "items": "- ",
    "both": "> - ",
    "lines": "a\n",
    "lazy lines": ">>>>>>>>>> a\nb\n",
    "fences": "```\n",
    "definitions": "[a]: b\n",
    "definitions with titles": '[a]: b "c\n',
    "dashes": "-",
    "tildes": "~",
    "dollars": "$a ",
    "displays": "$$a\n",
    "brackets of formulas": "\\[a\n",
    "parentheses of formulas": "\\(",
    "environments": "\\begin{align}\n",
    "addresses": "http://",
    "closed addresses": "http://a)",
    "backslashes": "\\",
    "rows": "|a|b|\n|-|-|\n",
    "cells": "|",
    "quotes in code": '```python\n"""a',
    "comments in code": "```c\n/*",
    "tags in code": "```html\n<!--",
    "blank lines in code": "```\n \n",
}


@pytest.mark.parametrize("piece", ENDLESS.values(), ids=ENDLESS)
def test_no_text_takes_long(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would, ends soon after the limit."""
    seconds = SECONDS / 5
    monkeypatch.setattr("nbllm.core.rendering.markdown_parser.SECONDS", seconds)
    text = piece * (LONGEST // len(piece) - 1) + "x"
    began = time.thread_time()
    html = answer_html(text)
    assert time.thread_time() - began <= seconds + 1.5
    assert html.count("<") <= 42_000
    assert len(html) <= 16 * len(text) + 1_000


@pytest.mark.parametrize(
    "text",
    [
        "> " * 50 + "deep",
        "".join(f"{'  ' * depth}- {depth}\n" for depth in range(40)) + "deep",
        "|" + "a|" * 500 + "\n|" + "-|" * 500 + "\n" + "deep\n" * 500,
        "*a* " * 15_000 + "deep",
        "word " * 60_000 + "deep",
    ],
    ids=["quotes", "lists", "a wide table", "elements", "long"],
)
def test_what_is_too_much_comes_as_it_is_written(text: str) -> None:
    html = answer_html(text)
    assert html.startswith("<pre style=")
    assert judged(html).text.strip() == text.strip()


def test_ten_megabytes_in_a_line_are_cut_for_the_page() -> None:
    judge = judged(answer_html("x" * 10_000_000))
    assert judge.faults == []
    assert len(judge.text) < 600_000
    assert "9,500,000 more characters" in judge.text


def test_code_has_colours_that_need_no_style_sheet() -> None:
    html = answer_html("```python\ndef f(x):  # why\n    return 'a<b'\n```")
    judge = judged(html)
    assert judge.faults == []
    assert judge.text == "def f(x):  # why\n    return 'a<b'"
    assert html.count("--jp-mirror-editor-") == 5
    assert "--jp" not in answer_html("```python\ndef f(x): ...\n```", coloured=False)
