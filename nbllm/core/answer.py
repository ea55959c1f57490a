"""An answer while it arrives: events for the reader, and the parts in order.

Whoever reads an engine's or a vendor's stream tells an ``Answer`` what it brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Literal

from nbllm.core.texts import well_formed
from nbllm.core.types import (
    ContentPart,
    Event,
    FinishReason,
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

__all__ = ["Answer", "Segment"]

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
    """A part of the answer that still grows; ``name`` is that of a tool, or of a vendor.

    ``vendor`` is whose ``signature`` it has, where that is not the vendor who answers.
    """

    kind: Literal["text", "reasoning", "call", "vendor"]
    content: StringIO = field(default_factory=_compact_buffer)
    id: str = ""
    name: str = ""
    signature: str | None = None
    held: str = ""
    vendor: str | None = None

    def part(self, signer: str | None = None) -> ContentPart | None:
        """The part as it is now, None where it is empty; ``signer`` is the vendor who answers."""
        vendor = self.vendor or (signer if self.signature else None)
        content = self.content.getvalue() + well_formed(self.held)
        match self.kind:
            case "call":
                return ToolCall(self.id, self.name, content, self.signature, vendor)
            case "reasoning":
                known = content or self.signature
                return ReasoningPart(content, self.signature, vendor) if known else None
            case "vendor":
                return VendorPart(self.name, content) if content else None
            case "text":
                return TextPart(content) if content else None


class Answer:
    """What has arrived of one answer; ``signer`` is the vendor whose signatures its parts have."""

    def __init__(self, signer: str | None = None) -> None:
        self.signer = signer
        self.segments: list[Segment] = []
        self.usage = Usage()
        self.finish_reason: FinishReason | None = None
        self.raw_finish_reason: str | None = None
        self.refusal = ""
        self.logprobs: list[TokenLogprob] = []
        self.notes: tuple[str, ...] = ()

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
        return well_formed(more[: len(more) - len(segment.held)])

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
        every = (segment.part(self.signer) for segment in self.segments)
        parts = tuple(part for part in every if part is not None)
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
            notes=self.notes,
        )
