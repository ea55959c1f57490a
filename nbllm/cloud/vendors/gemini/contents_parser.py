"""Answers of Gemini's API: https://ai.google.dev/api/generate-content.

The stream ends where the connection ends, and its last chunk has a ``finishReason``. A server that
answers with a JSON array of chunks is understood too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.answer_parser import AnswerParser
from nbllm.cloud.vendors.gemini.contents_requests import BASE_URL, CALL_PREFIX, VENDOR
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    sequence,
    text,
)
from nbllm.cloud.vendors.token_counts import known_count
from nbllm.core.answer import Segment
from nbllm.core.types import (
    Event,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
    Usage,
)

__all__ = ["ContentParser", "gemini_usage"]

_FINISH_REASONS = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
        ),
        FinishReason.CONTENT_FILTER,
    ),
}


class ContentParser(AnswerParser):
    """Reads chunks, each of which is shaped like a whole answer. Only the first candidate counts.

    Parts that are not known here (code that ran at Google, inline data) are kept for the vendor.
    """

    end_marker = "finishReason"
    base_url = BASE_URL
    takes_seed = True

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        super().__init__(info, request)
        self._usage: dict[str, Any] = {}

    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """A chunk."""
        if not event.data or event.data.isspace():
            return ()
        if event.data.startswith("[DONE]"):  # proxies add it
            self.done = True
            return ()
        return self._read_chunk(load_json(event.data))

    def finish(self) -> GenerationResult:
        """The whole answer; raises ``InterruptedStreamError`` where its end has not come."""
        self.answer.usage = gemini_usage(self._usage)
        return super().finish()

    def read_answer(self, value: Any) -> None:
        """A whole answer, or an array of chunks."""
        chunks = value if isinstance(value, list) else [value]
        for chunk in chunks:
            self._read_chunk(chunk)
        if isinstance(value, list):
            self.finish()
        elif not {"candidates", "promptFeedback"} & mapping(value, "the response").keys():
            raise MalformedError("the response has no candidates")
        self.answer.usage = gemini_usage(self._usage)

    def _read_chunk(self, value: object) -> Sequence[Event]:
        if isinstance(value, list) and value:  # errors come as an array of one element, at times
            value = value[0]
        chunk = mapping(value, "the chunk")
        if chunk.get("error"):
            raise self.failure(chunk)
        # Every chunk has it and the last one counts, so it is read at the end; a last one that
        # leaves a count out does not take it back.
        self._usage |= mapping(chunk.get("usageMetadata"), "usageMetadata")
        candidates = sequence(chunk.get("candidates"), "candidates")
        if not candidates:
            self._read_block(mapping(chunk.get("promptFeedback"), "promptFeedback"))
        events: list[Event] = []
        for item in candidates:
            candidate = mapping(item, "a candidate")
            if not candidate.get("index"):
                self._read_candidate(candidate, events)
        return events

    def _read_block(self, feedback: Mapping[str, Any]) -> None:
        """A prompt that was blocked gets no candidates, and this in their place."""
        reason = text(feedback.get("blockReason"), "blockReason")
        if reason:
            told = text(feedback.get("blockReasonMessage"), "blockReasonMessage")
            self.answer.refusal = told or f"the prompt was blocked: {reason}"
            self.answer.ended(FinishReason.CONTENT_FILTER, reason)

    def _read_candidate(self, candidate: Mapping[str, Any], events: list[Event]) -> None:
        content = mapping(candidate.get("content"), "content")
        for item in sequence(content.get("parts"), "parts"):
            self._read_part(mapping(item, "a part"), events)
        raw = text(candidate.get("finishReason"), "finishReason")
        if not raw or raw == "FINISH_REASON_UNSPECIFIED":
            return
        reason = _FINISH_REASONS.get(raw, FinishReason.OTHER)
        self.answer.ended(reason, raw)
        if reason is FinishReason.CONTENT_FILTER:
            told = text(candidate.get("finishMessage"), "finishMessage")
            self.answer.refusal = told or f"the answer was blocked: {raw}"

    def _read_part(self, part: Mapping[str, Any], events: list[Event]) -> None:
        signature = text(part.get("thoughtSignature"), "thoughtSignature") or None
        if part.get("functionCall"):
            call = mapping(part["functionCall"], "functionCall")
            events += self._read_call(call, signature)
        elif part.get("thought"):
            events += self.answer.reasoning(text(part.get("text"), "text"))
            if signature:
                self.answer.open("reasoning").signature = signature
        elif "text" not in part and not part.keys() <= {"thoughtSignature"}:
            segment = self.answer.add(Segment("vendor", name=VENDOR))
            segment.content.write(json.dumps(part, ensure_ascii=False))
        else:
            events += self.answer.text(text(part.get("text"), "text"))
            if signature:
                self.answer.add(Segment("reasoning", signature=signature))

    def _read_call(self, call: Mapping[str, Any], signature: str | None) -> Sequence[Event]:
        identity = text(call.get("id"), "id") or f"{CALL_PREFIX}{len(self.answer.calls)}"
        segment = Segment(
            "call", id=identity, name=text(call.get("name"), "name"), signature=signature
        )
        self.answer.add(segment)
        arguments = json.dumps(mapping(call.get("args"), "args"), ensure_ascii=False)
        return self.answer.call(segment, arguments, first=True)


def gemini_usage(usage: Mapping[str, Any]) -> Usage:
    """That of Gemini, which counts thoughts apart from candidates, and leaves out what is 0."""
    if not usage:
        return Usage()
    thoughts, tools = count(usage.get("thoughtsTokenCount")), "toolUsePromptTokenCount"
    completion = count(usage.get("candidatesTokenCount")) + thoughts
    prompt = known_count(usage, "promptTokenCount")
    if prompt is not None:
        prompt += count(usage.get(tools))
    elif (total := known_count(usage, "totalTokenCount")) is not None and total >= completion:
        prompt = total - completion
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )
