"""How far a long job is, as a line with a bar."""

from __future__ import annotations

import time

from nbllm.core.words import duration_words

__all__ = ["Meter"]

_BAR_CELLS = 24


class Meter:
    """What is done and how far it is: told by the job, from any thread, and shown in the cell."""

    def __init__(self, what: str) -> None:
        self.what, self.fraction, self._began = what, 0.0, time.monotonic()

    def report(self, fraction: float) -> None:
        """Note the finished fraction."""
        self.fraction = fraction

    @property
    def left(self) -> str:
        """The estimated time left, behind a comma; "" until enough is done to tell."""
        if self.fraction <= 0.1:
            return ""
        seconds = time.monotonic() - self._began
        return f", {duration_words(seconds / self.fraction - seconds)} left"

    @property
    def words(self) -> str:
        """The line without its bar."""
        return f"{self.what} · {self.fraction:.0%}{self.left}"

    def __str__(self) -> str:
        done = round(self.fraction * _BAR_CELLS)
        bar = "█" * done + "░" * (_BAR_CELLS - done)
        return f"{self.what} {bar} {self.fraction:.0%}{self.left}"
