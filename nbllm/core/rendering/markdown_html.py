"""Markdown as HTML, written from tables of constants.

Whatever a model writes, the HTML consists of the strings below, of text that went through
``escaping``, of addresses that ``markdown_parser`` allows, and of formulas that ``formulas``
allows. There are no images (a link leads to each), no classes and no identifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from nbllm.core.rendering.code_colours import coloured_code
from nbllm.core.rendering.escaping import (
    attribute_html,
    code_html,
    encodable,
    preformatted,
    text_html,
    without_blank_lines,
)
from nbllm.core.rendering.formulas import Formula, is_drawable
from nbllm.core.rendering.markdown_parser import TooComplexError, is_allowed, parse

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["answer_html"]

MOST_ELEMENTS = 20_000
MOST_FORMULAS, MOST_FORMULA_CHARACTERS = 200, 8_000
"""What a page lays out and typesets within about two seconds, whatever it is."""

MOST_COLOURED_CHARACTERS = 20_000
"""Of the code of one answer; colours are ten times as long as what they colour."""

_CONSTANTS: Mapping[str, str] = {
    "blockquote_open": "<blockquote>\n",
    "blockquote_close": "</blockquote>\n",
    "bullet_list_open": "<ul>\n",
    "bullet_list_close": "</ul>\n",
    "ordered_list_close": "</ol>\n",
    "list_item_close": "</li>\n",
    "hr": "<hr>\n",
    "table_open": "<table>\n",
    "table_close": "</table>\n",
    "thead_open": "<thead>\n",
    "thead_close": "</thead>\n",
    "tbody_open": "<tbody>\n",
    "tbody_close": "</tbody>\n",
    "tr_open": "<tr>",
    "tr_close": "</tr>\n",
    "th_close": "</th>",
    "td_close": "</td>",
    "em_open": "<em>",
    "em_close": "</em>",
    "strong_open": "<strong>",
    "strong_close": "</strong>",
    "s_open": "<s>",
    "s_close": "</s>",
    "softbreak": "<br>\n",
    "hardbreak": "<br>\n",
}
_HEADINGS = {name: name for name in ("h1", "h2", "h3", "h4", "h5", "h6")}
_ALIGNMENTS = {f"text-align:{side}": side for side in ("left", "center", "right")}
_BOXES = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}
_TASK = '<li style="list-style-type:none">'
_PRE = '<pre style="margin:1em 2em">'  # exported pages have no style of their own for it
_LINK = '<a href="{}" target="_blank" rel="noopener noreferrer">'


def answer_html(text: str, *, coloured: bool = True) -> str:
    """``text``, which is Markdown, as HTML; what is too long or too deep comes as it is written.

    Without ``coloured`` code has no colours, which take more bytes than the code.
    """
    text = encodable(text)
    try:
        return without_blank_lines(_Writer(coloured=coloured).write(parse(text)))
    except TooComplexError:
        return preformatted(text)


class _Writer:
    """Writes the HTML of one text, and counts what it has written."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured
        self._tags = self._formulas = self._formula_characters = self._code_characters = 0
        self._links: list[str] = []
        self._makers: Mapping[str, Callable[[Token], str]] = {
            "text": lambda token: text_html(token.content),
            "code_inline": lambda token: f"<code>{code_html(token.content)}</code>",
            "fence": self._fence,
            "code_block": self._fence,
            "heading_open": lambda token: f"<{_heading(token)}>",
            "heading_close": lambda token: f"</{_heading(token)}>\n",
            "paragraph_open": lambda token: "" if token.hidden else "<p>",
            "paragraph_close": lambda token: "\n" if token.hidden else "</p>\n",
            "ordered_list_open": _ordered_list,
            "list_item_open": lambda token: _TASK if token.meta.get("is_task") else "<li>",
            "th_open": lambda token: _cell("th", token),
            "td_open": lambda token: _cell("td", token),
            "link_open": self._link,
            "link_close": self._link_end,
            "image": self._image,
            "formula": lambda token: f"<span>{self._formula(token)}</span>",
            "formula_block": lambda token: f"<p>{self._formula(token)}</p>\n",
        }

    def write(self, tokens: list[Token]) -> str:
        """The HTML; raises ``TooComplexError`` where it has too many elements."""
        _mark_tasks(tokens)
        return "".join(map(self._piece, _flat(tokens))).rstrip("\n")

    def _piece(self, token: Token) -> str:
        make = self._makers.get(token.type)
        piece = make(token) if make else _CONSTANTS[token.type]
        self._tags += piece.count("<")
        if self._tags > 2 * MOST_ELEMENTS:
            raise TooComplexError
        return piece

    def _fence(self, token: Token) -> str:
        language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
        code = token.content.removesuffix("\n")
        self._code_characters += len(code)
        is_coloured = self._coloured and self._code_characters <= MOST_COLOURED_CHARACTERS
        shown = coloured_code(code, language) if is_coloured else code_html(code)
        return f"{_PRE}<code>{shown}</code></pre>\n"

    def _link(self, token: Token) -> str:
        self._links.append(_link(str(token.attrs["href"])))
        return self._links[-1]

    def _link_end(self, token: Token) -> str:
        return "</a>" if self._links.pop() else ""

    def _image(self, token: Token) -> str:
        """A link that leads to the image, unless it stands in one that leads elsewhere."""
        address = str(token.attrs["src"])
        words = text_html(f"image: {token.content or address}")
        link = "" if any(self._links) else _link(address)
        return f"{link}{words}</a>" if link else words

    def _formula(self, token: Token) -> str:
        """The formula for the front end to typeset, or as code where it may not have it."""
        formula: Formula = token.meta["formula"]
        self._formulas += 1
        self._formula_characters += len(formula.body)
        within = self._formulas <= MOST_FORMULAS
        within = within and self._formula_characters <= MOST_FORMULA_CHARACTERS
        if within and is_drawable(formula):
            return attribute_html(formula.written)
        return f"<code>{code_html(formula.written)}</code>"


def _link(address: str) -> str:
    """The tag that opens a link; "" where none may lead to ``address``."""
    return _LINK.format(attribute_html(address)) if is_allowed(address) else ""


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type == "inline":
            yield from token.children or ()
        else:
            yield token


def _mark_tasks(tokens: list[Token]) -> None:
    """Find the items that begin with a box, and draw the box; a page gets no form for it."""
    for item, _, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if item.type == "list_item_open" and inline.type == "inline" and inline.children:
            first = inline.children[0]
            box = _BOXES.get(first.content[:4]) if first.type == "text" else None
            if box:
                first.content = box + first.content[4:]
                item.meta["is_task"] = True


def _heading(token: Token) -> str:
    return _HEADINGS[token.tag]


def _ordered_list(token: Token) -> str:
    start = int(token.attrs.get("start", 1))
    return "<ol>\n" if start == 1 else f'<ol start="{start}">\n'


def _cell(name: str, token: Token) -> str:
    """A cell of a table; front ends set those of HTML to the right where nothing is said."""
    side = _ALIGNMENTS.get(str(token.attrs.get("style")), "left")
    return f'<{name} style="text-align:{side}">'
