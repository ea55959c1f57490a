"""Markdown written anew, for files that are read elsewhere, by parsers that nobody knows here.

What a model wrote is parsed as it is for the screen, and the tree is written again in the one form
that all parsers read alike: every character of prose that means something is escaped or written as
an entity, code stands in fences longer than any in it, links lead to allowed addresses only, and
HTML is nbllm's own. Where parsers differ (code within lists, formulas with brackets) and the text
could be live in one of them, it is written as entities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from nbllm.core.rendering.code_colours import language_named
from nbllm.core.rendering.escaping import encodable
from nbllm.core.rendering.formulas import Formula, is_drawable
from nbllm.core.rendering.markdown_parser import TooComplexError, is_allowed, parse

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["escaped_markdown", "fenced", "portable_markdown"]

_BACKTICKS = re.compile(r"`+")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "`": "&#96;", "\\": "&#92;"}
_SPECIAL = re.compile(r"[<>&`\\*_\[\]~$|]")
_LINE_START = re.compile(r"^([ \t]*)([#+=-]|\d{1,9}(?=[.)]))", re.MULTILINE)
_PLAIN_CODE = re.compile(r"[^<>&`\\$|\[\]!\n]+")
_LIVE_CODE = re.compile(r"<|\]\(|\]:|\]\[")
_PLAIN_FORMULA = re.compile(r"[^<>`\[\]]+")
_IN_HTML = re.compile(r"[<>&\"'`\\*_\[\]~$|!#\n]")
_IN_ADDRESS = re.compile(r"[()\[\]|$]")
_BOX = re.compile(r"\A\\\[([ xX])\\\](?= )")


def portable_markdown(text: str) -> str:
    """``text``, which is Markdown, as Markdown that is the same to every parser."""
    text = encodable(text)
    try:
        tokens = parse(text)
    except TooComplexError:
        return fenced(text)
    return "\n\n".join(_Writer(iter(tokens)).blocks(None))


def escaped_markdown(text: str) -> str:
    r"""``text`` as prose for the middle of a line, which is read as it is written.

    >>> print(escaped_markdown("5 * 3 < x_1"))
    5 \* 3 &lt; x\_1
    """
    return _SPECIAL.sub(_escape, " ".join(encodable(text).split()))


def fenced(code: str, language: str = "") -> str:
    """``code`` as a fenced block that nothing in it can end.

    >>> print(fenced("````", "text"))
    `````text
    ````
    `````
    """
    longest = max(map(len, _BACKTICKS.findall(code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def _escape(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0], f"\\{match[0]}")


def _escape_start(match: re.Match[str]) -> str:
    """A mark of a list, a heading or a line; a number is one together with what follows it."""
    space, mark = match.groups()
    return f"{space}{mark}\\" if mark[0].isdigit() else f"{space}\\{mark}"


def _html(tag: str, code: str) -> str:
    return f"<{tag}>{_IN_HTML.sub(lambda match: f'&#{ord(match[0])};', code)}</{tag}>"


class _Writer:
    """Writes blocks, each of which may have several lines and none of them blank at an end."""

    def __init__(self, tokens: Iterator[Token]) -> None:
        self._tokens, self._depth = tokens, 0

    def blocks(self, closing: str | None) -> Iterator[str]:
        """The blocks up to the token of the type ``closing``, or to the end."""
        for token in self._tokens:
            if token.type == closing:
                return
            yield self._block(token)

    def _block(self, token: Token) -> str:
        match token.type:
            case "paragraph_open":
                return self._paragraph()
            case "heading_open":
                return f"{'#' * int(token.tag[1])} {self._paragraph().replace('  ' + chr(10), ' ')}"
            case "blockquote_open":
                return _indented("> ", "> ", self._nested("blockquote_close"))
            case "bullet_list_open":
                return self._list("bullet_list_close", None)
            case "ordered_list_open":
                return self._list("ordered_list_close", int(token.attrs.get("start", 1)))
            case "table_open":
                return self._table()
            case "fence" | "code_block":
                return self._code(token)
            case "formula_block":
                return self._formula(token.meta["formula"])
            case _:
                return "***"  # hr is the only other block

    def _nested(self, closing: str, gap: str = "\n\n") -> str:
        self._depth += 1
        inner = gap.join(self.blocks(closing))
        self._depth -= 1
        return inner

    def _paragraph(self) -> str:
        inline = next(self._tokens)
        next(self._tokens)
        return _LINE_START.sub(_escape_start, _inline(inline))

    def _list(self, closing: str, start: int | None) -> str:
        items: list[str] = []
        for number, token in enumerate(self._tokens, start or 0):
            if token.type == closing:
                break
            mark = "- " if start is None else f"{number}. "
            inner = _BOX.sub(r"[\1]", self._nested("list_item_close"), count=1)
            items.append(_indented(mark, " " * len(mark), inner))
        return "\n".join(items)

    def _table(self) -> str:
        rows: list[list[str]] = []
        sides: list[str] = []
        for token in self._tokens:
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "th_open":
                sides.append(_SIDES.get(str(token.attrs.get("style")), "---"))
            elif token.type == "inline":
                rows[-1].append(_inline(token).replace("  \n", " "))
        head, *body = rows
        return "\n".join(f"| {' | '.join(row)} |" for row in (head, sides, *body))

    def _code(self, token: Token) -> str:
        code = token.content.removesuffix("\n")
        if self._depth and _LIVE_CODE.search(code):
            return _html("pre", code)
        name = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
        return fenced(code, name if language_named(name) else "")

    def _formula(self, formula: Formula) -> str:
        plain = is_drawable(formula) and _PLAIN_FORMULA.fullmatch(formula.body)
        if not plain or self._depth:
            return _html("pre", formula.written)
        body = formula.body.strip()
        return f"$$\n{body}\n$$" if formula.opening else body


def _indented(first: str, further: str, text: str) -> str:
    lines = text.split("\n")
    rest = [f"{further}{line}".rstrip() if not line else f"{further}{line}" for line in lines[1:]]
    return "\n".join([f"{first}{lines[0]}", *rest])


_SIDES = {"text-align:left": ":--", "text-align:center": ":-:", "text-align:right": "--:"}
_MARKS = {
    **dict.fromkeys(("em_open", "em_close"), "*"),
    **dict.fromkeys(("strong_open", "strong_close"), "**"),
    **dict.fromkeys(("s_open", "s_close"), "~~"),
    **dict.fromkeys(("softbreak", "hardbreak"), "  \n"),
}


def _inline(token: Token) -> str:
    pieces: list[str] = []
    address, begin = "", 0
    for child in token.children or ():
        if child.type == "link_open":
            address, begin = str(child.attrs["href"]), len(pieces)
        elif child.type == "link_close":
            pieces[begin:] = [_link("".join(pieces[begin:]), address)]
            address = ""
        elif child.type == "image" and address:
            pieces.append(_image_words(child))
        else:
            pieces.append(_INLINE.get(child.type, _constant)(child))
    return "".join(pieces).strip().replace("![", "\\![")  # "!" before a link is no image


def _link(label: str, address: str) -> str:
    if not is_allowed(address):
        return label
    is_bare = label == _SPECIAL.sub(_escape, address)
    return f"<{address}>" if is_bare else f"[{label}]({_address(address)})"


def _constant(token: Token) -> str:
    return _MARKS[token.type]


def _text(token: Token) -> str:
    return _SPECIAL.sub(_escape, token.content)


def _code_span(token: Token) -> str:
    code = token.content
    return f"`{code}`" if _PLAIN_CODE.fullmatch(code) else _html("code", code)


def _image(token: Token) -> str:
    return _link(_image_words(token), str(token.attrs["src"]))


def _image_words(token: Token) -> str:
    return f"image: {_SPECIAL.sub(_escape, token.content or str(token.attrs['src']))}"


def _inline_formula(token: Token) -> str:
    formula: Formula = token.meta["formula"]
    body = formula.body.strip()
    if not is_drawable(formula) or not _PLAIN_FORMULA.fullmatch(body):
        return _html("code", formula.written)
    mark = "$$" if formula.is_display else "$"
    return f"{mark}{' '.join(body.split())}{mark}"


def _address(address: str) -> str:
    return _IN_ADDRESS.sub(lambda match: f"%{ord(match[0]):02X}", address)


_INLINE: Mapping[str, Callable[[Token], str]] = {
    "text": _text,
    "code_inline": _code_span,
    "image": _image,
    "formula": _inline_formula,
}
