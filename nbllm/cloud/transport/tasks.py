"""Small tools for requests that run at the same time and are timed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import TypeVar

from nbllm.core.types import Timings

__all__ = ["Stopwatch", "run_together"]

_MOST_AT_ONCE = 4
_T = TypeVar("_T")


class Stopwatch:
    """When a request began, and when its first and last events came; in seconds."""

    def __init__(self) -> None:
        self._begun = monotonic()
        self._first: float | None = None
        self._last = 0.0

    @property
    def seconds(self) -> float:
        """Since the request began."""
        return monotonic() - self._begun

    def tick(self) -> None:
        """Events came."""
        self._last = monotonic()
        if self._first is None:
            self._first = self._last

    def timings(self) -> Timings:
        """For an answer that is whole now."""
        if self._first is None:
            return Timings(total_seconds=self.seconds)
        return Timings(
            first_token_seconds=self._first - self._begun,
            decode_seconds=self._last - self._first,
            total_seconds=self.seconds,
        )


async def run_together(jobs: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """The results in order, of a few jobs at a time; the first failure cancels the rest."""
    limit = asyncio.Semaphore(_MOST_AT_ONCE)

    async def run(job: Callable[[], Awaitable[_T]]) -> _T:
        async with limit:
            return await job()

    tasks = [asyncio.ensure_future(run(job)) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
