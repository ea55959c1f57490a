"""Calls that stand in a text without marks: where one may begin, and where it ends."""

from __future__ import annotations

import re

from nbllm.local.formats.base import Tools

__all__ = ["bare_call_at"]

_KEYS = (
    *('{"name"', '{"function"', '{"tool_call"', '{"tool_name"', '{"type":"function"'),
    *('{"response"', '{"id"', '{"arguments"', '{"parameters"', '{"function_call"'),
)
_STARTS = (*_KEYS, *(f"[{key}" for key in _KEYS))
_BRACKET = re.compile(r"[\[{]")
_BLANKS = re.compile(r"\s+")
_HEAD = 160
# A text that is still open goes on to the end: brackets in it are none.
_TOKEN = re.compile(
    r"""\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|[\[\]{}()]""", re.DOTALL
)
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPEN, _CLOSE = "[{(", "]})"


def bare_call_at(
    text: str, tools: Tools, *, start_only: bool, final: bool
) -> tuple[int, int] | None:
    """Where what may be a call begins and ends; None where there is none.

    The end is -1 where more text must come before it can be told.
    """
    for bracket in _BRACKET.finditer(text):
        start = bracket.start()
        if start_only and text[:start].strip():
            return None
        may_begin = _begins(text[start : start + _HEAD], tools)
        if may_begin is None and not final:
            return start, -1
        if may_begin:
            end = _end(text, start)
            if end >= 0 or not final:
                return start, end
    return None


def _begins(head: str, tools: Tools) -> bool | None:
    """Whether a text begins as a call does; None where it is too short to tell."""
    squeezed = _BLANKS.sub("", head)
    starts = (*_STARTS, *(f"[{name}(" for name in tools))
    if squeezed.startswith(starts):
        return True
    return None if any(start.startswith(squeezed) for start in starts) else False


def _end(text: str, start: int) -> int:
    """Behind the bracket that closes the one at ``start``; -1 where it is not there."""
    depth = 0
    is_json = text[start] == "{" or _BLANKS.sub("", text[start : start + _HEAD]).startswith("[{")
    for token in (_JSON_TOKEN if is_json else _TOKEN).finditer(text, start):
        if token[0] in _OPEN:
            depth += 1
        elif token[0] in _CLOSE:
            depth -= 1
            if not depth:
                return token.end()
    return -1
