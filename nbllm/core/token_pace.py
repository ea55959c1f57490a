"""How many tokens came when: a bounded series that costs one comparison a token."""

from __future__ import annotations

__all__ = ["TokenPace"]

FIRST_INTERVAL_SECONDS = 0.25
MAX_INTERVALS = 64


class TokenPace:
    """Tokens counted in equal intervals of time, from the first call on.

    Whenever more than ``MAX_INTERVALS`` would be needed the intervals become twice as long, so an
    answer of any length takes the same memory. One thread writes; any may read.
    """

    def __init__(self) -> None:
        self.interval_seconds = FIRST_INTERVAL_SECONDS
        self.total = 0
        self._counts: list[int] = [0]
        self._ends = FIRST_INTERVAL_SECONDS

    @property
    def counts(self) -> tuple[int, ...]:
        """The tokens of each interval."""
        return tuple(self._counts)

    def add(self, tokens: int, seconds: float) -> None:
        """Count ``tokens`` that came ``seconds`` after the beginning; ``seconds`` never fall."""
        self.total += tokens
        if seconds >= self._ends:
            self._open_interval(seconds)
        self._counts[-1] += tokens

    def _open_interval(self, seconds: float) -> None:
        while seconds >= MAX_INTERVALS * self.interval_seconds:
            self.interval_seconds *= 2
            counts = self._counts
            self._counts = [sum(counts[i : i + 2]) for i in range(0, len(counts), 2)]
        number = int(seconds / self.interval_seconds)
        self._counts += [0] * (number + 1 - len(self._counts))
        self._ends = (number + 1) * self.interval_seconds
