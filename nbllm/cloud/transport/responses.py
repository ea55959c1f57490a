"""What comes back: bodies within bounds of bytes, and streamed answers as events."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from time import monotonic
from types import TracebackType

import anyio
import httpx

from nbllm.cloud.adapter import StreamParser, events_of
from nbllm.cloud.transport.http_failures import idle, interrupted, silence
from nbllm.cloud.transport.sse import LineTooLongError, SseDecoder
from nbllm.cloud.transport.timing import Deadlines, SilenceTimer
from nbllm.core.errors import InterruptedStreamError, ModelError, ProtocolError
from nbllm.core.types import Event, GenerationResult, ModelInfo

__all__ = [
    "ANSWER_LIMIT",
    "FILE_LIMIT",
    "LIST_LIMIT",
    "STREAM_LIMIT",
    "AnswerStream",
    "chunks_of",
    "vectors_limit",
    "whole",
]

ANSWER_LIMIT = 64 * 2**20
"""Bytes of an answer that comes whole: generated images are in it."""
STREAM_LIMIT = 256 * 2**20
"""Bytes of a stream: a hundred times the longest answers of today, events and all."""
LIST_LIMIT = 16 * 2**20
"""Bytes of a count or of a page of a vendor's models; the longest lists have about one MiB."""

FILE_LIMIT = 4 * 2**30
"""Bytes of the results of a batch, which are read line by line."""

_MOST_TEXTS = 2048
_BYTES_OF_A_VECTOR = 2**18
"""8,192 numbers, the longest vectors there are, written out in decimals."""
_PIECE = 2**20
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

_Unpack = Callable[[bytes], Iterable[bytes]]


def vectors_limit(texts: int) -> int:
    """Bytes of an answer with the vectors of so many texts."""
    return 2**20 + min(texts, _MOST_TEXTS) * _BYTES_OF_A_VECTOR


async def chunks_of(
    model: str, response: httpx.Response, limit: int
) -> AsyncGenerator[bytes, None]:
    """The body in pieces of at most 1 MiB. Raises ``ProtocolError`` past ``limit`` bytes."""
    unpack = _unpacker(model, response)
    received = unpacked = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        for piece in unpack(chunk):
            unpacked += len(piece)
            if max(received, unpacked) > limit:
                raise _too_long(model, limit)
            yield piece


def _too_long(model: str, limit: int) -> ProtocolError:
    return ProtocolError(
        model, f"the response was aborted after {limit >> 20} MiB. Is base_url correct?"
    )


async def whole(model: str, response: httpx.Response, limit: int) -> bytes:
    """The whole body. Raises ``ProtocolError`` past ``limit`` bytes."""
    return b"".join([chunk async for chunk in chunks_of(model, response, limit)])


def _unpacker(model: str, response: httpx.Response) -> _Unpack:
    """How the server packed its body. Raises ``ProtocolError`` for what nobody asked it for."""
    named = response.headers.get("content-encoding", "").lower().split(",")
    packings = [name for name in map(str.strip, named) if name not in ("", "identity")]
    if not packings:
        return lambda chunk: (chunk,)
    if packings not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise ProtocolError(
            model,
            f"the server compressed its response in a way that was not requested "
            f"({', '.join(packings)[:80]}). Is base_url correct?",
        )
    return _unzipper(model)


def _unzipper(model: str) -> _Unpack:
    unzip = zlib.decompressobj(_GZIP_OR_ZLIB)

    def unpack(chunk: bytes) -> Iterator[bytes]:
        piece = b""
        while not unzip.eof and (chunk or len(piece) == _PIECE):  # a full piece may have a rest
            try:
                piece = unzip.decompress(chunk, _PIECE)
            except zlib.error:
                raise ProtocolError(
                    model, "the response is not compressed as its header says"
                ) from None
            chunk = unzip.unconsumed_tail
            yield piece
        if unzip.eof:
            yield b""  # so that what comes behind the end is counted too

    return unpack


_WHOLE_TYPES = ("application/json", "text/html", "application/xml", "text/xml")
_MOST_TEXT = 4 * 2**20
"""Characters of an answer's text, a million tokens; so much of it is kept for an error too, which
is searched for keys."""
_LOOK_BYTES = 2**20
"""After so many bytes the text is measured again."""
_DRAIN_SECONDS = 0.1
"""So long the end of a complete answer may take for its connection to be used again."""


class AnswerStream:
    """One answer while it arrives."""

    def __init__(
        self,
        info: ModelInfo,
        response: httpx.Response,
        deadlines: Deadlines,
        parser: StreamParser,
        read_whole: Callable[[bytes], GenerationResult],
    ) -> None:
        self._info, self._response, self._deadlines = info, response, deadlines
        self._parser, self._read_answer = parser, read_whole
        self._decoder = SseDecoder()
        self._chunks = chunks_of(info.name, response, STREAM_LIMIT)
        self._failure: ModelError | None = None
        self._result: GenerationResult | None = None
        self._silence_timer: SilenceTimer | None = None
        self._ended = False
        self._unmeasured_bytes = 0

    @property
    def text(self) -> str:
        """The text so far."""
        return self._parser.text

    async def first_events(self) -> list[Event]:
        """The first events, at least one unless the answer is empty; waits as long as it takes."""
        if self._response.headers.get("content-type", "").lower().startswith(_WHOLE_TYPES):
            return await self._read_whole()
        events: list[Event] = []
        while not (events or self._ended):
            events = await self._read()
        return self._delivered(events)

    async def next_events(self) -> list[Event]:
        """More events; none once the answer is complete. Raises what has gone wrong."""
        events: list[Event] = []
        silence_timer = self._silence_timer
        if silence_timer is None:
            silence_timer = self._silence_timer = SilenceTimer(self._deadlines.stall)
        over = monotonic() + self._deadlines.first_token
        try:
            while not (events or self._ended):
                with silence_timer:
                    events = await self._read()
                if not events and monotonic() > over:
                    self._fail(idle(self._info.name, self._deadlines.first_token, self.text))
        except TimeoutError:
            self._fail(
                silence(self._info.name, self._deadlines.stall, first=False, partial_text=self.text)
            )
        return self._delivered(events)

    def finish(self) -> GenerationResult:
        """The whole answer. Raises ``InterruptedStreamError`` where its end marker is missing."""
        return self._parser.finish() if self._result is None else self._result

    async def __aenter__(self) -> AnswerStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close at once what is not complete; let what is be used for the next request."""
        if self._silence_timer is not None:
            self._silence_timer.close()
        complete = self._ended and self._failure is None and kind is None
        if complete and self._result is None:  # else the end was read with it
            await self._drain()
        await self._response.aclose()

    async def _drain(self) -> None:
        with anyio.move_on_after(_DRAIN_SECONDS):
            try:
                async for _ in self._chunks:
                    pass
            except (httpx.HTTPError, ModelError):  # nothing of the answer is lost
                return

    def _delivered(self, events: list[Event]) -> list[Event]:
        """The events; where there are none more, what went wrong is raised."""
        if not events and self._failure is not None:
            text = self._failure.partial_text or self.text
            self._failure.partial_text = text[:_MOST_TEXT]
            raise self._failure
        return events

    async def _read(self) -> list[Event]:
        """What one chunk brings, often nothing. Keeps a failure for after its events."""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            return self._last_events()
        except httpx.HTTPError as error:
            self._ended = True
            if self._interruption() is not None:
                self._failure = interrupted(self._info.name, error, self.text)
            return []
        except ProtocolError as error:
            self._fail(error)
            return []
        events = self._understand(chunk)
        self._unmeasured_bytes += len(chunk)
        if self._unmeasured_bytes > _LOOK_BYTES:
            self._measure()
        return events

    def _measure(self) -> None:
        """End an answer whose text does not end."""
        self._unmeasured_bytes = 0
        if self._failure is None and len(self.text) > _MOST_TEXT:
            problem = f"the answer was aborted after {_MOST_TEXT:,} characters"
            self._fail(ProtocolError(self._info.name, problem))

    def _fail(self, failure: ModelError) -> None:
        self._ended, self._failure = True, failure

    def _understand(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        feed = self._parser.feed
        try:
            for event in self._decoder.feed(chunk):
                events += feed(event)
        except ModelError as error:
            self._failure = error
        except LineTooLongError as error:
            self._failure = ProtocolError(self._info.name, str(error), partial_text=self.text)
        self._ended = self._failure is not None or self._parser.done
        return events

    def _last_events(self) -> list[Event]:
        """What the end of the stream completes; a cut line at its end is no event."""
        self._ended = True
        events: list[Event] = []
        try:
            for event in self._decoder.finish():
                events += self._parser.feed(event)
        except ProtocolError as error:
            self._failure = self._interruption() or error
        except ModelError as error:
            self._failure = error
        else:
            self._failure = self._interruption()
        return events

    def _interruption(self) -> InterruptedStreamError | None:
        try:
            self._parser.finish()
        except InterruptedStreamError as error:
            return error
        return None

    async def _read_whole(self) -> list[Event]:
        """The events of an answer that does not stream."""
        self._ended = True
        try:
            body = await whole(self._info.name, self._response, ANSWER_LIMIT)
        except httpx.HTTPError as error:
            failure = interrupted(self._info.name, error, "")
        else:
            self._result = self._read_answer(body)
            return list(events_of(self._result))
        raise failure
