"""Where a block of calls ends, in a text that still arrives."""

from __future__ import annotations

import re

from nbllm.local.formats.base import CallFormat, Tools
from nbllm.local.formats.places import Walk

__all__ = ["BlockEnd"]

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
