"""Several coroutines at once: the results of all, or the first failure and nothing that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ["gathered"]

T = TypeVar("T")


async def gathered(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in the order of ``works``, which run at the same time.

    The first failure, and a cancellation, cancels the others and is raised when they have ended.
    (``asyncio.TaskGroup`` does so since Python 3.11.)
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
