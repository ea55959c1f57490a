"""When a worker that does not answer has to be given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbllm.local.protocol import Frame

__all__ = ["STALL_SECONDS", "Patience", "Signs"]

STALL_SECONDS = 60.0
"""A worker that gives no sign of life for so long is ended. It gives one every second, in the
middle of the longest step too, unless it was stopped or the machine has no memory left."""

_LEAST_STALL_SECONDS = 3.0  # three of the worker's signs
_LEAST_OVERDUE_SECONDS = 15.0  # one request may keep others waiting for some seconds
_LOOK_SECONDS = 5.0


class Signs:
    """The signs of life of a worker: every frame is one, and a beat says what hangs."""

    def __init__(self) -> None:
        self.count = 0
        self.overdue: Mapping[str, float] = {}

    def note(self, frame: Frame) -> None:
        """A frame has come."""
        self.count += 1
        if frame["op"] == "beat":
            self.overdue = frame["overdue"]


class Patience:
    """How long somebody waits for a worker, from now on; ``stages`` are those it waits for.

    Time is what the one who waits counts in ``is_over``, so a notebook that was stopped itself
    does not blame the worker.
    """

    def __init__(
        self, signs: Signs, stall_seconds: float | None, stages: Sequence[str] = ()
    ) -> None:
        self._signs, self._stages = signs, stages
        self._limit = max(_LEAST_STALL_SECONDS, stall_seconds or STALL_SECONDS)
        self._seen, self._silent = signs.count, 0.0
        self.look_seconds = min(_LOOK_SECONDS, self._limit / 8)

    def is_over(self, seconds: float) -> bool:
        """Whether the worker has to be given up after ``seconds`` more without an answer."""
        self._silent = self._silent + seconds if self._seen == self._signs.count else 0.0
        self._seen = self._signs.count
        return self._silent >= self._limit or self._hangs()

    def _hangs(self) -> bool:
        limit = max(self._limit, _LEAST_OVERDUE_SECONDS)
        return any(self._signs.overdue.get(stage, 0.0) >= limit for stage in self._stages)
