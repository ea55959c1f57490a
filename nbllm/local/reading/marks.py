"""What the parsers of answers share: calls as events, and marks that are cut in two."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from nbllm.core.answer import Answer, Segment
from nbllm.core.types import Event
from nbllm.local.formats.base import Call

__all__ = ["add_calls", "open_end"]


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
