"""Requests for files and listings: redirects, the token, and bounds on what a server may send.

A token goes to the hub's own hosts and never along a redirect to another; see
``nbllm.core.api_keys``. Redirects are followed here, one at a time, so that none leads to
another scheme or into the network that this machine is in.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from nbllm import __version__
from nbllm.core.api_keys import is_allowed
from nbllm.core.errors import DownloadError, MissingDependencyError
from nbllm.core.texts import capped, shown
from nbllm.hub.download_errors import network_error, refused
from nbllm.hub.names import HubName

__all__ = ["HubSettings", "Servers", "address_of", "hub_settings", "version_of"]

_TRUE = {"1", "ON", "YES", "TRUE"}
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_MOST_REDIRECTS = 5
_MOST_JSON_BYTES = 16 * 2**20
_JSON_SECONDS = 60.0
_JSON_PAUSES = (0.25, 1.0, 3.0)
_HEAD_SECONDS = 60.0
"""A server that sends its headers byte by byte would never run into the limit of one read."""
_PASSING = {502, 503, 504}
_TIMEOUT = httpx.Timeout(30.0, connect=15.0, pool=None)
_HEADERS = {"User-Agent": f"nbllm/{__version__}", "Accept-Encoding": "identity"}


def address_of(url: httpx.URL) -> str:
    """The scheme, the host and the port, as ``is_allowed`` compares them."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def version_of(response: httpx.Response) -> str:
    """What ``If-Range`` takes: a strong ETag, else the date of the last change."""
    tag = response.headers.get("etag", "")
    is_strong = tag.startswith('"') and tag.isascii() and len(tag) < 200
    return str(tag if is_strong else response.headers.get("last-modified", "")[:100])


class Servers:
    """One pull's connections. ``where`` is the model's name in messages.

    ``name`` is what is asked of the hub, None for another server's file; ``token`` is the
    person's, None where there is none.
    """

    def __init__(
        self, where: str, *, name: HubName | None = None, token: str | None = None, most: int = 8
    ) -> None:
        self.where, self.name = where, name
        self._token = token
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        self._client = httpx.AsyncClient(headers=_HEADERS, timeout=_TIMEOUT, limits=limits)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def takes_token(self, url: httpx.URL) -> bool:
        """Whether there is a token, and it may go there."""
        return self._token is not None and is_allowed("HF_TOKEN", address_of(url))

    def refused(self, response: httpx.Response, first: httpx.URL) -> DownloadError:
        """The error for a response that is no success; ``first`` is what was asked for."""
        is_hub = response.url.host == first.host
        has_token = "authorization" in response.request.headers
        return refused(self.name if is_hub else None, self.where, response, has_token=has_token)

    @asynccontextmanager
    async def open(
        self, url: httpx.URL, byte_range: str = "", *, version: str = ""
    ) -> AsyncIterator[httpx.Response]:
        """The response of ``url`` or of where it redirects to, its body unread.

        ``byte_range`` is such as "0-99"; a server that has no longer the ``version`` of the file
        sends all of it instead. Raises httpx's errors, and ``DownloadError`` for a
        redirect that is not followed.
        """
        first = url
        for _ in range(_MOST_REDIRECTS + 1):
            headers = {"Range": f"bytes={byte_range}"} if byte_range else {}
            if byte_range and version:
                headers["If-Range"] = version
            if self.takes_token(url):
                headers["Authorization"] = f"Bearer {self._token}"
            response = await self._begun(self._client.build_request("GET", url, headers=headers))
            if not response.has_redirect_location:
                try:
                    yield response
                finally:
                    await response.aclose()
                return
            await response.aclose()
            url = await self._followed(first, response)
        raise DownloadError(self.where, f"{first.host} redirects more than {_MOST_REDIRECTS} times")

    async def _begun(self, request: httpx.Request) -> httpx.Response:
        try:
            return await asyncio.wait_for(self._client.send(request, stream=True), _HEAD_SECONDS)
        except asyncio.TimeoutError:
            raise httpx.ReadTimeout("the headers do not end", request=request) from None

    async def _followed(self, first: httpx.URL, response: httpx.Response) -> httpx.URL:
        location = response.headers["location"]
        try:
            target = response.url.join(location)
        except (httpx.InvalidURL, ValueError):
            target = httpx.URL("")
        problem = _redirect_problem(first, target)
        if not problem and target.host != first.host and await _is_private(target.host):
            problem = "an address inside a private network"
        if problem:
            raise DownloadError(
                self.where,
                f"{response.url.host} redirects to {problem}, which is not followed: "
                f"{shown(location.partition('?')[0])}",
            )
        return target

    async def json(self, url: httpx.URL) -> tuple[Any, httpx.Response]:
        """What the hub answers, read within bounds of size and time. Raises ``DownloadError``."""
        try:
            return await asyncio.wait_for(self._json_at_last(url), _JSON_SECONDS)
        except asyncio.TimeoutError:
            problem = f"{url.host} did not answer within {_JSON_SECONDS:g} s. Try again later"
            raise DownloadError(self.where, problem) from None
        except httpx.HTTPError as error:
            raise network_error(self.where, url.host, error) from None

    async def _json_at_last(self, url: httpx.URL) -> tuple[Any, httpx.Response]:
        """Asked again where a connection broke or a server was not ready."""
        for pause in _JSON_PAUSES:
            try:
                return await self._json(url)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                pass
            except DownloadError as error:
                if error.status not in _PASSING or error.retry_after_seconds is not None:
                    raise
            await asyncio.sleep(pause)
        return await self._json(url)

    async def _json(self, url: httpx.URL) -> tuple[Any, httpx.Response]:
        async with self.open(url) as response:
            if response.status_code != httpx.codes.OK:
                raise self.refused(response, url)
            if response.headers.get("content-encoding", "identity") != "identity":
                problem = f"{url.host} sent a compressed listing, which was not asked for"
                raise DownloadError(self.where, problem)
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > _MOST_JSON_BYTES:
                    most = f"{_MOST_JSON_BYTES >> 20} MiB"
                    problem = f"{url.host} sent a listing of more than {most}"
                    raise DownloadError(self.where, problem)
        try:
            return json.loads(data), response
        except (ValueError, RecursionError):
            raise DownloadError(
                self.where,
                f"{url.host} did not answer as a hub does (its answer is not JSON). Is HF_ENDPOINT "
                "correct, and does the network need a sign-in page?",
            ) from None


def _redirect_problem(first: httpx.URL, target: httpx.URL) -> str:
    """What is wrong with a redirect, "" where it may be followed."""
    if target.scheme not in ("http", "https") or not target.host:
        return "another scheme"
    if target.userinfo:
        return "an address with a password"
    if target.scheme == "http" and not (first.scheme == "http" and target.host == first.host):
        return "an address without encryption"
    return ""


async def _is_private(host: str) -> bool:
    """Whether a host is not on the public internet; one that is not found is told elsewhere."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(not ipaddress.ip_address(str(at[4][0]).partition("%")[0]).is_global for at in found)


# ---------------------------------------------------------------- the hub's settings


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The address of the hub, the person's token (None: none), and whether links may be made."""

    endpoint: str
    token: str | None
    links: bool


def hub_settings(where: str) -> HubSettings:
    """As the environment says now, which may have changed since the library was imported.

    Raises ``DownloadError``, and ``MissingDependencyError`` where the library is not installed.
    """
    if any(os.environ.get(name, "").strip().upper() in _TRUE for name in _OFFLINE):
        raise DownloadError(
            where, "downloads are turned off by HF_HUB_OFFLINE. Unset it to download"
        )
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        raise MissingDependencyError(
            "huggingface_hub", purpose="Downloading from Hugging Face", extra="hub"
        ) from error
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or constants.ENDPOINT
    return HubSettings(
        endpoint=_checked(where, endpoint),
        token=_token(where, get_token) if _may_use_token() else None,
        links=not getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False),  # newer versions have it
    )


def _may_use_token() -> bool:
    told = os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "")
    return told.strip().upper() not in _TRUE


def _token(where: str, get_token: object) -> str | None:
    assert callable(get_token)  # noqa: S101
    try:
        token = get_token()
    except Exception as error:  # noqa: BLE001 - it asks servers and vaults, and raises what they do
        raise DownloadError(where, f"no token can be had: {capped(str(error))}") from None
    return token if isinstance(token, str) and re.fullmatch(r"[\x21-\x7e]+", token) else None


def _checked(where: str, endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.username is not None:
        raise DownloadError(where, f"HF_ENDPOINT is not a valid address: {shown(endpoint)}")
    return endpoint
