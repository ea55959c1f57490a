"""Answers of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. The stream ends with
``response.completed``, ``response.incomplete`` or ``response.failed``; names that are not known
here (tools that run at OpenAI, ``keepalive``) are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.answer_parser import AnswerParser
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    json_text,
    load_json,
    mapping,
    sequence,
    text,
)
from nbllm.cloud.vendors.openai.answer_parts import responses_usage
from nbllm.cloud.vendors.openai.responses_requests import BASE_URL, sealed
from nbllm.cloud.vendors.openai.strict_schemas import answer_to
from nbllm.core.answer import Answer, Segment
from nbllm.core.types import Event, FinishReason, GenerationRequest, ModelInfo

__all__ = ["ResponsesParser"]

_INCOMPLETE = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class ResponsesParser(AnswerParser):
    """Reads named events, and a whole answer item by item."""

    end_marker = "response.completed"
    base_url = BASE_URL

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        super().__init__(info, request)
        self._items: dict[int, Segment] = {}
        self._summary: dict[int, object] = {}

    def empty_answer(self, signer: str) -> Answer:
        """What the events are told to."""
        return answer_to(self.request, signer)

    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """One named event."""
        if event.data.startswith("[DONE]"):  # vLLM and others send it although OpenAI does not
            self.done = True
            return ()
        if not event.data or event.data.isspace():
            return ()
        value = mapping(load_json(event.data), "the event")
        kind = text(value.get("type"), "type") or event.event
        if kind == "response.output_text.delta":
            return self.answer.text(text(value.get("delta"), "delta"))
        if kind == "error" or (kind == "message" and value.get("error")):
            raise self.failure(value)
        if kind in _ENDS:
            return self._read_end(mapping(value.get("response"), "response"))
        return self._read_other(kind, value)

    def read_answer(self, value: Any) -> None:
        """A whole answer."""
        response = mapping(value, "the response")
        if "output" not in response and "status" not in response and not response.get("error"):
            raise MalformedError("the response has no output")
        self._read_end(response)

    def _read_other(self, kind: str, value: Mapping[str, Any]) -> Sequence[Event]:
        match kind:
            case "response.refusal.delta":
                self.answer.refusal += text(value.get("delta"), "delta")
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return self._read_reasoning(value)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                segment = self._items.get(_place(value))
                if segment is not None and segment.kind == "call":
                    return self.answer.call(segment, text(value.get("delta"), "delta"))
            case "response.output_item.added":
                item = mapping(value.get("item"), "item")
                return self._read_item(_place(value), item)
            case "response.output_item.done":
                return self._read_done(value)
            case _:
                pass
        return ()

    def _read_reasoning(self, value: Mapping[str, Any]) -> Sequence[Event]:
        """More of a summary, whose parts are paragraphs."""
        index = _place(value)
        segment = self._items.get(index)
        if segment is None or segment.kind != "reasoning":
            segment = self._items[index] = self.answer.add(Segment("reasoning"))
        part = (value.get("summary_index"), value.get("content_index"))
        begins = segment.content.tell() > 0 and self._summary.get(index) != part
        self._summary[index] = part
        delta = text(value.get("delta"), "delta")
        return self.answer.grow(segment, f"\n\n{delta}" if begins else delta) if delta else ()

    def _read_item(self, index: int, item: Mapping[str, Any]) -> Sequence[Event]:
        """The beginning of an item, with the content that it may have at once."""
        kind = item.get("type")
        if kind in ("function_call", "custom_tool_call"):
            identity = text(item.get("call_id") or item.get("id"), "call_id")
            segment = Segment("call", id=identity, name=text(item.get("name"), "name"))
            self._items[index] = self.answer.add(segment)
            arguments = json_text(item.get("arguments") or item.get("input"), "arguments")
            return self.answer.call(segment, arguments, first=True)
        if kind == "reasoning":
            self._items[index] = self.answer.add(Segment("reasoning"))
        return ()

    def _read_done(self, value: Mapping[str, Any]) -> Sequence[Event]:
        """The end of an item, with what no delta has brought."""
        index, item = _place(value), mapping(value.get("item"), "item")
        segment = self._items.get(index)
        events: list[Event] = []
        if segment is None and item.get("type") in ("function_call", "custom_tool_call"):
            return self._read_item(index, item)
        if segment is None:
            return ()
        if segment.kind == "reasoning":
            if not segment.content.tell():
                events += self.answer.grow(segment, _summary_text(item))
            segment.signature = _signature(item)
        elif not segment.content.tell():
            arguments = json_text(item.get("arguments") or item.get("input"), "arguments")
            events += self.answer.call(segment, arguments)
        return events

    def _read_end(self, response: Mapping[str, Any]) -> Sequence[Event]:
        """The whole response, which ends a stream or is all of an answer."""
        status = text(response.get("status"), "status")
        if status in ("failed", "cancelled") or response.get("error"):
            raise self.failure(
                response if response.get("error") else {"message": f"the response has {status}"}
            )
        events = self._read_missing(sequence(response.get("output"), "output"))
        self.answer.usage = responses_usage(response.get("usage"))
        details = mapping(response.get("incomplete_details"), "incomplete_details")
        raw = text(details.get("reason"), "reason") or status or "completed"
        self.answer.ended(_INCOMPLETE.get(raw, _finish_reason(status)), raw)
        self.done = True
        return events

    def _read_missing(self, output: Sequence[Any]) -> list[Event]:
        """What no event before the end has brought: all of an answer that was not streamed."""
        kinds = {segment.kind for segment in self.answer.segments}
        is_refused = bool(self.answer.refusal)
        events: list[Event] = []
        for index, value in enumerate(output):
            item = mapping(value, "item")
            if item.get("type") == "message":
                events += self._read_message(item, text_too="text" not in kinds, refused=is_refused)
            elif not kinds:
                events += self._read_whole_item(index, item)
        return events

    def _read_whole_item(self, index: int, item: Mapping[str, Any]) -> Sequence[Event]:
        events = list(self._read_item(index, item))
        segment = self._items.get(index)
        if segment is not None and segment.kind == "reasoning":
            events += self.answer.grow(segment, _summary_text(item))
            segment.signature = _signature(item)
        return events

    def _read_message(
        self, item: Mapping[str, Any], *, text_too: bool, refused: bool
    ) -> Sequence[Event]:
        events: list[Event] = []
        for entry in sequence(item.get("content"), "content"):
            part = mapping(entry, "a part")
            if not refused:
                self.answer.refusal += text(part.get("refusal"), "refusal")
            if text_too and part.get("type") == "output_text":
                events += self.answer.text(text(part.get("text"), "text"))
        return events


def _place(value: Mapping[str, Any]) -> int:
    return count(value.get("output_index"))


def _finish_reason(status: str) -> FinishReason:
    return FinishReason.STOP if status in ("completed", "") else FinishReason.OTHER


def _signature(item: Mapping[str, Any]) -> str | None:
    encrypted = text(item.get("encrypted_content"), "encrypted_content")
    return sealed(text(item.get("id"), "id"), encrypted)


def _summary_text(item: Mapping[str, Any]) -> str:
    """The summary of the reasoning, or the reasoning itself, which open models show."""
    parts = sequence(item.get("summary"), "summary") or sequence(item.get("content"), "content")
    texts = [text(mapping(part, "a part").get("text"), "text") for part in parts]
    return "\n\n".join(filter(None, texts))
