"""CommonMark with tables, strikethrough, formulas and bare links; without HTML; within limits.

markdown-it-py parses (https://spec.commonmark.org/0.31.2/, tables and strikethrough as GitHub has
them). What it isn't told to limit is limited here: a text that is too deep, too wide or too slow
raises ``TooComplexError``, and nothing of it is dropped in silence.
"""

from __future__ import annotations

import re
import time
from collections.abc import MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

from nbllm.core.rendering.formulas import block_formula, inline_formula

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.ruler import RuleOptionsType
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

__all__ = [
    "TooComplexError",
    "bare_address",
    "is_allowed",
    "parse",
]

_LONGEST = 2_000
_HOST = r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?"
_REST_OF_ADDRESS = r"[!#-;=?-\[\]^_a-~]*"
_ALLOWED = re.compile(
    rf"(?:https?://{_HOST}(?:[/?#]{_REST_OF_ADDRESS})?|mailto:[a-z0-9]{_REST_OF_ADDRESS})",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"(?<![a-z0-9])https?\Z", re.IGNORECASE)
_REST = re.compile(r"://(?=[^\W_]|\[)[^\s<>\"`\\^{}|\u3000-\u303f\uff00-\uffef]{1,1900}")
_TRAILING = "?!.,:;*_~'"
_BRACKETS = {")": "(", "]": "["}


def is_allowed(address: str) -> bool:
    """Whether a link may lead there: to http or https with a plain host, or to mailto, in ASCII."""
    return len(address) <= _LONGEST and _ALLOWED.fullmatch(address) is not None


def bare_address(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's way
    """An inline rule: ``https://…`` in a text is a link."""
    if state.src[state.pos] != ":" or state.linkLevel > 0:
        return False
    scheme = _SCHEME.search(state.pending[-6:])
    rest = scheme and _REST.match(state.src, state.pos, state.posMax)
    if not scheme or not rest:
        return False
    end = _trimmed(rest[0])
    written = scheme[0] + end
    address = state.md.normalizeLink(written)
    if not is_allowed(address):
        return False
    if not silent:
        state.pending = state.pending[: -len(scheme[0])]
        state.push("link_open", "a", 1).attrs = {"href": address}
        state.push("text", "", 0).content = written
        state.push("link_close", "a", -1)
    state.pos += len(end)
    return True


def _trimmed(rest: str) -> str:
    """Without the punctuation that belongs to the sentence."""
    while rest and (rest[-1] in _TRAILING or _is_unopened(rest)):
        rest = rest[:-1]
    return rest


def _is_unopened(rest: str) -> bool:
    """Whether the bracket that it ends with was opened before the address began."""
    opening = _BRACKETS.get(rest[-1])
    return opening is not None and rest.count(rest[-1]) > rest.count(opening)


LONGEST = 200_000
"""Characters of a text that is parsed; it takes about 3 µs a character."""

SECONDS = 1.5
"""The CPU time that a parse may take. Ordinary text of the greatest length takes a third of it."""

_DEEPEST = 20  # levels; an item of a list is two of them
_MOST_TOKENS = 60_000
_MOST_INLINE_TOKENS = 10_000  # of a paragraph; they are paired and joined where no rule can look
_MOST_CELLS, _MOST_COLUMNS = 20_000, 200
_OF_TABLE_RULES = frozenset(" \t|:-")


class TooComplexError(Exception):
    """The text is longer, deeper or slower to parse than what is shown with its structure."""


def parse(text: str) -> list[Token]:
    """The block tokens of ``text``; those of type "inline" have theirs as children.

    Raises ``TooComplexError``.
    """
    if len(text) > LONGEST:
        raise TooComplexError
    parser = _parser(has_formulas="$" in text or "\\" in text)
    return parser.parse(text, {"deadline": time.thread_time() + SECONDS})


@cache
def _parser(*, has_formulas: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    # The parser stops at maxNesting and leaves the rest out; the limit below comes before it.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _DEEPEST + 4})
    parser.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    parser.validateLink = is_allowed  # type: ignore[method-assign, assignment]
    blocks, inline = parser.block.ruler, parser.inline.ruler
    blocks.before("table", "limits", _limit_blocks)
    inline.before("text", "limits", _limit_inline)
    if has_formulas:
        interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
        blocks.before("fence", "formula", block_formula, interrupts)
        inline.before("escape", "formula", inline_formula)
    inline.before("escape", "bare_address", bare_address)
    return parser


def _limit_blocks(state: StateBlock, start: int, stop: int, silent: bool) -> bool:  # noqa: FBT001
    """A block rule that never matches; it stands before all others."""
    _check_time(state.env)
    if state.level > _DEEPEST or len(state.tokens) > _MOST_TOKENS:
        raise TooComplexError
    if start + 1 < stop and _OF_TABLE_RULES.issuperset(_line(state, start + 1)):
        columns = _line(state, start).count("|") + 1
        rows = _lines_to_blank(state, start, stop)
        if columns > _MOST_COLUMNS or columns * rows > _MOST_CELLS:
            raise TooComplexError
    return False


def _limit_inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """An inline rule that never matches; it stands before all others."""
    _check_time(state.env)
    if len(state.tokens) > _MOST_INLINE_TOKENS:
        raise TooComplexError
    return False


def _check_time(env: MutableMapping[str, Any]) -> None:
    if time.thread_time() > env["deadline"]:
        raise TooComplexError


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] : state.eMarks[number]]


def _lines_to_blank(state: StateBlock, start: int, stop: int) -> int:
    """How many lines a table that begins here has at most."""
    return next((n for n in range(start, stop) if state.isEmpty(n)), stop) - start
