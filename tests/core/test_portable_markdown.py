from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbllm.core.markdown import safe_markdown

IMAGE = "<img src=http://stranger/x>"


def live(text: str) -> list[str]:
    """What a CommonMark renderer would interpret: raw HTML, and images."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    leaves = [leaf for token in tokens for leaf in [token, *(token.children or [])]]
    return [leaf.type for leaf in leaves if leaf.type in ("html_block", "html_inline", "image")]


@pytest.mark.parametrize(
    "text",
    [
        "Plain *text* with `code`, 1 < 2, $a<b$ and <https://example.org/>.",
        "```html\n<b>kept</b> ![kept](x)\n```",
        "1. Do this:\n\n   ```cpp\n   vector<int> a;\n   ```\n\n2. Done.",
        "> ~~~\n> <b>quoted code</b>\n> ~~~",
        "Use `<div>` and `` a`<b> ``.",
    ],
)
def test_code_and_plain_text_stay_as_they_are(text: str) -> None:
    assert safe_markdown(text) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<b>bold</b>", "&lt;b>bold&lt;/b>"),
        ("![alt](http://stranger/x.png)", "\\![alt](http://stranger/x.png)"),
        ("<!-- hidden -->", "&lt;!-- hidden -->"),
        ("`code` <i>", "`code` &lt;i>"),
        ("\\<i> \\\\<i>", "\\<i> \\\\&lt;i>"),
        ("\\![a](b) \\\\![a](b)", "\\![a](b) \\\\\\![a](b)"),
    ],
)
def test_html_and_images_are_shown_and_not_interpreted(text: str, safe: str) -> None:
    assert safe_markdown(text) == safe
    assert live(safe) == []


@pytest.mark.parametrize(
    "text",
    [
        f"a ` b\n# h\n{IMAGE} ` c",
        f"- a `\n- {IMAGE} ` b",
        f"- a\n\n  ```\n  code\n\n{IMAGE}",
        f"- ```\n  x\n  ```\n\n  {IMAGE}",
        f" ```\ncode\n```\n{IMAGE}",
        f"<div>\n```\n</div>\n\n{IMAGE}\n```",
        f"` x\ny ` {IMAGE} ` z",
        f"\\\\` a ` {IMAGE} ` b `",
        f"| a ` | {IMAGE} ` |\n|---|---|\n| b ` | {IMAGE} ` |",
        f"`\r{IMAGE}`",
        f"```\n```\n{IMAGE}\n```",
        f"~~~ ` ~~~\n{IMAGE}",
        f"    indented {IMAGE}\n{IMAGE}",
    ],
)
def test_no_half_open_code_hides_html(text: str) -> None:
    assert live(safe_markdown(text)) == []


PIECES = ["`", "``", "```", "~~~", "\n", "\n\n", "\r", "- ", "> ", "1. ", "   ", "    ", "\\"]
PIECES += ["|", "a", "# ", "<b>", "</b>", "<!--", "![", "](x)", "[x]", IMAGE, "$", "---", "|-|-|"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("> ```\n<b>")
def test_nothing_live_is_left_in_any_mixture(text: str) -> None:
    assert live(safe_markdown(text)) == []


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_making_safe_loses_no_line(text: str) -> None:
    assert safe_markdown(text).count("\n") >= text.count("\n")
