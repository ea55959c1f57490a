"""The requests of an engine from their submission to their end, in the order they are served."""

from __future__ import annotations

import time
from threading import Condition, RLock

from nbllm.local.scheduling.tasks import Task

__all__ = ["QUEUE_LIMIT", "RequestQueue"]

QUEUE_LIMIT = 1024
"""Requests that may wait for a slot."""


class RequestQueue:
    """Requests that have not ended; some have a slot, the others wait for one.

    May be used from any thread. ``lock`` is held by every method; who has to decide on several
    things at once holds it around them.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._changed = Condition(self.lock)
        self._waiting: list[Task] = []
        self._open: dict[int, Task] = {}
        self._is_closed = False

    def __contains__(self, task: Task) -> bool:
        return self._open.get(task.id) is task

    @property
    def is_empty(self) -> bool:
        """Whether every request has ended."""
        return not self._open

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def submit(self, task: Task) -> bool:
        """Let a request wait for a slot; False where ``QUEUE_LIMIT`` others do."""
        with self.lock:
            if sum(not waiting.cancelled for waiting in self._waiting) >= QUEUE_LIMIT:
                return False
            self._open[task.id] = task
            self._waiting.append(task)
            self._changed.notify()
            return True

    def cancel(self, id: int) -> bool:  # noqa: A002 - the protocol's word
        """Mark a request as cancelled; False where none of that id is open."""
        with self.lock:
            task = self._open.get(id)
            if task is None:
                return False
            task.cancelled = True
            self._changed.notify()
            return True

    def close(self) -> None:
        """Wake who waits in ``wait``, now and from now on."""
        with self.lock:
            self._is_closed = True
            self._changed.notify()

    def wait(self, seconds: float | None) -> bool:
        """Wait until a request is open or the queue closed; False after ``seconds`` of neither."""
        with self.lock:
            return self._changed.wait_for(lambda: bool(self._open) or self._is_closed, seconds)

    def cancelled(self) -> list[Task]:
        """Open requests that were cancelled."""
        with self.lock:
            return [task for task in self._open.values() if task.cancelled]

    def next_waiting(self) -> Task | None:
        """Who gets the next slot: interactive requests first, then as they came."""
        now = time.perf_counter()
        with self.lock:
            return min(self._waiting, key=lambda task: task.rank(now), default=None)

    def take(self, task: Task) -> None:
        """A waiting request gets its slot."""
        with self.lock:
            self._waiting.remove(task)

    def put_back(self, task: Task) -> None:
        """An open request lost its slot and waits again."""
        with self.lock:
            self._waiting.append(task)

    def end(self, task: Task) -> None:
        """Forget a request, whether it waits or has a slot."""
        with self.lock:
            self._open.pop(task.id, None)
            if task in self._waiting:
                self._waiting.remove(task)
