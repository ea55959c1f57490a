"""Where calls begin and end in a text that still arrives, and how they become events."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence

from nbllm.core.answer import Answer, Segment
from nbllm.core.types import Event
from nbllm.local.formats.base import Call, CallFormat, Tools
from nbllm.local.formats.call_places import Walk

__all__ = ["BlockEnd", "add_calls", "bare_call_at", "open_end"]


def add_calls(answer: Answer, calls: Sequence[Call]) -> Iterator[Event]:
    """Note calls, each with an id: Mistral's templates take nine letters or digits only."""
    for call in calls:
        segment = answer.add(Segment("call", id=secrets.token_hex(5)[:9], name=call.name))
        yield from answer.call(segment, call.arguments, first=True)


def open_end(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may begin one of ``marks``."""
    longest = max((len(mark) for mark in marks), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0


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


_FIRST_CHARACTERS = 2_000
_GROWTH = 1.25
"""So much longer must a text be before it is walked over again: all takes linear time together."""


class BlockEnd:
    """Looks for the end of a block between two marks, which a format's values may hold too."""

    def __init__(self, form: CallFormat, block: tuple[str, str], tools: Tools) -> None:
        self._form, self._tools = form, tools
        self._opening, self._closing = block
        self._seen = self._walked = 0

    def find(self, text: str, *, final: bool) -> tuple[int, int] | None:
        """Where the body ends and where the text goes on; None where it is not to be told yet.

        ``text`` begins behind the opening mark. Another block that opens ends this one too: its
        closing mark was lost.
        """
        if not self._closing or not (final or self._is_due(text)):
            return None
        self._walked = len(text)
        is_tagged = self._form.values is not None and not text.lstrip().startswith(("{", "["))
        return self._tagged(text, final=final) if is_tagged else self._quoted(text)

    def whole(self, body: str, *, cut: bool) -> int:
        """How much of a body that no mark ends is whole calls.

        ``cut`` says that the model had not come to its end.
        """
        if self._form.values is None or not self._closing:
            return len(body)
        walk = Walk(self._head + body, self._form.values, self._tools)
        last = walk.calls[-1] if walk.calls else None
        if last is None or last.end >= 0 or not (cut or walk.is_open):
            return len(body)
        return max(last.start - len(self._head), 0)

    @property
    def _head(self) -> str:
        """The opening mark, where it belongs to the call."""
        return self._opening if self._opening.endswith("=") else ""

    def _is_due(self, text: str) -> bool:
        """Whether there is a mark to look at, and enough text since the last look."""
        start = max(0, self._seen - max(len(self._opening), len(self._closing)))
        has_mark = self._walked or any(
            text.find(mark, start) >= 0 for mark in (self._opening, self._closing)
        )
        self._seen = len(text)
        return bool(has_mark) and len(text) >= self._walked * _GROWTH

    def _tagged(self, text: str, *, final: bool) -> tuple[int, int] | None:
        """By marks; the beginning is walked over first, lest many short blocks take long."""
        assert self._form.values is not None  # noqa: S101 - for the type checker
        block, head = (self._opening, self._closing), self._head
        size = _FIRST_CHARACTERS
        while True:
            is_all = size >= len(text)
            part = head + text[:size]
            walk = Walk(part, self._form.values, self._tools, block, final=final and is_all)
            if walk.end >= 0:
                return walk.end - len(head), walk.after - len(head)
            if is_all:
                return None
            size *= 8

    def _quoted(self, text: str) -> tuple[int, int] | None:
        marks = "|".join(map(re.escape, (self._closing, self._opening)))
        tokens = re.compile(f"(?P<mark>{marks})|(?:{self._form.strings.pattern})", re.DOTALL)
        for token in tokens.finditer(text):
            if token["mark"] == self._closing:
                return token.start(), token.end()
            if token["mark"]:
                return token.start(), token.start()
        return None
