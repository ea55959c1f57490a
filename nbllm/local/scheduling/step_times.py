"""How long a step takes by its rows, learnt while the engine runs.

Two decisions follow from it: how much of a prompt is read beside answers that are being written,
and how many guessed tokens a step may check.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

__all__ = ["StepTimes"]

_WEIGHT = 0.2  # of the newest step in the moving averages
_REMEMBERED_STEPS = 256
_SLOWDOWN = 2.5  # of an answer's steps, at most, while a prompt is read beside it
_EXACT_ROWS = 8  # up to here each number of rows is learnt by itself, then in steps of an eighth
_FAST_SHARE = 0.5  # of a first row's time that each further row is guessed to take


@dataclass(slots=True)
class _Average:
    seconds: float
    step: int


class StepTimes:
    """Seconds of a step, by the rows of answers in it, and by the tokens of prompts.

    What was not measured in the last 256 steps is forgotten: the machine may be busier or less
    busy by now, and attention takes longer with every token.
    """

    def __init__(self) -> None:
        self._averages: dict[int, _Average] = {}
        self._prompt_token: float | None = None
        self._step = 0

    def record(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """Note a step with ``rows`` of answers, checked guesses among them."""
        self._step += 1
        if not prompt_tokens:
            self._record_rows(_bucket(rows), seconds)
            return
        beside = self.seconds(rows) if rows else 0.0
        share = max(seconds - (beside or 0.0), 0.1 * seconds) / prompt_tokens
        before = share if self._prompt_token is None else self._prompt_token
        self._prompt_token = before + _WEIGHT * (share - before)

    def _record_rows(self, bucket: int, seconds: float) -> None:
        known = self._averages.get(bucket)
        if known is None or self._is_old(known):
            self._averages[bucket] = _Average(seconds, self._step)
        else:
            known.seconds += _WEIGHT * (seconds - known.seconds)
            known.step = self._step

    def _is_old(self, average: _Average) -> bool:
        return self._step - average.step > _REMEMBERED_STEPS

    def seconds(self, rows: int) -> float | None:
        """A step's expected time; None where nothing is known.

        Between two measured numbers of rows the time lies on the line between them; below the
        smallest it is taken for the same; beyond the largest, each row takes the least that any
        further row or token of a prompt took: a step with so many rows will tell.
        """
        known = sorted(
            (count, average.seconds)
            for count, average in self._averages.items()
            if not self._is_old(average)
        )
        below = [point for point in known if point[0] <= rows]
        above = [point for point in known if point[0] > rows]
        if not below:
            return above[0][1] if above else None
        count, time = below[-1]
        if not above:
            return time + (rows - count) * self._least_per_row(known)
        next_count, next_time = above[0]
        slope = max(0.0, next_time - time) / (next_count - count)
        return time + (rows - count) * slope

    def _least_per_row(self, known: list[tuple[int, float]]) -> float:
        slopes = [
            (time - time_before) / (count - count_before)
            for (count_before, time_before), (count, time) in pairwise(known)
            if time > time_before
        ]
        return min([self._per_row(*known[0]), _FAST_SHARE * known[0][1] / known[0][0], *slopes])

    def _per_row(self, count: int, time: float) -> float:
        return self._prompt_token or _FAST_SHARE * time / count

    def prompt_room(self, rows: int, most: int) -> int:
        """How many tokens of prompts may join ``rows`` of answers, ``most`` at most.

        0 where the time of a step without them must be measured first.
        """
        alone = self.seconds(rows)
        if alone is None:
            return 0
        token = self._per_row(rows, alone)
        return max(1, min(most, int((_SLOWDOWN - 1) * alone / token)))


def _bucket(rows: int) -> int:
    if rows <= _EXACT_ROWS:
        return rows
    grain = max(1, 1 << (rows.bit_length() - 4))
    return rows // grain * grain
