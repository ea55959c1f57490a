"""Reasoning that a server leaves between marks in the text, as Perplexity and many routers do."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["InlineReasoning", "Piece"]

Piece: TypeAlias = tuple[Literal["text", "reasoning"], str]

_MARKS = {
    "<think>": "</think>",  # DeepSeek R1, Qwen 3, Perplexity, MiniMax
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<seed:think>": "</seed:think>",
}
_BEGINNINGS = (*_MARKS, *_MARKS.values())
"""A closing mark may begin a text where the template had written the opening one."""


class InlineReasoning:
    """Splits a text that comes in pieces, cut anywhere, into reasoning and text.

    Only marks at the beginning of the text count: later ones are what the text is about.
    Whitespace around reasoning belongs to the marks.
    """

    def __init__(self) -> None:
        self.is_over = False
        """Whether all that comes is text."""
        self._held = ""
        self._end: str | None = None
        self._is_behind = False
        self._begins = False

    def feed(self, more: str) -> list[Piece]:
        """What is certain now."""
        self._held += more
        pieces: list[Piece] = []
        while self._held and not self.is_over:
            before = len(self._held), self._end
            pieces += self._outside() if self._end is None else self._inside(self._end)
            if (len(self._held), self._end) == before:
                break
        return pieces

    def finish(self) -> list[Piece]:
        """What was held back, at the end of the text or before something else in the answer."""
        rest, inside = self._held, self._end is not None
        self._held, self._end, self._is_behind = "", None, False
        if inside:
            rest = rest.strip()
            return [("reasoning", rest)] if rest else []
        return [("text", rest)] if rest else []

    def _outside(self) -> list[Piece]:
        begin = self._held.lstrip()
        if self._is_behind:
            self._held = begin
        mark = next((mark for mark in _BEGINNINGS if begin.startswith(mark)), None)
        if mark is not None:
            self._held, self._end = begin[len(mark) :], _MARKS.get(mark)
            self._is_behind = self._begins = True
            return []
        if any(mark.startswith(begin) for mark in _BEGINNINGS):
            return []
        self.is_over = True
        text, self._held = self._held, ""
        return [("text", text)]

    def _inside(self, end: str) -> list[Piece]:
        if self._begins:
            self._held = self._held.lstrip()
            self._begins = not self._held
        found = self._held.find(end)
        if found >= 0:
            thought, self._held = self._held[:found].rstrip(), self._held[found + len(end) :]
            self._end = None
        else:
            keep = _kept(self._held, end)
            thought, self._held = self._held[:keep], self._held[keep:]
        return [("reasoning", thought)] if thought else []


def _kept(text: str, end: str) -> int:
    """From where on a text may be the beginning of its end: whitespace, and a part of the mark."""
    size = next((n for n in range(len(end) - 1, 0, -1) if text.endswith(end[:n])), 0)
    return len(text[: len(text) - size].rstrip())
