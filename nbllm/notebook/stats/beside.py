"""Which generations shared their device with others: their speed is another thing to compare."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from nbllm.core.history import GenerationRecord

__all__ = ["side_by_side"]

_ALONE = 0.1
"""What was beside others for less than this share of its time counts as alone."""


def side_by_side(records: Sequence[GenerationRecord]) -> list[bool]:
    """For each record whether another one ran on its device at the same time."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        spans[record.device].append(_span(record))
    shared = {device: _Shared(each) for device, each in spans.items()}
    return [_is_beside(_span(record), shared[record.device]) for record in records]


def _span(record: GenerationRecord) -> tuple[float, float]:
    began, timings = record.started.timestamp(), record.timings
    writing = len(record.token_counts) * record.interval_seconds
    whole = timings.total_seconds or (timings.first_token_seconds or 0.0) + writing
    return began, began + whole


def _is_beside(span: tuple[float, float], shared: _Shared) -> bool:
    began, ended = span
    return shared.until(ended) - shared.until(began) > _ALONE * (ended - began)


class _Shared:
    """The seconds at which two or more spans were under way, added up from the beginning."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        changes = sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])
        self._times = [time for time, _ in changes]
        self._running = list(accumulate(change for _, change in changes))
        steps = zip(self._times, self._times[1:], self._running, strict=False)
        lengths = (end - begin if count > 1 else 0.0 for begin, end, count in steps)
        self._before = list(accumulate(lengths, initial=0.0))

    def until(self, time: float) -> float:
        """The sum up to ``time``, which is that of a change."""
        return self._before[bisect_right(self._times, time) - 1]
