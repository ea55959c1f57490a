"""Beginnings of prompts: comparing them, and keeping cold ones in the machine's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PrefixStore", "shared_length"]


def shared_length(cells: Sequence[Any], tokens: Sequence[Any]) -> int:
    """The length of the common beginning, by comparing ever larger slices, which C does."""
    low, high = 0, min(len(cells), len(tokens))
    step = 16
    while low < high:
        end = min(low + step, high)
        if cells[low:end] == tokens[low:end]:
            low, step = end, 2 * step
        elif end - low == 1:
            return low
        else:
            high, step = end, max(1, (end - low) // 2)
    return low


@dataclass(frozen=True, slots=True, eq=False)
class _Saved:
    tokens: tuple[Any, ...]
    state: bytearray


class PrefixStore:
    """States of sequences, at most ``limit_bytes`` of them, the longest unused dropped first.

    Before the tokens of a sequence may stand what else its state depends on.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._saved: list[_Saved] = []  # the longest unused first

    @property
    def size_bytes(self) -> int:
        """What the states take."""
        return sum(len(saved.state) for saved in self._saved)

    def wants(self, tokens: Sequence[Any], size_bytes: int) -> bool:
        """Whether a state of this size fits and tells more than those that are kept."""
        known = any(
            shared_length(saved.tokens, tuple(tokens)) == len(tokens) for saved in self._saved
        )
        return 0 < size_bytes <= self.limit_bytes and not known

    def put(self, tokens: Sequence[Any], state: bytearray) -> None:
        """Keep a state, in place of the beginnings of it that are kept."""
        mine = tuple(tokens)
        self._saved = [
            saved for saved in self._saved if shared_length(saved.tokens, mine) < len(saved.tokens)
        ]
        self._saved.append(_Saved(mine, state))
        while self.size_bytes > self.limit_bytes:
            del self._saved[0]

    def find(
        self, tokens: Sequence[Any], *, whole: bool, least: int = 0
    ) -> tuple[tuple[Any, ...], bytearray] | None:
        """The state that shares most with ``tokens``, and more than ``least``.

        With ``whole``, only one all of which is shared.
        """
        wanted = tuple(tokens)
        best, length = None, least
        for saved in self._saved:
            shared = shared_length(saved.tokens, wanted)
            if shared > length and (not whole or shared == len(saved.tokens)):
                best, length = saved, shared
        if best is None:
            return None
        self._saved.remove(best)
        self._saved.append(best)
        return best.tokens, best.state
