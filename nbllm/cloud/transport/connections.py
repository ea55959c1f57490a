"""The way to a server, straight or through a proxy, and the clients: one for each event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.request import getproxies, proxy_bypass

import httpx

from nbllm.core.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    InterruptedStreamError,
    ModelError,
    ProtocolError,
)
from nbllm.core.forks import ChildSafeLock, keep_untouched, renew_in_children
from nbllm.core.version import __version__

__all__ = ["ClientPool", "Proxy", "Route", "client_maker", "is_loopback", "route_to"]

_OF_THE_WAY = (ApiConnectionError, ApiTimeoutError, InterruptedStreamError, ProtocolError)
_STATUSES_OF_A_PROXY = {407, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and where it is set; its address may hold a password and is shown without."""

    url: str = field(repr=False)
    shown: str
    setting: str

    @property
    def told(self) -> str:
        """A sentence for errors on the way."""
        return f"The request goes through the proxy {self.shown}, set by {self.setting}."


@dataclass(frozen=True, slots=True)
class Route:
    """The way to ``url``; ``proxy`` is None for the straight one."""

    url: httpx.URL
    proxy: Proxy | None

    @property
    def next_stop(self) -> str:
        """What a connection is opened to, for people."""
        if self.proxy is not None:
            return f"the proxy {self.proxy.shown}"
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

    def explain(self, error: ModelError) -> None:
        """Name the proxy in an error that may be of its making; once, however often it is asked."""
        if self.proxy is not None and self.proxy.told not in str(error) and self._may_be_its(error):
            error.args = (f"{error} {self.proxy.told}",)

    def _may_be_its(self, error: ModelError) -> bool:
        if self.url.scheme == "http" and isinstance(error, ApiError):
            return error.status in _STATUSES_OF_A_PROXY or isinstance(error, _OF_THE_WAY)
        return isinstance(error, _OF_THE_WAY)


def route_to(model: str, base_url: str) -> Route:
    """The way to an address as it is now. This machine is reached straight, whatever is set.

    Raises ``ApiConnectionError`` for a proxy that cannot be used.
    """
    url = httpx.URL(base_url)
    proxy = None if is_loopback(url.host) or _is_exception(url) else _proxy_for(url)
    if proxy is not None:
        _check(model, proxy)
    return Route(url, proxy)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, in any of the ways to write that."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:  # 127.1 and 0x7f000001 are addresses to whoever resolves names
            address = ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_loopback or inner.is_unspecified


def _is_exception(url: httpx.URL) -> bool:
    """Whether NO_PROXY, or the system's settings, name the host."""
    names = [name.strip() for name in getproxies().get("no", "").split(",")]
    hosts = [url.host, url.netloc.decode("ascii")]
    return "*" in names or any(map(proxy_bypass, hosts))


def _proxy_for(url: httpx.URL) -> Proxy | None:
    found = getproxies()
    scheme = next((scheme for scheme in (url.scheme, "all") if found.get(scheme)), None)
    if scheme is None:
        return None
    address = found[scheme]
    whole = address if "://" in address else f"http://{address}"
    return Proxy(whole, _without_user(whole), _setting(scheme, address))


def _setting(scheme: str, address: str) -> str:
    for name, value in os.environ.items():
        if name.lower() == f"{scheme}_proxy" and value == address:
            return f"the environment variable {name} (NO_PROXY names exceptions)"
    return "the system's settings"


def _without_user(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('/')[0]}"


def _check(model: str, proxy: Proxy) -> None:
    try:
        url = httpx.Proxy(proxy.url).url
    except (ValueError, httpx.InvalidURL):
        url = httpx.URL()
    if not url.host:
        problem = "it is not a proxy address such as http://host:port"
    elif url.scheme.startswith("socks") and find_spec("socksio") is None:
        problem = 'SOCKS requires a package: pip install "httpx[socks]"'
    else:
        return
    raise ApiConnectionError(
        model, f"the proxy {proxy.shown}, set by {proxy.setting}, cannot be used: {problem}"
    )


def client_maker(route: Route) -> Callable[[], httpx.AsyncClient]:
    """Makes clients for one way. The CA bundle is read here, once, and not for plain http.

    They follow no redirects, so that no key goes to another host, and take the route's proxy only.
    """
    trust = httpx.create_ssl_context() if route.url.scheme == "https" else False
    # Few idle ones: httpcore looks at each of them for each request, which costs a wide run more
    # than connections that are opened anew.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=10, keepalive_expiry=30)
    return lambda: httpx.AsyncClient(
        verify=trust,
        limits=limits,
        headers={"user-agent": f"nbllm/{__version__}"},
        proxy=None if route.proxy is None else route.proxy.url,
        trust_env=False,
        follow_redirects=False,
    )


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
