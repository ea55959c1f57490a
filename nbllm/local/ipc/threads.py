"""Threads of a process that others wait for: one that fails takes the process along.

``threading.Thread.start`` waits without a limit for the new thread's first sign, which a thread
that has no memory left to begin with never gives; and what a pool's thread raises stays in a
future that nobody reads. Here the process ends instead, which its parent tells at once.
"""

from __future__ import annotations

import _thread
import os
import queue
import threading
import traceback
from collections.abc import Callable
from typing import ParamSpec

__all__ = ["Pool", "start_thread", "vital"]

_START_SECONDS = 10.0
"""A thread that has not begun after so long never will."""

P = ParamSpec("P")


def vital(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do ``work``; whatever it raises ends the process, without waiting for other threads."""
    try:
        work(*args, **kwargs)
    except BaseException:  # noqa: BLE001 - nothing may be left that somebody waits for in vain
        _end()


def start_thread(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do ``work`` on a daemon thread, as ``vital``, and return when the thread has begun.

    Raises ``RuntimeError`` where the system has no thread left. A thread that does not begin ends
    the process.
    """
    has_begun = _thread.allocate_lock()
    has_begun.acquire()

    def run() -> None:
        has_begun.release()
        work(*args, **kwargs)

    _thread.start_new_thread(vital, (run,))
    if not has_begun.acquire(timeout=_START_SECONDS):
        _end("a thread could not begin; there is too little memory left")


def _end(problem: str = "") -> None:
    """End the process; to say why may fail too, where there is no memory."""
    try:
        if problem:
            os.write(2, problem.encode())
        else:
            traceback.print_exc()
    finally:
        os._exit(1)


class Pool:
    """Does work on up to ``size`` threads, which are started when they are first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def submit(self, work: Callable[[], object]) -> None:
        """Have something done; here and now where the system has no thread left for it."""
        if self._grow():
            self._work.put(work)
        else:
            work()

    def _grow(self) -> bool:
        """Start one more thread where there may be more; whether there is one at all."""
        with self._lock:
            if self._threads < self._size:
                try:
                    start_thread(self._run)
                except RuntimeError:
                    return self._threads > 0
                self._threads += 1
            return True

    def _run(self) -> None:
        while True:
            self._work.get()()
