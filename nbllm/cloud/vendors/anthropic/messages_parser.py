"""Answers of Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages-streaming."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.answer_parser import AnswerParser
from nbllm.cloud.vendors.anthropic.messages_requests import BASE_URL, VENDOR, unwanted_sampling
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    sequence,
    text,
)
from nbllm.cloud.vendors.request_errors import sampling_note
from nbllm.cloud.vendors.token_counts import as_object, cost_of, known_count
from nbllm.core.answer import Segment
from nbllm.core.types import Event, FinishReason, GenerationRequest, ModelInfo, Usage

__all__ = ["MessagesParser", "messages_usage"]

_FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}


class MessagesParser(AnswerParser):
    """Reads events, and a whole message block by block.

    Blocks that are not known here (tools that ran at Anthropic and their results, redacted
    thinking) are kept for the vendor.
    """

    end_marker = "message_stop"
    base_url = BASE_URL

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        super().__init__(info, request)
        self.answer.notes = sampling_note(unwanted_sampling(info, request.options))
        self._blocks: dict[int, Segment] = {}
        self._inputs: dict[int, object] = {}
        self._foreign: dict[int, dict[str, Any]] = {}
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None

    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """One named event."""
        if not event.data or event.data.isspace() or event.event == "ping":
            return ()
        if event.event == "error":
            raise self.failure(_lenient(event.data))
        value = mapping(load_json(event.data), "the event")
        match text(value.get("type"), "type") or event.event:
            case "content_block_delta":
                return self._read_delta(value)
            case "content_block_start":
                return self._read_start(value)
            case "content_block_stop":
                return self._read_stop(_place(value))
            case "message_start":
                return self._read_message(mapping(value.get("message"), "message"))
            case "message_delta":
                self._read_usage(value)
                self._read_reason(mapping(value.get("delta"), "delta"))
            case "message_stop":
                self._end()
            case "error":
                raise self.failure(value)
            case _:
                pass
        return ()

    def read_answer(self, value: Any) -> None:
        """A whole message."""
        message = mapping(value, "the response")
        if message.get("type") == "error" or message.get("error"):
            raise self.failure(message)
        if not isinstance(message.get("content"), list):
            raise MalformedError("the response has no content")
        self._read_message(message)
        self._end()

    def _read_message(self, message: Mapping[str, Any]) -> Sequence[Event]:
        """A whole message, or the beginning of a streamed one.

        That has blocks already where a tool of Anthropic's had the program go on that it runs.
        """
        events: list[Event] = []
        for index, block in enumerate(sequence(message.get("content"), "content")):
            events += self._read_start({"index": index, "content_block": block})
            events += self._read_stop(index)
        self._read_usage(message)
        self._read_reason(message)
        return events

    def _read_start(self, value: Mapping[str, Any]) -> Sequence[Event]:
        """The beginning of a block, with the content that it may have at once."""
        index, block = _place(value), mapping(value.get("content_block"), "content_block")
        match block.get("type"):
            case "text":
                return self._begin(index, Segment("text"), block.get("text"))
            case "thinking":
                events = self._begin(index, Segment("reasoning"), block.get("thinking"))
                self._sign(index, block.get("signature"))
                return events
            case "tool_use":
                segment = Segment("call", id=text(block.get("id"), "id"))
                segment.name = text(block.get("name"), "name")
                self._blocks[index] = self.answer.add(segment)
                self._inputs[index] = block.get("input")
                return self.answer.call(segment, first=True)
            case _:
                self._blocks[index] = self.answer.add(Segment("vendor", name=VENDOR))
                self._foreign[index] = dict(block)
        return ()

    def _begin(self, index: int, segment: Segment, content: object) -> Sequence[Event]:
        self._blocks[index] = self.answer.add(segment)
        return self.answer.grow(segment, text(content, "content"))

    def _read_delta(self, value: Mapping[str, Any]) -> Sequence[Event]:
        delta, segment = mapping(value.get("delta"), "delta"), self._blocks.get(_place(value))
        if segment is None:
            return ()
        match delta.get("type"), segment.kind:
            case "text_delta", "text":
                return self.answer.grow(segment, text(delta.get("text"), "text"))
            case "thinking_delta", "reasoning":
                return self.answer.grow(segment, text(delta.get("thinking"), "thinking"))
            case "signature_delta", "reasoning":
                self._sign(_place(value), delta.get("signature"))
            case "input_json_delta", "call":
                return self.answer.call(segment, text(delta.get("partial_json"), "partial_json"))
            case _, "vendor":
                _extend(self._foreign[_place(value)], delta)
            case _:
                pass
        return ()

    def _sign(self, index: int, signature: object) -> None:
        segment = self._blocks.get(index)
        if segment is not None and (signed := text(signature, "signature")):
            segment.signature = signed

    def _read_stop(self, index: int) -> Sequence[Event]:
        """The end of a block; a call without deltas has its arguments in its beginning."""
        segment = self._blocks.get(index)
        if segment is None or segment.content.tell():
            return ()
        if segment.kind == "vendor":
            segment.content.write(_finished(self._foreign[index]))
        if segment.kind != "call":
            return ()
        arguments = json.dumps(self._inputs.get(index) or {}, ensure_ascii=False)
        return self.answer.call(segment, arguments)

    def _read_usage(self, value: Mapping[str, Any]) -> None:
        """Counts are totals so far; what a later event leaves out keeps its value."""
        usage = value.get("usage")
        if not isinstance(usage, dict):
            return
        self._usage |= {key: number for key, number in usage.items() if number is not None}
        self.answer.usage = messages_usage(self._usage)

    def _read_reason(self, value: Mapping[str, Any]) -> None:
        self._stop_reason = text(value.get("stop_reason"), "stop_reason") or self._stop_reason
        details = mapping(value.get("stop_details"), "stop_details")
        if self._stop_reason == "refusal":
            told = details.get("explanation") or details.get("category")
            self.answer.refusal = text(told, "stop_details") or "the model declined to answer"

    def _end(self) -> None:
        raw = self._stop_reason
        self.answer.ended(_FINISH_REASONS.get(raw or "", FinishReason.OTHER), raw)
        self.done = True


def _extend(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """More of a block that is not known here: texts grow, all else is replaced."""
    for key, value in delta.items():
        old = block.get(key)
        if key != "type":
            block[key] = old + value if isinstance(old, str) and isinstance(value, str) else value


def _finished(block: dict[str, Any]) -> str:
    """A block that is not known here, with the input that came in pieces in its place."""
    pieces = block.pop("partial_json", None)
    if isinstance(pieces, str) and pieces:
        block["input"] = load_json(pieces)
    return json.dumps(block, ensure_ascii=False)


def _place(value: Mapping[str, Any]) -> int:
    return count(value.get("index"))


def _lenient(data: str) -> Any:
    """An error that is no JSON is its own text."""
    try:
        return load_json(data)
    except MalformedError:
        return {"message": data}


def messages_usage(usage: Mapping[str, Any]) -> Usage:
    """That of Anthropic's Messages API, whose input counts have nothing in common."""
    read = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    fresh = known_count(usage, "input_tokens")
    return Usage(
        prompt_tokens=None if fresh is None else fresh + read + written,
        completion_tokens=known_count(usage, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(
            as_object(usage.get("output_tokens_details")).get("thinking_tokens")
        ),
        cost_usd=cost_of(usage),
    )
