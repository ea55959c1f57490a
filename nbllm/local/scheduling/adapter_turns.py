"""Whose turn it is where requests want different LoRA adapters.

A context computes with one set of adapters at a time, so the requests of each set take turns. A
change costs milliseconds, about half a step of a small model, and so a turn lasts several steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nbllm.local.scheduling.tasks import Slot, Task

__all__ = ["AdapterTurns"]

_TURN_SECONDS = 0.1
_BACKGROUND_SECONDS = 0.025  # of a turn without interactive requests, while others have them

Scales = tuple[float, ...]
Running = list[tuple[Task, Slot]]


class AdapterTurns:
    """Deals out turns; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._served: dict[Scales, float] = {}  # when each set's last turn began
        self._current: Scales | None = None

    def choose(self, running: Sequence[tuple[Task, Slot]]) -> Running:
        """Those of the running requests, all with the same scales, whose turn it is."""
        groups: dict[Scales, Running] = {}
        for pair in running:
            groups.setdefault(pair[0].scales, []).append(pair)
        if not groups:
            return []
        now = self._clock()
        self._served = {scales: self._served.get(scales, 0.0) for scales in groups}
        if self._current not in groups or now - self._served[self._current] >= self._length(groups):
            self._current = min(groups, key=self._served.__getitem__)
            self._served[self._current] = now
        return groups[self._current]

    def _length(self, groups: dict[Scales, Running]) -> float:
        assert self._current is not None  # noqa: S101 - for the type checker: it is in groups
        waits = any(not task.background for pairs in groups.values() for task, _ in pairs)
        yields = all(task.background for task, _ in groups[self._current])
        return _BACKGROUND_SECONDS if waits and yields else _TURN_SECONDS
