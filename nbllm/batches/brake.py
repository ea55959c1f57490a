"""How many requests a batch has under way: fewer after a rate limit, more again after a while."""

from __future__ import annotations

import asyncio

__all__ = ["Brake"]

_STEADY = 8
"""So many answers in a row raise the limit by one."""


class Brake:
    """One limit for all requests of a run. To be used from one event loop."""

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.running = most, most, 0
        self._good = 0
        self._until = 0.0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._changed:
            while self.running >= self.limit or self._until > loop.time():
                pause = self._until - loop.time()
                try:
                    await asyncio.wait_for(self._changed.wait(), pause if pause > 0 else None)
                except (TimeoutError, asyncio.TimeoutError):
                    continue
            self.running += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._changed:
            self.running -= 1
            self._changed.notify()  # one place is free; whoever rests meanwhile wakes by itself

    async def widen(self, most: int) -> None:
        """So many at a time from now on, if that is more than before."""
        async with self._changed:
            if most > self.most:
                self.limit += most - self.most
                self.most = most
                self._changed.notify_all()

    async def slow_down(self, seconds: float) -> None:
        """A vendor refused a request: half as many at a time, and none for so long."""
        async with self._changed:
            now = asyncio.get_running_loop().time()
            if self._until <= now:  # the requests that were refused together count once
                self.limit = max(1, self.limit // 2)
            self._until = max(self._until, now + seconds)
            self._good = 0

    async def went_well(self) -> None:
        """An answer came."""
        self._good += 1
        if self._good >= _STEADY and self.limit < self.most:
            async with self._changed:
                self._good, self.limit = 0, self.limit + 1
                self._changed.notify()
