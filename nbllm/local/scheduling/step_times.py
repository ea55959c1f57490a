"""How long a step takes by its rows, learnt while the engine runs.

Two decisions follow from it: how much of a prompt is read beside answers that are being written,
and how many guessed tokens a step may check.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

__all__ = ["StepTimes"]

_WEIGHT = 0.2  # of the newest step in the moving averages
_QUIET_WEIGHT = 0.02  # in that of quiet ones, the last of which a prompt's tokenizing holds up
_REMEMBERED_STEPS = 256
# Of an answer's steps, on average, while a prompt is read beside it: over what they took before it
# came, and over what they would take without it by now, for the more is read, the longer they take.
_SLOWDOWN, _LEAST_SLOWDOWN = 2.8, 1.3
_TILE = 64  # rows that llama.cpp's attention on CPUs computes at once, at twice the speed of fewer
_PIECE_SECONDS = 0.4  # for which answers may pause
_LONGEST_PIECE_SECONDS = 1.0  # the same, where it makes a piece whole
_MOST_DEBT_SECONDS = 1.5
_LONGEST, _FADING = 5, 0.9
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
        self._quiet: dict[int, float] = {}  # the same, of steps before a prompt came
        self._prompt_token: float | None = None
        self._debt = 0.0  # seconds that prompts took from answers in advance
        self._step = 0
        self._slowest_row: float | None = None  # of the last steps, in seconds

    def record(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """Note a step with ``rows`` of answers, checked guesses among them."""
        self._step += 1
        self.note_whole(rows + prompt_tokens, seconds)
        if not prompt_tokens:
            self._record_rows(_bucket(rows), seconds)
            if self._debt == 0:
                before = self._quiet.get(_bucket(rows), seconds)
                self._quiet[_bucket(rows)] = before + _QUIET_WEIGHT * (seconds - before)
            self._debt = max(0.0, self._debt - max(0.0, self._allowed(rows) - seconds))
            return
        beside = (self.seconds(rows) or 0.0) if rows else 0.0
        self._debt += max(0.0, seconds - self._allowed(rows)) if rows else 0.0
        share = max(seconds - beside, 0.1 * seconds) / prompt_tokens
        before = share if self._prompt_token is None else self._prompt_token
        self._prompt_token = before + _WEIGHT * (share - before)

    def note_whole(self, rows: int, seconds: float) -> None:
        """Note how long a step took with so many rows of any kind."""
        faded = _FADING * (self._slowest_row or 0.0)
        self._slowest_row = max(seconds / max(1, rows), faded)

    def longest(self, rows: int) -> float | None:
        """For how long a step may take before something is wrong; None where nothing is known.

        It is five times what its rows would take as the slowest did.
        """
        return None if self._slowest_row is None else _LONGEST * rows * self._slowest_row

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

    def _allowed(self, rows: int) -> float:
        """How long steps with so many rows of answers may be on average beside a prompt."""
        now = self.seconds(rows) or 0.0
        quiet = min(now, self._quiet.get(_bucket(rows), now))
        return max(_SLOWDOWN * quiet, _LEAST_SLOWDOWN * now)

    def row_room(self, rows: int, most: int) -> int:
        """How many rows more keep a step of ``rows`` within its share of time.

        From 1 to ``most``; 0 where the time of a quiet step must be measured first.
        """
        alone = self.seconds(rows)
        if alone is None:
            return 0
        return max(1, min(most, int((self._allowed(rows) - alone) / self._per_row(rows, alone))))

    def prompt_room(self, rows: int, most: int, *, short: bool = False) -> int:
        """How many tokens of prompts may join ``rows`` of answers, ``most`` at most.

        Where those that the step has room for are few, a larger piece is read in advance, and the
        answers' next steps go without prompts until that is made up for: few tokens at a time
        would take several times as long in all. Until then it is 0, but for ``short`` prompts as
        long as not too much was read in advance.
        """
        alone, room = self.seconds(rows), self.row_room(rows, most)
        if alone is None or self._debt > (_MOST_DEBT_SECONDS if short else 0):
            return 0
        if room + rows < min(most, _TILE):
            token = self._per_row(rows, alone)
            piece = int(_PIECE_SECONDS / token)
            if token * _TILE <= _LONGEST_PIECE_SECONDS:
                piece = max(piece, _TILE)
            room = max(room, min(most, piece))
        tiles = (rows + room) // _TILE
        return tiles * _TILE - rows if tiles and room < most else room


def _bucket(rows: int) -> int:
    if rows <= _EXACT_ROWS:
        return rows
    grain = max(1, 1 << (rows.bit_length() - 4))
    return rows // grain * grain
