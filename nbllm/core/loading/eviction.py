"""Which models make room for another, and the alarm that ends those which are idle for long."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Alarm",
    "EvictionCandidate",
    "choose_victims",
    "memory_of_all",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionCandidate:
    """A model that holds memory or is about to.

    ``memory`` is what comes back when it is unloaded, in bytes by device. ``idle_seconds`` is the
    time since its last request, ``reload_seconds`` how long its load took. It is ``busy`` while
    requests are under way. ``becoming`` is what it is going to be in a moment by itself.
    """

    name: str
    memory: Mapping[str, int]
    idle_seconds: float = 0.0
    reload_seconds: float = 1.0
    busy: bool = False
    pinned: bool = False
    becoming: Literal["loaded", "unloaded"] | None = None

    @property
    def evictable(self) -> bool:
        """Whether it may be unloaded now without being asked."""
        return not (self.busy or self.pinned or self.becoming)

    @property
    def cost(self) -> float:
        """What unloading it is expected to cost.

        The longer it was idle, the less likely it is needed soon; the longer it takes to load,
        the dearer it is to be wrong. With equal loads this is least recently used.
        """
        return self.reload_seconds / (1.0 + self.idle_seconds)


def choose_victims(
    candidates: Iterable[EvictionCandidate],
    is_enough: Callable[[Sequence[EvictionCandidate]], bool],
) -> tuple[EvictionCandidate, ...] | None:
    """The cheapest evictable models that are enough to unload; None where all are not enough.

    They are taken by rising cost until it is enough; then those are spared, the dearest first,
    that turned out not to be needed. ``is_enough`` says whether the new model fits without them.
    """
    chosen: list[EvictionCandidate] = []
    for candidate in sorted(candidates, key=lambda each: each.cost):
        if candidate.evictable and any(candidate.memory.values()):
            chosen.append(candidate)
            if is_enough(chosen):
                return _without_spared(chosen, is_enough)
    return None


def _without_spared(
    chosen: Sequence[EvictionCandidate], is_enough: Callable[[Sequence[EvictionCandidate]], bool]
) -> tuple[EvictionCandidate, ...]:
    needed = list(chosen)
    for candidate in reversed(chosen):
        others = [each for each in needed if each is not candidate]
        if is_enough(others):
            needed = others
    return tuple(needed)


def memory_of_all(memories: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum, by device."""
    total: dict[str, int] = {}
    for memory in memories:
        for device, size in memory.items():
            total[device] = total.get(device, 0) + size
    return total


class Alarm:
    """Calls ``ring`` at the time it was set to, or earlier, so that ``ring`` sets it anew.

    It may be set from any thread. ``name`` is that of the thread that rings.
    """

    def __init__(self, ring: Callable[[], None], name: str) -> None:
        self._ring_bell, self._name = ring, name
        self._timer: threading.Timer | None = None
        self._due = math.inf
        self._lock = threading.Lock()

    def set(self, due: float | None) -> None:
        """Ring at ``due``, by ``time.monotonic``, at the latest; None: do not ring any more."""
        with self._lock:
            if due is not None and self._timer is not None and self._due <= due:
                return  # an early call is cheaper than a new thread for each request
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if due is not None:
                self._due = due
                self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._ring)
                self._timer.name, self._timer.daemon = self._name, True
                self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return  # it was set anew at the same moment
            self._timer = None
        self._ring_bell()
