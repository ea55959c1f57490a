"""``nbllm.run``, and the loop behind it: results of coroutines in code that cannot await."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from nbllm.notebook.loop import LoopThread

__all__ = ["free_loop", "run"]

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, or its exception, from any place that cannot await.

    In a script, a cell, a callback, or a function that a running loop has called: the work runs
    on a loop in a thread of nbllm's own, and nobody's loop is patched. An interrupt cancels it.
    Called from such work itself, the inner work gets another loop of its own, and the outer one
    waits; whatever awaits can rather be awaited there.
    """
    with free_loop() as loop:
        return loop.run(work)


@contextmanager
def free_loop() -> Iterator[LoopThread]:
    """A loop that the caller's thread can wait for: the process's, or on that one an inner one."""
    bridge = _bridge()
    if not bridge.is_here:
        yield bridge
        return
    inner = LoopThread()
    try:
        yield inner
    finally:
        inner.close()


@cache
def _bridge() -> LoopThread:
    """One for each process."""
    return LoopThread()
