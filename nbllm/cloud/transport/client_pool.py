"""One httpx client for each event loop, made when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import httpx

from nbllm.core.forks import ChildSafeLock, keep_untouched, renew_in_children

__all__ = ["ClientPool"]

_Keeper = AsyncGenerator[None, None]

_PATIENCE = 0.5
"""Seconds to wait for a loop of another thread, which may itself be waiting for this one."""


class ClientPool:
    """Clients made by ``make``, one for each event loop that asks; usable from any thread.

    A client is closed by ``aclose``, or when its loop shuts down its asynchronous generators, as
    ``asyncio.run`` does at its end: connections cannot be closed on a loop that is no more.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._lock = ChildSafeLock()
        self._open: dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, _Keeper]] = {}
        self._closed = False
        renew_in_children(self)

    def renew(self) -> None:
        """Have no client, in a forked child: the connections that are open are the parent's."""
        keep_untouched(self._open)
        self._open = {}

    @property
    def closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._closed

    async def get(self) -> httpx.AsyncClient:
        """The client of the running loop. Raises ``RuntimeError`` once the pool is closed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of clients is closed")
            self._forget_closed_loops()
            known = self._open.get(loop)
            if known is not None:
                return known[0]
            client = self._make()
            keeper = self._keep(loop, client)
            self._open[loop] = client, keeper
        await anext(keeper)  # the loop now knows of it and will close it; nothing is awaited
        return client

    async def aclose(self) -> None:
        """Close all clients, those of other threads' loops too. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            keepers = {loop: keeper for loop, (_, keeper) in self._open.items()}
        await asyncio.gather(*(_close(loop, keeper) for loop, keeper in keepers.items()))

    async def _keep(self, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> _Keeper:
        try:
            yield
        finally:
            with self._lock:
                self._open.pop(loop, None)
            await client.aclose()

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._open if loop.is_closed()]:
            del self._open[loop]


async def _close(loop: asyncio.AbstractEventLoop, keeper: _Keeper) -> None:
    if loop is asyncio.get_running_loop():
        await _aclose(keeper)
        return
    closing = _aclose(keeper)
    try:
        future = asyncio.run_coroutine_threadsafe(closing, loop)
    except RuntimeError:  # the loop was closed meanwhile
        closing.close()
        return
    if loop.is_running():
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), _PATIENCE)


async def _aclose(keeper: _Keeper) -> None:
    with suppress(RuntimeError):  # its loop is closing it already
        await keeper.aclose()
