"""A loop in a thread of its own, so that writes to a disk hold up nobody else's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["in_own_loop"]

T = TypeVar("T")


async def in_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of ``work()``; cancelling the caller cancels it, and does not wait for its end."""
    outcome: Future[T] = Future()
    begun: Future[Callable[[], object]] = Future()

    def serve() -> None:
        # Not asyncio.run: nest_asyncio replaces it by one that works in the main thread only.
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            task = loop.create_task(work())
            begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
            result = loop.run_until_complete(task)
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller
            _finish(loop)
            with suppress(asyncio.InvalidStateError):
                outcome.set_exception(error)
        else:
            _finish(loop)
            outcome.set_result(result)

    threading.Thread(target=serve, name="nbllm-download", daemon=True).start()
    try:
        return await asyncio.shield(asyncio.wrap_future(outcome))
    except asyncio.CancelledError:
        with suppress(RuntimeError):  # it has ended meanwhile
            begun.result()()
        raise


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
