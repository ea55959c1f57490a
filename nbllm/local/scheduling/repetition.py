"""Notices an answer that goes round in circles: the same n-grams over and over.

The rule: an n-gram of 24 tokens is *worn* from the fourth time on that it is written within 4,096
tokens. 384 worn tokens in a row end the answer, 768 where they have no letters. So a loop with a
period of p tokens ends about 3 p + 400 tokens after it began.

Whatever makes progress is no loop. A token that makes an n-gram new takes 24 worn ones back, so one
that differs in a block of up to 400 tokens clears the sum: a counter, the next date or name, the
next row of a truth table. n-grams of 24 tokens are about as long as a row of such a table: all rows
are made of the same few shorter pieces. A loop that changes a little goes on until its changes are
worn too. Choruses, separators and boilerplate repeat themselves for a shorter stretch.

The stretch is counted as in a CUSUM test (Page 1954): what is worn adds to a sum, what is new takes
much more away from it, down to 0, and a threshold decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

__all__ = ["Repetition", "is_watched"]

_GRAM = 24  # tokens; one that is new makes as many n-grams new
_WORN = 3  # times that an n-gram was there before; a text that is told twice is not stopped
_HISTORY = 4096  # tokens in which an n-gram is remembered
_ENOUGH = 384.0  # worn tokens with nothing new among them
_DATA_WEIGHT = 0.5  # of tokens without a letter: a matrix of zeros is long and wanted
_NEWS = 24.0  # worn tokens that a new n-gram makes up for
_BASE, _MODULUS = 1_000_003, 2**61 - 1
_LEAVING = pow(_BASE, _GRAM, _MODULUS)


class Repetition:
    """Watches the tokens of one answer. Its memory is bounded; a token costs a few µs."""

    def __init__(self) -> None:
        self._tail: deque[int] = deque([0] * _GRAM, _GRAM)
        self._hash = 0
        self._grams: deque[int] = deque()
        self._counts: dict[int, int] = {}
        self._worn = 0.0

    def add(self, token: int, piece: bytes) -> bool:
        """Take in the next token and its text; whether the answer only repeats itself by now."""
        gram = self._rolled(token + 1)
        if self._counts.get(gram, 0) < _WORN:
            self._worn = max(0.0, self._worn - _NEWS)
        else:
            self._worn += 1.0 if _is_word(piece) else _DATA_WEIGHT
        self._remember(gram)
        return self._worn >= _ENOUGH

    @property
    def share(self) -> float:
        """How near the answer is to being stopped: 0 where it says new things, 1 at the stop."""
        return self._worn / _ENOUGH

    def _rolled(self, value: int) -> int:
        """The hash of the last n-gram (Rabin and Karp's), which ends with ``value``."""
        leaving = self._tail[0] * _LEAVING
        self._hash = (self._hash * _BASE + value - leaving) % _MODULUS
        self._tail.append(value)
        return self._hash

    def _remember(self, gram: int) -> None:
        self._grams.append(gram)
        self._counts[gram] = self._counts.get(gram, 0) + 1
        if len(self._grams) > _HISTORY:
            oldest = self._grams.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]


_BINDING = ("grammar", "response_schema", "ignore_eos")


def is_watched(options: Mapping[str, Any]) -> bool:
    """Whether an answer with these options ends where it repeats itself.

    A schema or a grammar may demand repetition, and an answer that breaks off follows neither.
    """
    wanted = options.get("stop_repetition")
    if wanted is None:
        return not any(options.get(name) for name in _BINDING)
    return bool(wanted)


def _is_word(piece: bytes) -> bool:
    """Whether there is a letter in it; bytes beyond ASCII belong to one."""
    return any(byte > 127 or chr(byte).isalpha() for byte in piece)
