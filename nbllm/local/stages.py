"""What the threads of a worker are at, so that one that hangs is seen although others go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LOAD_BYTES_A_SECOND", "TOKEN_SECONDS", "Stage", "overdue_seconds"]

TOKEN_SECONDS = 1.0
"""A computation may take so long for each token of its batch before it counts as late."""

LOAD_BYTES_A_SECOND = 10e6
"""A load may be as slow as this before it counts as late."""


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
