"""Handing values from any thread to a coroutine on whatever event loop it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Many writers, one reader. It holds a loop only while its reader waits on that loop.

    ``merge`` may make one value of the last that waits and a newer one, or None to keep both; so
    a slow reader's mailbox need not grow. ``ended`` is for the writers to note that no more comes.
    """

    def __init__(self, merge: Callable[[T, T], T | None] = lambda last, newer: None) -> None:
        self._merge = merge
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False

    def put(self, item: T) -> None:
        """Add a value; from any thread, never blocking."""
        with self._lock:
            merged = self._merge(self._items[-1], item) if self._items else None
            if merged is None:
                self._items.append(item)
            else:
                self._items[-1] = merged
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with suppress(RuntimeError):  # the reader's loop is closed: nobody reads any more
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def take(self, seconds: float | None = None) -> list[T]:
        """All values since the last call, oldest first.

        Waits for one, at most ``seconds``; the list is empty if none came.
        """
        with self._lock:
            if not self._items:
                self._waiter = asyncio.get_running_loop().create_future()
            waiter = self._waiter
        if waiter is not None:
            await asyncio.wait((waiter,), timeout=seconds)
        with self._lock:
            self._waiter = None
            items, self._items = self._items, []
        return items


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
