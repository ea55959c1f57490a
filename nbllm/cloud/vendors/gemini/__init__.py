"""Gemini: https://ai.google.dev/api.

The stream is asked for with ``alt=sse``; it ends where the connection ends, and its last chunk
has a ``finishReason``. A server that answers with a JSON array of chunks is understood too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nbllm.cloud.adapter import Adapter, HttpRequest, StreamParser
from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.answer_parser import AnswerParser
from nbllm.cloud.vendors.api_errors import parse_error
from nbllm.cloud.vendors.embeddings import embeddings_of, models_in, name_in, reading
from nbllm.cloud.vendors.gemini.contents_requests import (
    BASE_URL,
    CALL_PREFIX,
    VENDOR,
    content_body,
    count_body,
    model_path,
)
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    sequence,
    text,
)
from nbllm.cloud.vendors.usage import embedding_usage, gemini_usage
from nbllm.core.answer import Segment
from nbllm.core.errors import ModelError
from nbllm.core.types import (
    Embeddings,
    Event,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
)

__all__ = ["ADAPTER", "ContentParser", "GeminiAdapter"]

_MOST_INPUTS = 100
"""As many texts as batchEmbedContents takes."""

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
_USABLE = {"generateContent", "embedContent"}


class GeminiAdapter:
    """Gemini's protocol."""

    default_base_url = BASE_URL
    default_key_env = "GEMINI_API_KEY"

    def key_headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""
        return {"x-goog-api-key": key}

    def generation_request(
        self, info: ModelInfo, request: GenerationRequest, *, stream: bool
    ) -> HttpRequest:
        """Ask for an answer."""
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return HttpRequest(_method(info, method), content_body(info, request))

    def stream_parser(self, info: ModelInfo, request: GenerationRequest) -> StreamParser:
        """A parser for one streamed answer to this request."""
        return ContentParser(info, request)

    def parse_answer(
        self, info: ModelInfo, request: GenerationRequest, body: bytes
    ) -> GenerationResult:
        """A whole answer that was not streamed, or a stream as a JSON array."""
        return ContentParser(info, request).whole(body)

    def parse_error(
        self, info: ModelInfo, status: int, headers: Mapping[str, str], body: bytes
    ) -> ModelError:
        """The typed error of an answer whose status is not 2xx."""
        return parse_error(info, status, headers, body)

    def embedding_requests(self, info: ModelInfo, texts: Sequence[str]) -> Sequence[HttpRequest]:
        """Ask for vectors, at most 100 a request."""
        requests = [
            {"model": model_path(info), "content": {"parts": [{"text": item}]}} for item in texts
        ]
        batches = [
            requests[start : start + _MOST_INPUTS]
            for start in range(0, len(requests), _MOST_INPUTS)
        ]
        path = _method(info, "batchEmbedContents")
        return [HttpRequest(path, {"requests": batch}, texts=len(batch)) for batch in batches]

    def parse_embeddings(self, info: ModelInfo, bodies: Sequence[bytes]) -> Embeddings:
        """The vectors of all requests, in the order of the texts."""
        with reading(info):
            answers = [mapping(load_json(body), "the response") for body in bodies]
            used = [mapping(answer.get("usageMetadata"), "usage") for answer in answers]
            usage = embedding_usage([each.get("promptTokenCount") for each in used])
            return embeddings_of(info, list(map(_rows, answers)), usage)

    def count_request(self, info: ModelInfo, request: GenerationRequest) -> HttpRequest | None:
        """Ask for the exact number of prompt tokens."""
        return HttpRequest(_method(info, "countTokens"), count_body(info, request))

    def parse_count(self, info: ModelInfo, body: bytes) -> int:
        """The number of prompt tokens."""
        with reading(info):
            answer = mapping(load_json(body), "the response")
            if "totalTokens" not in answer:
                raise MalformedError("the response has no totalTokens")
            return count(answer["totalTokens"])

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        """Ask for a page of models."""
        token = f"&pageToken={quote(page, safe='')}" if page else ""
        return HttpRequest(_path(info, f"models?pageSize=1000{token}"), method="GET")

    def parse_list(self, info: ModelInfo, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """The models of a page that generate or embed, and the next page."""
        with reading(info):
            answer = mapping(load_json(body), "the response")
            listed = answer.get("models", None if answer else [])  # Google leaves out what is empty
            items = models_in(listed)
            models = [_model(info, item) for item in items if _is_usable(item)]
            return models, text(answer.get("nextPageToken"), "nextPageToken") or None


ADAPTER: Adapter = GeminiAdapter()


def _rows(answer: Mapping[str, Any]) -> list[list[Any]]:
    """The vectors of one request; embedContent, which takes a single text, says "embedding"."""
    items = answer.get("embeddings", [answer.get("embedding")])
    return [
        sequence(mapping(item, "an embedding").get("values"), "values")
        for item in sequence(items, "embeddings")
    ]


def _path(info: ModelInfo, rest: str) -> str:
    """The path behind a base URL, which people give with its version or without."""
    base = (info.base_url or "").rstrip("/")
    return rest if base.endswith(("/v1beta", "/v1", "/v1alpha")) else f"v1beta/{rest}"


def _method(info: ModelInfo, method: str) -> str:
    return _path(info, f"{quote(model_path(info))}:{method}")


def _is_usable(item: Mapping[str, Any]) -> bool:
    methods = item.get("supportedGenerationMethods")
    return not isinstance(methods, list) or any(method in _USABLE for method in methods)


def _model(info: ModelInfo, item: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        name=name_in(item, "name").removeprefix("models/"),
        model_type=info.model_type,
        local=False,
        base_url=info.base_url,
        api_key_env=info.api_key_env,
        context_length=count(item.get("inputTokenLimit")) or None,
        source="vendor",
    )


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
