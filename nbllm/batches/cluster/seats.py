"""Which workers have the model, and how many requests each works on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from nbllm.core.errors import BatchError

__all__ = ["Seat", "Seats"]


@dataclass(slots=True, eq=False)
class Seat:
    """A worker that has loaded the model. ``lost`` is set when it has gone."""

    address: str
    width: int
    is_warm: bool
    busy: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Seats:
    """The workers of one run, which each row takes a place at. To be used from one event loop.

    A worker that ``is_warm`` not yet gets one row alone: what the rows begin with is then read
    once. ``concurrency`` is wished for all of them together.
    """

    def __init__(self, concurrency: int | None) -> None:
        self._concurrency = concurrency
        self._seats: dict[str, Seat] = {}
        self._changed = asyncio.Condition()
        self._over: BatchError | None = None

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def width(self) -> int:
        """How many requests all of them work on at a time."""
        return self._concurrency or sum(seat.width for seat in self._seats.values())

    async def add(self, seat: Seat) -> None:
        """Give a worker rows from now on."""
        async with self._changed:
            self._seats[seat.address] = seat
            self._changed.notify_all()

    def drop(self, address: str) -> None:
        """Give a worker no rows any more; those that it has are lost."""
        seat = self._seats.pop(address, None)
        if seat is not None:
            seat.lost.set()

    async def end(self, error: BatchError) -> None:
        """Nobody gets a place any more; all get ``error``."""
        async with self._changed:
            self._over = self._over or error
            self._changed.notify_all()
        for address in [*self._seats]:
            self.drop(address)

    async def take(self) -> Seat:
        """A place at the worker that has most of its width left. Raises the error of ``end``."""
        async with self._changed:
            while (seat := self._freest()) is None:
                if self._over is not None:
                    raise self._over
                await self._changed.wait()
            seat.busy += 1
            return seat

    async def give_back(self, seat: Seat) -> None:
        """A row of that worker has ended."""
        async with self._changed:
            seat.busy -= 1
            self._changed.notify_all()

    def _freest(self) -> Seat | None:
        most = max(self._seats.values(), key=self._left, default=None)
        return most if most is not None and self._left(most) > 0 else None

    def _left(self, seat: Seat) -> float:
        """The share of its width, or whether it is idle where it is not warm."""
        shared = -(-(self._concurrency or 0) // len(self._seats))
        width = max(seat.width, shared) if seat.is_warm else 1
        return 1 - seat.busy / width
