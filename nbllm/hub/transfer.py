"""One file by several connections at once: ranges of it, retried until all are there."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from nbllm.core.downloads import RemoteFile
from nbllm.core.errors import DownloadError
from nbllm.core.words import duration_words
from nbllm.hub.download_errors import network_error, requested_delay
from nbllm.hub.parts import PartFile
from nbllm.hub.servers import Servers, version_of

__all__ = ["CONNECTIONS", "Transfer"]

CONNECTIONS = 4
_MOST_FAILURES = 8
"""So often in a row may the requests of a connection fail that bring nothing to speak of: with the
pauses between them, half a minute without a network."""
_LEAST_PROGRESS = 2**16
_SLOW_SECONDS = 60.0
"""A connection that has brought less than that in such a time is given up, however alive it is."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
_LONGEST_WAIT = 120.0
"""A server that wants a longer delay than this has it told to the reader instead."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_EXPIRED = {401, 403, 404, 410}
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class _Setback:
    """Why a request ended early; it is repeated, after the ``delay`` that a server requested."""

    problem: DownloadError
    delay: float | None = None


class _NoRangesError(Exception):
    """The server sends whole files only."""


@dataclass
class Transfer:
    """A file on its way from ``url`` into ``parts``.

    ``notice`` says why a connection waits, "" where none does.
    """

    servers: Servers
    url: httpx.URL
    file: RemoteFile
    parts: PartFile
    connections: int = CONNECTIONS
    notice: str = ""
    _final: httpx.URL | None = field(default=None, repr=False)
    """Where the last redirect led: asking the hub again for each range would cost it a request."""

    async def run(self) -> None:
        """Until all is there. Raises ``DownloadError`` and ``OSError``; what arrived stays."""
        workers = [asyncio.ensure_future(self._work()) for _ in range(self.connections)]
        try:
            await asyncio.gather(*workers)
            return
        except _NoRangesError:
            pass
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        await self._fetch_whole()

    async def _work(self) -> None:
        """Fetch pieces as long as there are any."""
        while (number := self.parts.take()) is not None:
            try:
                await self._fetch_piece(number)
            finally:
                self.parts.give_back(number)

    async def _fetch_piece(self, number: int) -> None:
        failures = 0
        start, end = self.parts.span(number)
        while start < end:
            setback = await self._range(number, start, end)
            before, (start, end) = start, self.parts.span(number)
            failures = 0 if start - before >= _LEAST_PROGRESS else failures + 1
            if start < end and (setback is not None or failures):
                await self._pause(setback or self._too_little(), failures)

    async def _fetch_whole(self) -> None:
        """By a server without ranges: each try begins with the first byte."""
        failures = 0
        while True:
            self.parts.restart()
            setback = await self._whole()
            if setback is None:
                return
            failures += 1
            await self._pause(setback, failures)

    def _too_little(self) -> _Setback:
        """Responses that are whole and hold next to nothing would be asked for without end."""
        host = (self._final or self.url).host
        return _Setback(DownloadError(self.servers.where, f"{host} keeps sending too little"))

    async def _pause(self, setback: _Setback, failures: int) -> None:
        """Wait before the next try. Raises the problem where it is time to give up."""
        delay = setback.delay
        if failures >= _MOST_FAILURES or (delay is not None and delay > _LONGEST_WAIT):
            raise setback.problem
        if delay is None:
            delay = min(_FIRST_PAUSE * 2 ** max(failures - 1, 0), _LONGEST_PAUSE)
        problem = str(setback.problem).removeprefix(f"{setback.problem.model}: ")
        self.notice = f"{problem.partition('. ')[0]}; next try in {duration_words(delay)}"
        await asyncio.sleep(delay)
        self.notice = ""

    # ------------------------------------------------------------ one request

    async def _range(self, number: int, start: int, end: int) -> _Setback | None:
        """The bytes from ``start`` to before ``end``, as far as they come."""
        target = self._final or self.url
        try:
            async with self.servers.open(
                target, f"{start}-{end - 1}", version=self.file.version
            ) as response:
                match response.status_code:
                    case 206:
                        self._check_range(response, start, end)
                        self._final = response.url
                        await self._take(number, response)
                    case 200:
                        raise _NoRangesError
                    case _:
                        return self._setback(response)
        except httpx.HTTPError as error:
            return _Setback(network_error(self.servers.where, target.host, error, is_transfer=True))
        return None

    async def _whole(self) -> _Setback | None:
        try:
            async with self.servers.open(self.url) as response:
                if response.status_code != httpx.codes.OK:
                    return self._setback(response)
                length = response.headers.get("content-length", str(self.file.size_bytes))
                if length != str(self.file.size_bytes):
                    raise self._wrong_length(response, f"{length} bytes")
                await self._take_all(response)
        except httpx.HTTPError as error:
            return _Setback(
                network_error(self.servers.where, self.url.host, error, is_transfer=True)
            )
        return None

    def _setback(self, response: httpx.Response) -> _Setback:
        """What a refusal means: it passes, or an address has expired. Raises any other."""
        status, is_final = response.status_code, self._final is not None
        problem = self.servers.refused(response, self.url)
        if status in _EXPIRED and is_final:
            self._final = None
            return _Setback(problem, delay=0)
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise self._wrong_length(response, "fewer bytes")
        if status not in _PASSING:
            raise problem
        return _Setback(problem, requested_delay(response))

    def _check_range(self, response: httpx.Response, start: int, end: int) -> None:
        """Raise ``DownloadError`` where the response has not the bytes that were asked for."""
        found = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if found is None or response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadError(
                self.servers.where, f"{response.url.host} answered a request for a range wrongly"
            )
        now = version_of(response)
        if self.file.version and now and now != self.file.version:
            raise DownloadError(
                self.servers.where,
                f"{self.file.name} was replaced on {response.url.host} during the download. Pull "
                "again",
            )
        first, last, total = map(int, found.groups())
        if total != self.file.size_bytes:
            raise self._wrong_length(response, f"{total:,} bytes")
        if first != start or not start <= last < end:
            raise DownloadError(
                self.servers.where, f"{response.url.host} sent another range than was requested"
            )

    def _wrong_length(self, response: httpx.Response, found: str) -> DownloadError:
        return DownloadError(
            self.servers.where,
            f"{self.file.name} has {self.file.size_bytes:,} bytes by its listing, but "
            f"{response.url.host} sends {found}. The file may just have been replaced: pull again",
        )

    async def _take(self, number: int, response: httpx.Response) -> None:
        """Write what arrives into a piece; what is behind its end is not read."""
        start, end = self.parts.span(number)
        async for chunk in _lively(response):
            self.notice = ""
            self.parts.write(number, chunk[: end - start])
            start += len(chunk)
            if start >= end:
                return

    async def _take_all(self, response: httpx.Response) -> None:
        """Write what arrives into the pieces in their order."""
        number = 0
        async for chunk in _lively(response):
            while chunk:
                if number * self.parts.piece >= self.file.size_bytes:
                    raise self._wrong_length(response, "more")
                start, end = self.parts.span(number)
                self.parts.write(number, chunk[: end - start])
                number += len(chunk) >= end - start
                chunk = chunk[end - start :]
        if self.parts.received != self.file.size_bytes:
            raise httpx.ReadError("the body ended early")


async def _lively(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ``httpx.ReadTimeout`` where it only trickles."""
    until, came = time.monotonic() + _SLOW_SECONDS, 0
    async for chunk in response.aiter_raw():
        yield chunk
        came += len(chunk)
        if time.monotonic() > until:
            if came < _LEAST_PROGRESS:
                raise httpx.ReadTimeout("the body only trickles", request=response.request)
            until, came = time.monotonic() + _SLOW_SECONDS, 0
