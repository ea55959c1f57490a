"""Requests and answers over HTTP: the one place that sends, waits and reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import httpx

from nbllm.cloud.adapter import Adapter, HttpRequest, StreamParser
from nbllm.cloud.key_sources import KeySource, address_of
from nbllm.cloud.secrets import scrub, scrub_cut
from nbllm.cloud.transport.connections import ClientPool, Route
from nbllm.cloud.transport.http_failures import interrupted, no_answer, silence
from nbllm.cloud.transport.responses import (
    ANSWER_LIMIT,
    FILE_LIMIT,
    LIST_LIMIT,
    AnswerStream,
    chunks_of,
    whole,
)
from nbllm.cloud.transport.timing import Deadlines
from nbllm.core.errors import InvalidOptionError, ModelClosedError, ModelError, ProtocolError
from nbllm.core.types import Event, GenerationResult, ModelInfo

__all__ = ["Transport"]

_MOST_OF_AN_ERROR = 2**18
"""Bytes that are read of an error's body; what matters stands at its beginning."""
_ERROR_SECONDS = 10.0


class Transport:
    """Sends one model's requests and turns what comes back into bytes or typed errors.

    Nothing is sent twice here.
    """

    def __init__(self, adapter: Adapter, route: Route, pool: ClientPool, key: KeySource) -> None:
        self._adapter, self._route = adapter, route
        self._pool, self._key = pool, key

    async def fetch(
        self,
        info: ModelInfo,
        request: HttpRequest,
        deadlines: Deadlines,
        *,
        limit: int = LIST_LIMIT,
    ) -> bytes:
        """The body of a 2xx answer, of at most ``limit`` bytes.

        Raises what the server's error means, and ``ProtocolError`` for a longer body.
        """
        failure = None
        try:
            with anyio.fail_after(deadlines.first_token):
                response = await self._send(info, request, deadlines, stream=False)
                try:
                    return await whole(info.name, response, limit)
                except httpx.HTTPError as error:
                    failure = interrupted(info.name, error, "")
                finally:
                    await response.aclose()
        except TimeoutError:
            pass
        raise failure or silence(info.name, deadlines.first_token, first=True)

    async def lines(
        self, info: ModelInfo, request: HttpRequest, deadlines: Deadlines
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a 2xx answer as they come, without their ends, of 64 MiB each at most.

        Raises as ``fetch`` does; an answer that breaks in its middle, or has no byte for
        ``stall`` seconds, after the lines that were whole.
        """
        with _limited(info, deadlines.first_token, first=True):
            response = await self._send(info, request, deadlines, stream=False)
        try:
            chunks, rest = chunks_of(info.name, response, FILE_LIMIT), b""
            while (chunk := await _next(info, chunks, deadlines)) is not None:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line
                if len(rest) > ANSWER_LIMIT:
                    raise ProtocolError(info.name, "a line of the response is too long")
            if rest:
                yield rest
        finally:
            await response.aclose()

    async def begin(
        self,
        info: ModelInfo,
        request: HttpRequest,
        deadlines: Deadlines,
        parser: StreamParser,
        read_whole: Callable[[bytes], GenerationResult],
    ) -> tuple[AnswerStream, list[Event]]:
        """Ask for a streamed answer and wait for its first events; none where it is empty.

        ``read_whole`` reads the answer of a server that does not stream.
        """
        stream = None
        try:
            with anyio.fail_after(deadlines.first_token):
                response = await self._send(info, request, deadlines, stream=True)
                stream = AnswerStream(info, response, deadlines, parser, read_whole)
                return stream, await stream.first_events()
        except TimeoutError:
            pass
        except BaseException:
            await _close(stream)
            raise
        await _close(stream)
        raise silence(info.name, deadlines.first_token, first=True)

    async def _send(
        self, info: ModelInfo, request: HttpRequest, deadlines: Deadlines, *, stream: bool
    ) -> httpx.Response:
        """A 2xx answer with its body unread. Raises what the server's error means."""
        try:
            client = await self._pool.get()
            message = self._message(client, request, deadlines, stream=stream)
            response = await client.send(message, stream=True)
        except httpx.HTTPError as error:
            failure: ModelError = no_answer(info.name, self._route, error, deadlines)
        except RuntimeError:
            if not self._pool.closed:
                raise
            failure = ModelClosedError(info.name, "it was unloaded; load it again to use it")
        else:
            if response.is_success:
                return response
            failure = await self._failure(info, response)
        # Raised here, not in an except clause: what httpx raised can hold the request's headers.
        raise failure

    def _message(
        self, client: httpx.AsyncClient, request: HttpRequest, deadlines: Deadlines, *, stream: bool
    ) -> httpx.Request:
        # Compressed chunks wait in the server until a block is full.
        encoding = {"accept-encoding": "identity" if stream else "gzip"}
        try:
            message = client.build_request(
                request.method,
                f"{self._route.url}/{request.path}",
                json=request.body,
                content=request.content,
                headers={**encoding, **request.headers},
                timeout=httpx.Timeout(
                    connect=deadlines.connect, write=deadlines.stall, read=None, pool=None
                ),
            )
        except (TypeError, ValueError) as error:
            raise InvalidOptionError(
                "request", f"cannot be encoded as JSON ({error}); check extra and the schemas"
            ) from None
        secret = self._key.current(address_of(message.url))
        if secret is not None:  # in no variable, so that no frame of an error shows it
            message.headers.update(self._adapter.key_headers(secret.reveal()))
        return message

    async def _failure(self, info: ModelInfo, response: httpx.Response) -> ModelError:
        """The error that the server reports, without the key should it be quoted in it."""
        try:
            body = await _beginning(info.name, response)
        finally:
            await response.aclose()
        secret = self._key.in_use()
        headers = {name.lower(): scrub(value, secret) for name, value in response.headers.items()}
        clean = scrub_cut(body.decode("utf-8", "replace"), secret).encode()
        return self._adapter.parse_error(info, response.status_code, headers, clean)


@contextmanager
def _limited(info: ModelInfo, seconds: float, *, first: bool) -> Iterator[None]:
    """Raises ``ApiTimeoutError`` for what takes longer."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        failure = silence(info.name, seconds, first=first)
    else:
        return
    raise failure


async def _next(
    info: ModelInfo, chunks: AsyncGenerator[bytes, None], deadlines: Deadlines
) -> bytes | None:
    """The next piece, None at the end."""
    try:
        with _limited(info, deadlines.stall, first=False):
            return await anext(chunks, None)
    except httpx.HTTPError as error:
        failure = interrupted(info.name, error, "")
    raise failure


async def _beginning(model: str, response: httpx.Response) -> bytes:
    """The first bytes of a body; the rest of a long or slow one is left.

    What cannot be read is as good as absent: the status and the headers tell enough.
    """
    body = bytearray()
    with anyio.move_on_after(_ERROR_SECONDS), suppress(httpx.HTTPError, ProtocolError):
        async for chunk in chunks_of(model, response, ANSWER_LIMIT):
            body += chunk
            if len(body) >= _MOST_OF_AN_ERROR:
                break
    return bytes(body[:_MOST_OF_AN_ERROR])


async def _close(stream: AnswerStream | None) -> None:
    if stream is not None:
        await stream.__aexit__(ModelError, None, None)
