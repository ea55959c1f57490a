"""Answers of OpenAI's Chat Completions, and of the many servers that speak it in their own way.

Source: https://platform.openai.com/docs/api-reference/chat/streaming. What other servers add is
read where they are named below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.answer_parser import AnswerParser
from nbllm.cloud.vendors.error_bodies import is_failure
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    json_text,
    load_json,
    mapping,
    sequence,
    text,
)
from nbllm.cloud.vendors.openai.answer_parts import (
    InlineReasoning,
    Piece,
    chat_usage,
    read_logprobs,
)
from nbllm.cloud.vendors.openai.chat_requests import is_openai
from nbllm.cloud.vendors.openai.strict_schemas import answer_to
from nbllm.core.answer import Answer, Segment
from nbllm.core.messages import INLINE
from nbllm.core.types import (
    Event,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
)

__all__ = ["ChatParser"]

_FINISH_REASONS = {
    **dict.fromkeys(
        # OpenAI, Together, Hugging Face, proxies of Anthropic's, Cohere
        ("stop", "", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn", "complete"),
        FinishReason.STOP,
    ),
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length"), FinishReason.LENGTH),
    **dict.fromkeys(
        ("tool_calls", "function_call", "tool_call", "tool_use"), FinishReason.TOOL_CALLS
    ),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "sensitive"), FinishReason.CONTENT_FILTER
    ),
    "refusal": FinishReason.REFUSAL,
    "error": FinishReason.FAILED,  # Mistral; OpenRouter says more beside it
}
_JSON_TYPES = (dict, list, int, float)


class ChatParser(AnswerParser):
    """Reads chunks, and a whole answer as if it were one chunk. Only the first choice counts."""

    end_marker = "finish_reason"
    takes_seed = True

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        super().__init__(info, request)
        self.answer.signer = "gemini"  # nobody else's signatures come this way
        self._calls: list[tuple[object, Segment]] = []
        self._counted = False
        self._was_open = self._is_blank_end = False
        # OpenAI's own models write no such marks, unless they are asked for them.
        self._inline = None if is_openai(info) else InlineReasoning()

    def empty_answer(self, signer: str) -> Answer:
        """What the events are told to."""
        return answer_to(self.request, signer)

    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """A chunk, or ``[DONE]``."""
        if event.data.startswith("[DONE]"):
            return self._read_done()
        if not event.data or event.data.isspace():
            return ()
        chunk = mapping(load_json(event.data), "the chunk")
        if is_failure(chunk) or event.event == "error":
            raise self.failure(chunk)
        self._read_usage(chunk)
        events: list[Event] = []
        for item in sequence(chunk.get("choices"), "choices"):
            choice = mapping(item, "a choice")
            if not choice.get("index"):
                self._read_choice(choice, "delta", events)
        return events

    def read_answer(self, value: Any) -> None:
        """A whole answer."""
        answer = mapping(value, "the response")
        if is_failure(answer):
            raise self.failure(answer)
        self._read_usage(answer)
        choices = [mapping(c, "a choice") for c in sequence(answer.get("choices"), "choices")]
        if not choices:
            raise MalformedError("the response has no choices")
        first = next((choice for choice in choices if not choice.get("index")), choices[0])
        self._read_choice(first, "message", [])
        self._flush([])

    def finish(self) -> GenerationResult:
        """The whole answer; raises ``InterruptedStreamError`` where its end has not come."""
        self._flush([])
        return super().finish()

    def _read_usage(self, chunk: Mapping[str, Any]) -> None:
        usage = chunk.get("usage") or mapping(chunk.get("x_groq"), "x_groq").get("usage")
        if usage:
            self.answer.usage = chat_usage(usage)
            self._counted = True

    def _read_done(self) -> Sequence[Event]:
        """The last event. Alone it proves nothing: proxies send it when the model behind breaks.

        Some models on OpenRouter never get a finish_reason; there the usage, which is counted
        when the answer is whole, and this together are the end. So is a finish_reason that is
        empty where others were null.
        """
        self.done = True
        events: list[Event] = []
        self._flush(events)
        if self.answer.finish_reason is None and (self._counted or self._is_blank_end):
            usual = FinishReason.STOP if self._is_blank_end else FinishReason.OTHER
            reason = FinishReason.TOOL_CALLS if self._calls else usual
            self.answer.ended(reason, "" if self._is_blank_end else None)
        return events

    def _read_choice(self, choice: Mapping[str, Any], key: str, events: list[Event]) -> None:
        delta = mapping(choice.get(key), key)
        content = delta.get("content")
        if len(delta) > 1 or content is None:
            events.extend(self.answer.reasoning(_reasoning(delta)))
        if content.__class__ is str:
            self._read_text(content, events)
        elif content is not None:
            self._read_content(content, events)
        if len(delta) > 1 or content is None:
            self.answer.refusal += text(delta.get("refusal"), "refusal")
            self._read_calls(delta, events)
        if choice.get("logprobs"):
            self.answer.logprobs += read_logprobs(choice["logprobs"])
        if choice.get("error"):  # OpenRouter's way to tell that the model behind it broke
            raise self.failure(choice)
        reason = choice.get("finish_reason")
        self._is_blank_end = reason == "" and (self._was_open or not content)
        if reason is None:
            self._was_open = True
        elif reason or self.is_whole:
            self._read_end(text(reason, "finish_reason"), events)

    def _read_text(self, more: str, events: list[Event]) -> None:
        if self._inline is None:
            events.extend(self.answer.text(more))
            return
        self._add(self._inline.feed(more), events)
        if self._inline.is_over:
            self._inline = None

    def _flush(self, events: list[Event]) -> None:
        """What was held back because it might have begun a mark."""
        if self._inline is not None:
            self._add(self._inline.finish(), events)

    def _add(self, pieces: Sequence[Piece], events: list[Event]) -> None:
        for kind, piece in pieces:
            if kind == "text":
                events.extend(self.answer.text(piece))
                continue
            events.extend(self.answer.reasoning(piece))
            self.answer.open("reasoning").vendor = INLINE

    def _read_content(self, content: object, events: list[Event]) -> None:
        """Content that is no text: pieces of it, or the value that a schema asked for."""
        if _is_pieces(content):
            self._read_pieces(sequence(content, "content"), events)
        elif isinstance(content, dict) and _is_pieces([content]):
            self._read_pieces([content], events)
        elif isinstance(content, _JSON_TYPES):
            self._read_text(json.dumps(content, ensure_ascii=False), events)
        else:
            raise MalformedError("content is not a string")

    def _read_pieces(self, pieces: list[Any], events: list[Event]) -> None:
        """Mistral's reasoning models write content as a list of thinking and text."""
        for item in pieces:
            piece = mapping(item, "a piece of content")
            thought = piece.get("thinking")
            if isinstance(thought, list):
                thought = "".join(
                    text(mapping(t, "thinking").get("text"), "thinking") for t in thought
                )
            events.extend(self.answer.reasoning(text(thought, "thinking")))
            self._read_text(text(piece.get("text"), "text"), events)

    def _read_end(self, reason: str, events: list[Event]) -> None:
        self._flush(events)
        self.answer.ended(_FINISH_REASONS.get(reason.lower(), FinishReason.OTHER), reason)

    def _read_calls(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        for item in sequence(delta.get("tool_calls"), "tool_calls"):
            self._read_call(mapping(item, "a tool call"), events)
        if delta.get("function_call"):  # what tool_calls replaced
            self._read_call({"function": delta["function_call"]}, events)

    def _read_call(self, call: Mapping[str, Any], events: list[Event]) -> None:
        custom = mapping(call.get("custom"), "custom")
        function = mapping(call.get("function"), "function") or custom
        name = text(function.get("name"), "name")
        arguments = json_text(function.get("arguments") or custom.get("input"), "arguments")
        identity = text(call.get("id"), "id")
        segment = self._known(call.get("index"), identity, name)
        first = segment is None
        if segment is None:
            if not (name or identity or arguments):  # some servers send an empty one all the time
                return
            self._flush(events)
            segment = self.answer.add(Segment("call", id=identity, name=name))
            self._calls.append((call.get("index"), segment))
        elif name and not segment.name:  # the name came after the id
            segment.name, first = name, True
        segment.signature = _google_signature(call) or segment.signature
        events.extend(self.answer.call(segment, arguments, first=first))

    def _known(self, index: object, identity: str, name: str) -> Segment | None:
        """The call that this piece goes on with, None where it begins a new one.

        A whole answer and Gemini's imitation of this API have no index, or always 0: there a new
        id with a name begins a new call.
        """
        for other, segment in reversed(self._calls):
            if other == index:
                begins = bool(name and identity and identity != segment.id)
                return None if begins else segment
        return None


def _is_pieces(content: object) -> bool:
    """Whether this is a list of pieces of content, and not a list that a schema asked for."""
    return isinstance(content, list) and all(
        isinstance(piece, dict) and (isinstance(piece.get("type"), str) or "text" in piece)
        for piece in content
    )


def _reasoning(delta: Mapping[str, Any]) -> str:
    """DeepSeek and llama-server have one name for it, OpenRouter and newer vLLM the other."""
    value = delta.get("reasoning_content") or delta.get("reasoning")
    return text(value, "reasoning") if value else ""


def _google_signature(call: Mapping[str, Any]) -> str | None:
    """What Gemini's imitation of this API wants back with the call."""
    google = mapping(call.get("extra_content"), "extra_content").get("google")
    return text(mapping(google, "google").get("thought_signature"), "signature") or None
