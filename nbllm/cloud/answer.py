"""An answer while it arrives: what all vendors' parsers share.

A parser reads one vendor's events and tells an ``Answer`` what they bring; the answer makes the
events for the reader and keeps the parts in order, so that a next turn can send them back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Literal

from nbllm.cloud.api_errors import IN_STREAM, typed_error
from nbllm.cloud.error_bodies import read_failure
from nbllm.cloud.sse import ServerSentEvent
from nbllm.cloud.wire import MalformedError, load_json, without_surrogates
from nbllm.core.errors import InterruptedStreamError, ModelError, ProtocolError
from nbllm.core.types import (
    ContentPart,
    Event,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    VendorPart,
)

__all__ = ["Answer", "AnswerParser", "Segment"]

_NO_EVENTS: tuple[Event, ...] = ()


def _compact_buffer() -> StringIO:
    """A buffer of 4 bytes a character. One that was never read from keeps every piece by itself.

    Pieces are 54 bytes each for a token of five characters.
    """
    buffer = StringIO()
    buffer.readline()
    return buffer


@dataclass(slots=True, eq=False)
class Segment:
    """A part of the answer that still grows; ``name`` is that of a tool, or of a vendor."""

    kind: Literal["text", "reasoning", "call", "vendor"]
    content: StringIO = field(default_factory=_compact_buffer)
    id: str = ""
    name: str = ""
    signature: str | None = None
    held: str = ""

    def part(self) -> ContentPart | None:
        """The part as it is now, None where it is empty."""
        content = self.content.getvalue() + without_surrogates(self.held)
        match self.kind:
            case "call":
                return ToolCall(self.id, self.name, content, self.signature)
            case "reasoning":
                return ReasoningPart(content, self.signature) if content or self.signature else None
            case "vendor":
                return VendorPart(self.name, content) if content else None
            case "text":
                return TextPart(content) if content else None


class Answer:
    """What has arrived of one answer."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.usage = Usage()
        self.finish_reason: FinishReason | None = None
        self.raw_finish_reason: str | None = None
        self.refusal = ""
        self.logprobs: list[TokenLogprob] = []

    def text(self, more: str) -> Sequence[Event]:
        """More text, in the segment that is open or a new one."""
        return self.grow(self.open("text"), more) if more else _NO_EVENTS

    def reasoning(self, more: str) -> Sequence[Event]:
        """More reasoning, in the segment that is open or a new one."""
        return self.grow(self.open("reasoning"), more) if more else _NO_EVENTS

    def open(self, kind: Literal["text", "reasoning"]) -> Segment:
        """The last segment where it is of this kind and not sealed by a signature."""
        if self.segments:
            last = self.segments[-1]
            if last.kind == kind and last.signature is None:
                return last
        return self.add(Segment(kind))

    def add(self, segment: Segment) -> Segment:
        """Begin a new part."""
        self.segments.append(segment)
        return segment

    def grow(self, segment: Segment, more: str) -> Sequence[Event]:
        """More of a text or of reasoning, as the event that says so."""
        if not more.isascii() or segment.held:
            more = self._mended(segment, more)
        if not more:
            return _NO_EVENTS
        segment.content.write(more)
        return (TextDelta(more) if segment.kind == "text" else ReasoningDelta(more),)

    def call(
        self,
        segment: Segment,
        arguments: str = "",
        *,
        first: bool = False,
    ) -> Sequence[Event]:
        """More arguments of a tool call; ``first`` is the event that names the tool."""
        if not arguments.isascii() or segment.held:
            arguments = self._mended(segment, arguments)
        segment.content.write(arguments)
        index = self.calls.index(segment)
        if first:
            return (ToolCallDelta(index, arguments, segment.id, segment.name),)
        return (ToolCallDelta(index, arguments),) if arguments else _NO_EVENTS

    @staticmethod
    def _mended(segment: Segment, more: str) -> str:
        """Text without broken characters: some servers cut a surrogate pair between two chunks."""
        more = segment.held + more
        segment.held = more[-1] if more and "\ud800" <= more[-1] <= "\udbff" else ""
        return without_surrogates(more[: len(more) - len(segment.held)])

    @property
    def calls(self) -> list[Segment]:
        """The tool calls so far."""
        return [segment for segment in self.segments if segment.kind == "call"]

    def joined(self, kind: str) -> str:
        """All text, or all reasoning, so far."""
        return "".join(s.content.getvalue() for s in self.segments if s.kind == kind)

    def ended(self, reason: FinishReason, raw: str | None) -> None:
        """The end marker has come."""
        self.finish_reason, self.raw_finish_reason = reason, raw

    def result(self, info: ModelInfo, seed: int | None) -> GenerationResult:
        """The whole answer, which ``seed`` has shaped where the vendor takes one."""
        parts = tuple(p for p in (segment.part() for segment in self.segments) if p is not None)
        reason = self.finish_reason or FinishReason.OTHER
        calls = tuple(part for part in parts if isinstance(part, ToolCall))
        if reason is FinishReason.STOP and (self.refusal or calls):
            # A forced call ends with "stop" at OpenAI, and every call with STOP at Gemini.
            reason = FinishReason.REFUSAL if self.refusal else FinishReason.TOOL_CALLS
        return GenerationResult(
            text="".join(part.text for part in parts if isinstance(part, TextPart)),
            reasoning="".join(part.text for part in parts if isinstance(part, ReasoningPart)),
            tool_calls=calls,
            parts=parts,
            model=info.name,
            finish_reason=reason,
            raw_finish_reason=self.raw_finish_reason,
            refusal=self.refusal or None,
            usage=self.usage,
            seed=seed,
            logprobs=tuple(self.logprobs),
        )


class AnswerParser(ABC):
    """A vendor's parser of one streamed answer; see ``adapter.StreamParser`` for its contract."""

    end_marker: str
    """What ends a stream well, for people."""
    takes_seed = False

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        self.info, self.request = info, request
        self.answer = Answer()
        self.done = False
        self.is_whole = False

    @property
    def seed(self) -> int | None:
        """The seed that the vendor took."""
        return self.request.options.seed if self.takes_seed else None

    @property
    def text(self) -> str:
        """The text so far."""
        return self.answer.joined("text")

    @abstractmethod
    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """What an event says; raises ``MalformedError``."""

    def feed(self, event: ServerSentEvent) -> Sequence[Event]:
        """What an event says; raises the error that it carries, with the text so far."""
        try:
            return self.read(event)
        except MalformedError as error:
            raise self.malformed(error) from error

    @abstractmethod
    def read_answer(self, value: Any) -> None:
        """Read an answer that was not streamed; raises ``MalformedError``."""

    def whole(self, body: bytes) -> GenerationResult:
        """The result of an answer that was not streamed."""
        self.is_whole = True
        try:
            self.read_answer(load_json(body))
        except (MalformedError, RecursionError) as error:
            raise self.malformed(error) from error
        return self.answer.result(self.info, self.seed)

    def finish(self) -> GenerationResult:
        """The whole answer; raises ``InterruptedStreamError`` where its end has not come."""
        if self.answer.finish_reason is None:
            raise InterruptedStreamError(
                self.info.name,
                f"the stream ended without its {self.end_marker}; what had arrived is in "
                "partial_text. Ask again to get a whole answer.",
                retryable=True,
                partial_text=self.text,
            )
        return self.answer.result(self.info, self.seed)

    def malformed(self, error: Exception) -> ProtocolError:
        """The error for an event that does not follow the protocol."""
        return ProtocolError(
            self.info.name,
            f"the answer does not follow the vendor's protocol: {error}",
            partial_text=self.text,
        )

    def failure(self, value: Any) -> ModelError:
        """The typed error of an error event, or of a whole answer that is one."""
        status = 200 if self.is_whole else IN_STREAM
        return typed_error(self.info, read_failure(value), status=status, partial_text=self.text)
