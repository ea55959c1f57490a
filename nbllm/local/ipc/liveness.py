"""Seeing that a process hangs: it tells what its threads are at, and its parent has a limit.

A worker gives a sign of life every second, and with it which of its *stages* take longer than they
may. So a thread that hangs is seen although the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from nbllm.local.ipc.protocol import Beat, Event

__all__ = [
    "LOAD_BYTES_A_SECOND",
    "SAVE_SECONDS",
    "STALL_SECONDS",
    "TOKEN_SECONDS",
    "Patience",
    "Signs",
    "Stage",
    "overdue_seconds",
]

# ---------------------------------------------------------------- the worker's side

TOKEN_SECONDS = 1.0
"""A computation may take so long for each token of its batch before it counts as late."""

LOAD_BYTES_A_SECOND = 10e6
"""A load may be as slow as this before it counts as late."""


SAVE_SECONDS = 30.0
"""Leaving, a worker may take so long to save prompts."""


class Stage:
    """A thread's place for what it is at; another one asks from time to time how long it has been.

    Time is counted by that other thread's rounds, not by a clock: a process that was stopped, or
    a machine that slept, has not been at anything meanwhile.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._allowed: float | None = None
        self._seen_turn = 0
        self._seconds = 0.0

    def begin(self, allowed_seconds: float = 0.0) -> None:
        """From now on the thread is at something new, which may take so long as a matter of course.

        Called again in the middle of something, it says that there is progress.
        """
        self._turn += 1
        self._allowed = allowed_seconds

    def rest(self) -> None:
        """From now on the thread waits for something to do."""
        self._turn += 1
        self._allowed = None

    @property
    def mark(self) -> tuple[int, float | None]:
        """What it is at, as a number that no other thing has, and for how long; None at rest."""
        return self._turn, self._allowed

    @contextmanager
    def at_work(self, allowed_seconds: float = 0.0) -> Iterator[None]:
        """``begin``, and ``rest`` at the end."""
        self.begin(allowed_seconds)
        try:
            yield
        finally:
            self.rest()

    def overdue_after(self, seconds: float) -> float:
        """How much longer than allowed it has been at the same thing; ``seconds`` more have passed.

        To be called from one thread only.
        """
        turn, allowed = self._turn, self._allowed
        if turn != self._seen_turn or allowed is None:
            self._seen_turn, self._seconds = turn, 0.0
            return 0.0
        self._seconds += seconds
        return max(0.0, self._seconds - allowed)


def overdue_seconds(stages: dict[str, Stage], seconds: float) -> dict[str, float]:
    """The stages that are overdue, with for how long; ``seconds`` have passed since the last call.

    This is what a worker tells with each sign of life.
    """
    overdue = {name: stage.overdue_after(seconds) for name, stage in stages.items()}
    return {name: late for name, late in overdue.items() if late > 0}


# ---------------------------------------------------------------- the parent's side

STALL_SECONDS = 60.0
"""A worker that gives no sign of life for so long is ended. It gives one every second, in the
middle of the longest step too, unless it was stopped or the machine has no memory left."""

_LEAST_STALL_SECONDS = 3.0  # three of the worker's signs
_LEAST_OVERDUE_SECONDS = 15.0  # one request may keep others waiting for some seconds
_LOOK_SECONDS = 5.0


class Signs:
    """The signs of life of a process: every event is one, and a beat says what hangs."""

    def __init__(self) -> None:
        self.count = 0
        self.overdue: Mapping[str, float] = {}

    def note(self, event: Event) -> None:
        """An event has come."""
        self.count += 1
        if isinstance(event, Beat):
            self.overdue = event.overdue


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
