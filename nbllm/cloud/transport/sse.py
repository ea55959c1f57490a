"""Server-sent events from bytes, with no I/O.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream:
lines end with LF, CRLF or CR and nothing else, chunks may be cut anywhere. One thing is added:
until 2025 llama-server wrote ``error: {…}`` where ``event: error`` and ``data: {…}`` belong.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import NamedTuple

__all__ = ["LINE_LIMIT", "LineTooLongError", "ServerSentEvent", "SseDecoder"]

LINE_LIMIT = 64 * 2**20
"""Characters that a line or an event's data may have: generated images come in one line."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_MILLISECONDS = re.compile(r"[0-9]{1,9}")


class LineTooLongError(ValueError):
    """The stream holds a line or an event longer than the limit; it is no event stream."""


class ServerSentEvent(NamedTuple):
    """One event: its name ("message" where the stream names none), data and id.

    A tuple, because one is made for every token and tuples are the cheapest to make.
    """

    data: str
    event: str = "message"
    id: str = ""


class SseDecoder:
    r"""Events from the bytes of one stream, in chunks cut anywhere.

    Invalid UTF-8 becomes U+FFFD, as the standard has it. ``retry`` is the reconnection time in
    milliseconds that the server asked for, None where it asked for none.

    >>> decoder = SseDecoder()
    >>> decoder.feed(b"event: ping\ndata: a\ndata: b\n\ndata: [DO")
    [ServerSentEvent(data='a\nb', event='ping', id='')]
    >>> decoder.feed(b"NE]"), decoder.finish()
    ([], [ServerSentEvent(data='[DONE]', event='message', id='')])
    """

    def __init__(self, *, line_limit: int = LINE_LIMIT) -> None:
        self.retry: int | None = None
        self._limit = line_limit
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = True
        self._tail: list[str] = []
        self._tail_length = 0
        self._after_cr = False
        self._data: list[str] = []
        self._data_length = 0
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that ``chunk`` completes; raises ``LineTooLongError``."""
        return self._feed(self._utf8.decode(chunk))

    def finish(self) -> list[ServerSentEvent]:
        """The event that the end of the stream completes, if any.

        The standard drops an event without the empty line behind it, because it may have been
        cut. Servers that close right after their last line are common, so it counts here where
        its data shows that it is whole: as JSON, or as ``[DONE]``.
        """
        last = self._feed(self._utf8.decode(b"", final=True) + "\n\n")
        return [event for event in last if _is_whole(event.data)]

    def _feed(self, text: str) -> list[ServerSentEvent]:
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix("\n")
        if "\r" in text:
            if text.endswith("\r") or text.count("\r") > text.count("\r\n"):
                return self._feed_lines(text)
            text = text.replace("\r\n", "\n")
        return self._feed_frames(text) if self._idle else self._feed_lines(text)

    @property
    def _idle(self) -> bool:
        """Whether the last event is complete, so that a new one starts here."""
        return not (self._tail or self._data or self._event)

    def _feed_frames(self, text: str) -> list[ServerSentEvent]:
        """The common case: a chunk that begins with an event, and has LF ends."""
        *frames, rest = text.split("\n\n")
        events: list[ServerSentEvent] = []
        for frame in frames:
            if frame.startswith("data: ") and "\n" not in frame:
                events.append(ServerSentEvent(frame[6:], "message", self._id))
            else:
                self._read_lines(f"{frame}\n\n".split("\n"), events)
        if rest:
            events += self._feed_lines(rest)
        return events

    def _feed_lines(self, text: str) -> list[ServerSentEvent]:
        lines = _LINE_END.split(text) if "\r" in text else text.split("\n")
        self._after_cr = text.endswith("\r")
        events: list[ServerSentEvent] = []
        self._keep(lines[0])
        if len(lines) > 1:
            lines[0] = "".join(self._tail)
            self._tail.clear()
            self._tail_length = 0
            self._read_lines(lines, events)
            self._keep(lines[-1])
        return events

    def _keep(self, piece: str) -> None:
        """Remember the start of a line whose end has not come."""
        if piece:
            self._tail.append(piece)
            self._tail_length += len(piece)
            self._check(self._tail_length)

    def _read_lines(self, lines: list[str], events: list[ServerSentEvent]) -> None:
        """Read all lines but the last, which has no end."""
        for line in lines[:-1]:
            if line:
                self._read_field(line)
            else:
                self._dispatch(events)

    def _read_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._keep_data(value)
        elif name == "event":
            self._event = value
        elif name == "error" and value.startswith("{"):  # no field of the standard: see below
            self._event = name
            self._keep_data(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _MILLISECONDS.fullmatch(value):
            self.retry = int(value)

    def _keep_data(self, value: str) -> None:
        self._data.append(value)
        self._data_length += len(value) + 1
        self._check(self._data_length)

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            data = "\n".join(self._data)
            events.append(ServerSentEvent(data, self._event or "message", self._id))
            self._data.clear()
            self._data_length = 0
        self._event = ""

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise LineTooLongError(
                f"an event of the stream is longer than {self._limit:,} characters"
            )


def _is_whole(data: str) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return data.startswith("[DONE]")
    return True
