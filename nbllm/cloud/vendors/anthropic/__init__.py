"""Anthropic: https://platform.claude.com/docs/en/api/messages.

The version of the API is pinned to 2023-06-01. The only later one, 2026-10-21, has nothing that
is needed here and refuses every sampling parameter, which older models still take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nbllm.cloud.adapter import Adapter, HttpRequest, Meaning, StreamParser
from nbllm.cloud.vendors.anthropic.messages_parser import MessagesParser
from nbllm.cloud.vendors.anthropic.messages_requests import (
    BASE_URL,
    VERSION,
    count_body,
    messages_body,
    versioned_path,
)
from nbllm.cloud.vendors.api_errors import parse_error
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    models_in,
    name_in,
    reading,
    text,
)
from nbllm.core.errors import ModelError, UnsupportedError
from nbllm.core.types import Embeddings, GenerationRequest, GenerationResult, ModelInfo
from nbllm.core.vendors import VENDORS

__all__ = ["ADAPTER", "AnthropicAdapter"]

_ERROR_WORDS: Mapping[str, Meaning] = {
    "authentication": Meaning.AUTHENTICATION,
    "permission": Meaning.PERMISSION,
    "ratelimit": Meaning.RATE_LIMIT,
    "overloaded": Meaning.OVERLOADED,
}


class AnthropicAdapter:
    """Anthropic's protocol."""

    default_base_url = BASE_URL
    default_key_env = VENDORS["anthropic"].key_variable
    error_words = _ERROR_WORDS

    def key_headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""
        return {"x-api-key": key}

    def generation_request(
        self, info: ModelInfo, request: GenerationRequest, *, stream: bool
    ) -> HttpRequest:
        """Ask for an answer."""
        body = messages_body(info, request, stream=stream)
        return HttpRequest(versioned_path(info, "messages"), body, VERSION)

    def stream_parser(self, info: ModelInfo, request: GenerationRequest) -> StreamParser:
        """A parser for one streamed answer to this request."""
        return MessagesParser(info, request)

    def parse_answer(
        self, info: ModelInfo, request: GenerationRequest, body: bytes
    ) -> GenerationResult:
        """A whole answer that was not streamed."""
        return MessagesParser(info, request).whole(body)

    def parse_error(
        self, info: ModelInfo, status: int, headers: Mapping[str, str], body: bytes
    ) -> ModelError:
        """The typed error of an answer whose status is not 2xx."""
        return parse_error(info, status, headers, body)

    def embedding_requests(self, info: ModelInfo, texts: Sequence[str]) -> Sequence[HttpRequest]:
        """Anthropic has no embeddings."""
        raise UnsupportedError(
            info.name,
            "Anthropic has no embeddings. Use a model that has them: a local one, OpenAI's "
            "text-embedding-3-small, or Gemini's gemini-embedding-001",
        )

    def parse_embeddings(self, info: ModelInfo, bodies: Sequence[bytes]) -> Embeddings:
        """Anthropic has no embeddings."""
        raise UnsupportedError(info.name, "Anthropic has no embeddings")

    def count_request(self, info: ModelInfo, request: GenerationRequest) -> HttpRequest | None:
        """Ask for the exact number of prompt tokens."""
        return HttpRequest(
            versioned_path(info, "messages/count_tokens"), count_body(info, request), VERSION
        )

    def parse_count(self, info: ModelInfo, body: bytes) -> int:
        """The number of prompt tokens."""
        with reading(info):
            answer = mapping(load_json(body), "the response")
            if "input_tokens" not in answer:
                raise MalformedError("the response has no input_tokens")
            return count(answer["input_tokens"])

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        """Ask for a page of models; a page is named by the last model of the one before."""
        after = f"&after_id={quote(page, safe='')}" if page else ""
        return HttpRequest(
            versioned_path(info, f"models?limit=1000{after}"), headers=VERSION, method="GET"
        )

    def parse_list(self, info: ModelInfo, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """The models of a page, and the next page."""
        with reading(info):
            answer = mapping(load_json(body), "the response")
            items = models_in(answer.get("data"))
            last = text(answer.get("last_id"), "last_id") or None
            return [_model(info, item) for item in items], last if answer.get("has_more") else None


ADAPTER: Adapter = AnthropicAdapter()


def _model(info: ModelInfo, item: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        name=name_in(item, "id"),
        model_type=info.model_type,
        local=False,
        base_url=info.base_url,
        api_key_env=info.api_key_env,
        context_length=count(item.get("max_input_tokens")) or None,
        source="vendor",
    )
