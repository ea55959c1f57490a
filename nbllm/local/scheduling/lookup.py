"""Guessing the next tokens by what followed the last ones before, in the prompt or the answer.

A step can check several guessed tokens at once: the model's choice after each of them is made as
ever, by the same sampler, and guesses are kept as long as they are what was chosen. So the answer
is the one that would have been written without guessing, sampled ones included; only the number
of steps differs (prompt lookup decoding, https://github.com/apoorvumang/prompt-lookup-decoding).

That holds to the last bit where llama.cpp computes a token alike alone and among others. On CPUs
with flash attention it does as long as fewer than 512 cells of the context are in use; from there
on it deals a token that is alone out to its threads by cells, and rounds otherwise. Then two tokens
of nearly one probability may change places, as they do when other answers are written beside. With
``batch_invariant`` all tokens are computed alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

__all__ = ["Lookup", "best_length"]

_GRAM = 3
_MOST = 31  # guesses in a step
_FIRST_RATES = (0.3, 0.6, 0.85)  # of guesses that come true, before any was compared
_STREAKS = (4, 16)  # guesses come true more often where the last ones did: three kinds of places
_WEIGHT = 0.15  # of the newest comparison
_LENGTHS = (1, 2, 3, 5, 7, 11, 15, 23, 31)
_WORTHWHILE = 1.05


class Lookup:
    """The guesses of one answer; ``rates``: how often they come true after no, few and many hits.

    Each guess is compared with what was written, whether a step checked it or not. So a text
    that does not repeat itself costs nothing but the comparing, and copying is noticed.
    """

    def __init__(self, rates: tuple[float, float, float] = _FIRST_RATES) -> None:
        self._follows: dict[tuple[int, ...], int] = {}
        self._indexed = _GRAM - 1
        self._guess: list[int] = []
        self._rates = list(rates)
        self._streak = 0

    @property
    def rate(self) -> float:
        """How often guesses came true in places like this one, 0 to 1."""
        return self._rates[bisect_right(_STREAKS, self._streak)]

    @property
    def trusted_length(self) -> int:
        """The most guesses to check at once: twice as many as came true in a row just before.

        Where a text is copied with changes, runs are short, and a long guess is mostly in vain.
        """
        return 2 * self._streak + 1

    def guess(self, tokens: Sequence[int]) -> Sequence[int]:
        """What may follow ``tokens``; the same list each time, grown, until ``restart``."""
        self._guess = []
        if len(tokens) < _GRAM:
            return self._guess
        for end in range(self._indexed + 1, len(tokens)):
            self._follows[tuple(tokens[end - _GRAM : end])] = end
        self._indexed = max(self._indexed, len(tokens) - 1)
        start = self._follows.get(tuple(tokens[-_GRAM:]))
        if start is not None:
            self._guess = list(tokens[start : start + _MOST])
            distance = len(tokens) - start
            while len(self._guess) < _MOST:  # the text repeats itself with this period
                self._guess.append(self._guess[-distance])
        return self._guess

    def compare(self, written: Sequence[int]) -> None:
        """Learn from what was written where the last guess stood."""
        for guessed, token in zip(self._guess, written, strict=False):
            place = bisect_right(_STREAKS, self._streak)
            self._rates[place] += _WEIGHT * ((guessed == token) - self._rates[place])
            self._streak = self._streak + 1 if guessed == token else 0
            if guessed != token:
                break

    def restart(self) -> None:
        """Forget the places: the tokens before were dropped."""
        self._follows.clear()
        self._indexed = _GRAM - 1


def best_length(
    rate: float, most: int, *, rows: int, seconds: Callable[[int], float | None]
) -> int:
    """How many guesses a step should check, beside ``rows`` that it has anyway; 0 for none.

    ``rate`` is the probability that a guess comes true, ``seconds`` the expected time of a step
    by its rows. Guessing must give 5 % more tokens a second than without. Of the lengths that come
    within 5 % of the best the shortest is taken, for it risks least.
    """
    alone = seconds(rows)
    if not alone:
        return 0
    speeds: dict[int, float] = {}
    for length in _LENGTHS:
        time = seconds(rows + length)
        if length > most or time is None:
            break
        speeds[length] = (rows + _expected(rate, length)) / time
    best = max(speeds.values(), default=0.0)
    if best <= _WORTHWHILE * rows / alone:
        return 0
    return next(length for length, speed in speeds.items() if speed >= best / _WORTHWHILE)


def _expected(rate: float, length: int) -> float:
    """The mean number of guesses before the first that is wrong: r + r² + … + rⁿ."""
    if rate >= 1:
        return float(length)
    return rate * (1 - rate**length) / (1 - rate)
