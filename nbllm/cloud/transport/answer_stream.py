"""One streamed answer, from the bytes that arrive to the events that they mean."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import TracebackType

import anyio
import httpx

from nbllm.cloud.adapter import StreamParser, events_of
from nbllm.cloud.transport.bounded_bodies import ANSWER_LIMIT, STREAM_LIMIT, chunks_of, whole
from nbllm.cloud.transport.deadlines import Deadlines, SilenceTimer
from nbllm.cloud.transport.http_failures import idle, interrupted, silence
from nbllm.cloud.transport.sse import LineTooLongError, SseDecoder
from nbllm.core.errors import InterruptedStreamError, ModelError, ProtocolError
from nbllm.core.types import Event, GenerationResult, ModelInfo

__all__ = ["AnswerStream"]

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
