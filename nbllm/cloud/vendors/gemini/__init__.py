"""Gemini: https://ai.google.dev/api. The stream is asked for with ``alt=sse``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nbllm.cloud.adapter import Adapter, HttpRequest, Meaning, StreamParser
from nbllm.cloud.vendors.api_errors import parse_error
from nbllm.cloud.vendors.embeddings import embeddings_of
from nbllm.cloud.vendors.gemini.contents_parser import ContentParser
from nbllm.cloud.vendors.gemini.contents_requests import (
    BASE_URL,
    content_body,
    count_body,
    method_path,
    model_path,
    versioned_path,
)
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    models_in,
    name_in,
    reading,
    sequence,
    text,
)
from nbllm.cloud.vendors.token_counts import embedding_usage
from nbllm.core.errors import ModelError
from nbllm.core.types import Embeddings, GenerationRequest, GenerationResult, ModelInfo
from nbllm.core.vendors import VENDORS

__all__ = ["ADAPTER", "GeminiAdapter"]

_MOST_INPUTS = 100
"""As many texts as batchEmbedContents takes."""

_USABLE = {"generateContent", "embedContent"}
_ERROR_WORDS: Mapping[str, Meaning] = {
    "apikeyinvalid": Meaning.AUTHENTICATION,
    "apikeyexpired": Meaning.AUTHENTICATION,
    "unauthenticated": Meaning.AUTHENTICATION,
    "permissiondenied": Meaning.PERMISSION,
    "resourceexhausted": Meaning.RATE_LIMIT,
    "unavailable": Meaning.OVERLOADED,
}


class GeminiAdapter:
    """Gemini's protocol."""

    default_base_url = BASE_URL
    default_key_env = VENDORS["gemini"].key_variable
    error_words = _ERROR_WORDS

    def key_headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""
        return {"x-goog-api-key": key}

    def generation_request(
        self, info: ModelInfo, request: GenerationRequest, *, stream: bool
    ) -> HttpRequest:
        """Ask for an answer."""
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return HttpRequest(method_path(info, method), content_body(info, request))

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
        path = method_path(info, "batchEmbedContents")
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
        return HttpRequest(method_path(info, "countTokens"), count_body(info, request))

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
        return HttpRequest(versioned_path(info, f"models?pageSize=1000{token}"), method="GET")

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
