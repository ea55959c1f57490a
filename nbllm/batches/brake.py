"""How many requests a batch has under way: fewer after a rate limit, more again after a while."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Brake"]

_STEADY = 8
"""So many answers in a row raise the limit by one."""


class Brake:
    """One limit for all requests of a run. To be used from one event loop."""

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.running = most, most, 0
        self._good = 0
        self._until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a place, first come first served, and for the end of a pause."""
        loop = asyncio.get_running_loop()
        while True:
            if self.running < self.limit and not self._waiting:
                self.running += 1
            else:
                await self._given()
            if (pause := self._until - loop.time()) <= 0:
                return
            self.release()  # to others who will wait for the end of the pause too
            await asyncio.sleep(pause)

    async def _given(self) -> None:
        """Wait until ``_give`` has taken a place for this caller."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()
            raise

    def _give(self) -> None:
        """Give free places to those that wait longest."""
        while self.running < self.limit and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self.running += 1

    def release(self) -> None:
        """Give the place back."""
        self.running -= 1
        self._give()

    def widen(self, most: int) -> None:
        """So many at a time from now on, if that is more than before."""
        if most > self.most:
            self.limit += most - self.most
            self.most = most
            self._give()

    def slow_down(self, seconds: float) -> None:
        """A vendor refused a request: half as many at a time, and none for so long."""
        now = asyncio.get_running_loop().time()
        if self._until <= now:  # the requests that were refused together count once
            self.limit = max(1, self.limit // 2)
        self._until = max(self._until, now + seconds)
        self._good = 0

    def went_well(self) -> None:
        """An answer came."""
        self._good += 1
        if self._good >= _STEADY and self.limit < self.most:
            self._good, self.limit = 0, self.limit + 1
            self._give()
