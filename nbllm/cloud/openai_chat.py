"""Answers of OpenAI's Chat Completions, and of the many servers that speak it in their own way.

Source: https://platform.openai.com/docs/api-reference/chat/streaming. What other servers add is
read where they are named below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.answer import AnswerParser
from nbllm.cloud.error_bodies import is_failure
from nbllm.cloud.sse import ServerSentEvent
from nbllm.cloud.wire import MalformedError, count, load_json, mapping, sequence, text
from nbllm.core.answer import Segment
from nbllm.core.types import (
    Event,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    TokenLogprob,
    Usage,
)

__all__ = ["ChatParser"]

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class ChatParser(AnswerParser):
    """Reads chunks, and a whole answer as if it were one chunk. Only the first choice counts."""

    wraps_values = True
    end_marker = "finish_reason"
    takes_seed = True

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        super().__init__(info, request)
        self._calls: list[tuple[object, Segment]] = []
        self._counted = False

    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """A chunk, or ``[DONE]``."""
        if event.data.startswith("[DONE]"):
            self._read_done()
            return ()
        if not event.data or event.data.isspace():
            return ()
        chunk = mapping(load_json(event.data), "the chunk")
        if is_failure(chunk) or event.event == "error":
            raise self.failure(chunk)
        if usage := chunk.get("usage"):
            self.answer.usage = _usage(usage)
            self._counted = True
        events: list[Event] = []
        for item in sequence(chunk.get("choices"), "choices"):
            choice = mapping(item, "a choice")
            if not choice.get("index"):
                self._read_choice(choice, "delta", events)
        return events

    def read_answer(self, value: Any) -> None:
        """A whole answer."""
        answer = mapping(value, "the answer")
        if is_failure(answer):
            raise self.failure(answer)
        self.answer.usage = _usage(answer.get("usage"))
        choices = [mapping(c, "a choice") for c in sequence(answer.get("choices"), "choices")]
        if not choices:
            raise MalformedError("the answer has no choices")
        first = next((choice for choice in choices if not choice.get("index")), choices[0])
        self._read_choice(first, "message", [])

    def _read_done(self) -> None:
        """The last event. Alone it proves nothing: proxies send it when the model behind breaks.

        Some models on OpenRouter never get a finish_reason; there the usage, which is counted
        when the answer is whole, and this together are the end.
        """
        self.done = True
        if self.answer.finish_reason is None and self._counted:
            reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.OTHER
            self.answer.ended(reason, None)

    def _read_choice(self, choice: Mapping[str, Any], key: str, events: list[Event]) -> None:
        delta = mapping(choice.get(key), key)
        content = delta.get("content")
        if len(delta) > 1 or content is None:
            events.extend(self.answer.reasoning(_reasoning(delta)))
        if content.__class__ is str:
            events.extend(self.answer.text(content))
        elif content is not None:
            self._read_pieces(sequence(content, "content"), events)
        if len(delta) > 1 or content is None:
            self.answer.refusal += text(delta.get("refusal"), "refusal")
            self._read_calls(delta, events)
        if choice.get("logprobs"):
            told = mapping(choice["logprobs"], "logprobs")
            self.answer.logprobs += map(_logprob, sequence(told.get("content"), "content"))
        if choice.get("finish_reason") is not None:
            self._read_end(choice)

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
            events.extend(self.answer.text(text(piece.get("text"), "text")))

    def _read_end(self, choice: Mapping[str, Any]) -> None:
        if choice.get("error"):  # OpenRouter's way to tell that the model behind it broke
            raise self.failure(choice)
        reason = text(choice.get("finish_reason"), "finish_reason")
        if reason:
            self.answer.ended(_FINISH_REASONS.get(reason, FinishReason.OTHER), reason)

    def _read_calls(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        for item in sequence(delta.get("tool_calls"), "tool_calls"):
            self._read_call(mapping(item, "a tool call"), events)
        if delta.get("function_call"):  # what tool_calls replaced
            self._read_call({"function": delta["function_call"]}, events)

    def _read_call(self, call: Mapping[str, Any], events: list[Event]) -> None:
        custom = mapping(call.get("custom"), "custom")
        function = mapping(call.get("function"), "function") or custom
        name = text(function.get("name"), "name")
        arguments = text(function.get("arguments") or custom.get("input"), "arguments")
        identity = text(call.get("id"), "id")
        segment = self._known(call.get("index"), identity, name)
        first = segment is None
        if segment is None:
            segment = self.answer.add(Segment("call", id=identity, name=name))
            self._calls.append((call.get("index"), segment))
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


def _logprob(value: object) -> TokenLogprob:
    token = mapping(value, "a log-probability")
    number, data = token.get("logprob"), token.get("bytes")
    if not isinstance(number, int | float):
        raise MalformedError("a log-probability is no number")
    try:
        octets = bytes(data) if isinstance(data, list) else None
    except (TypeError, ValueError):
        raise MalformedError("a token's bytes are no bytes") from None
    top = tuple(map(_logprob, sequence(token.get("top_logprobs"), "top_logprobs")))
    return TokenLogprob(text(token.get("token"), "token"), float(number), octets, top)


def _reasoning(delta: Mapping[str, Any]) -> str:
    """DeepSeek and llama-server have one name for it, OpenRouter and newer vLLM the other."""
    value = delta.get("reasoning_content") or delta.get("reasoning")
    return text(value, "reasoning") if value else ""


def _google_signature(call: Mapping[str, Any]) -> str | None:
    """What Gemini's imitation of this API wants back with the call."""
    google = mapping(call.get("extra_content"), "extra_content").get("google")
    return text(mapping(google, "google").get("thought_signature"), "signature") or None


def _usage(value: object) -> Usage:
    usage = value if isinstance(value, dict) else {}
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = prompt.get("cached_tokens") if isinstance(prompt, dict) else None
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens")  # DeepSeek
    reasoning = completion.get("reasoning_tokens") if isinstance(completion, dict) else None
    return Usage(
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        cached_tokens=count(cached),
        reasoning_tokens=count(reasoning),
    )
