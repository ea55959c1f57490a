"""Guessing the next tokens by what followed the last ones before, in the prompt or the answer.

A step can check several guessed tokens at once: the model's choice after each of them is made as
ever, by the same sampler, and guesses are kept as long as they are what was chosen. So the answer
is the one that would have been written without guessing, sampled ones included; only the number
of steps differs (prompt lookup decoding, https://github.com/apoorvumang/prompt-lookup-decoding).

That holds to the last bit where llama.cpp computes a token alike alone and among others. On CPUs
with flash attention it does as long as 256 cells of the context at most are in use; from there on
it deals a token that is alone out to its threads by cells, and rounds otherwise; without flash
attention it rounds otherwise at any length. Then two tokens of nearly one probability may change
places, as they do when other answers are written beside. With ``batch_invariant`` all tokens are
computed alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul

__all__ = ["PromptLookupDrafter", "best_length"]

_GRAM = 3
_MOST = 31  # guesses in a step
_STREAKS = (1, 4, 8, 16)  # guesses come true more often, the more did so in a row just before
_FIRST_RATES = (0.5, 0.75, 0.82, 0.9, 0.96)  # as found with small models and tasks of all kinds
_WEIGHT = 0.1  # of the newest comparison
_LENGTHS = (1, 2, 3, 5, 7, 11, 15, 23, 31)
_WORTHWHILE = 1.05
_ABOUT_AS_GOOD = 1.03


class PromptLookupDrafter:
    """The guesses of one answer; ``rates``: how often they come true, by the streak before.

    Each guess is compared with what was written, whether a step checked it or not. So a text
    that does not repeat itself costs nothing but the comparing, and copying is noticed.
    """

    def __init__(self, rates: Sequence[float] = _FIRST_RATES) -> None:
        self._follows: dict[tuple[int, ...], int] = {}
        self._indexed = _GRAM - 1
        self._guess: list[int] = []
        self._rates = list(rates)
        self._streak = 0

    def rates(self, count: int) -> list[float]:
        """How often each of the next ``count`` guesses came true, where those before it did."""
        return [self._rates[_kind(self._streak + place)] for place in range(count)]

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
            kind = _kind(self._streak)
            self._rates[kind] += _WEIGHT * ((guessed == token) - self._rates[kind])
            self._streak = self._streak + 1 if guessed == token else 0
            if guessed != token:
                break

    def restart(self) -> None:
        """Forget the places: the tokens before were dropped."""
        self._follows.clear()
        self._indexed = _GRAM - 1


def _kind(streak: int) -> int:
    return bisect_right(_STREAKS, streak)


def best_length(
    rates: Sequence[float],
    *,
    rows: int,
    seconds: Callable[[int], float | None],
    answers: int = 1,
) -> int:
    """How many guesses a step should check, beside ``rows`` that it has anyway; 0 for none.

    ``rates`` has a probability for each guess: that it comes true if those before it do. There are
    as many guesses for each of so many ``answers``. ``seconds`` is the expected time of a step by
    its rows. Guessing must give 5 % more tokens a second than without. Of the lengths that come
    within 3 % of the best the shortest is taken, for it risks least.
    """
    alone = seconds(rows)
    if not alone:
        return 0
    expected = [0.0, *accumulate(accumulate(rates, mul))]
    speeds: dict[int, float] = {}
    for length in _LENGTHS:
        time = seconds(rows + answers * length)
        if length > len(rates) or time is None:
            break
        speeds[length] = (rows + answers * expected[length]) / time
    best = max(speeds.values(), default=0.0)
    if best <= _WORTHWHILE * rows / alone:
        return 0
    return next(length for length, speed in speeds.items() if speed >= best / _ABOUT_AS_GOOD)
