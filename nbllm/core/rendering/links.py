"""Where a link may lead, and addresses that stand in a text without any markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline

__all__ = ["bare_address", "is_allowed"]

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
