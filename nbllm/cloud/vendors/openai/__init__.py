"""OpenAI, and every server that speaks its protocol, such as vLLM, llama-server and OpenRouter.

Two of its APIs generate. ``api`` in a model's config says which, "chat" or "responses". Without
it, other servers are asked by Chat Completions, which all of them have and which they serve
best. OpenAI itself is asked by Responses: its newer models are served there first, some only
there, and it alone gives reasoning back and takes it again, which reasoning models need between
tool calls. Responses has no seed, stop strings or penalties: a request that sets one of these
goes to Chat Completions.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from nbllm.cloud.adapter import Adapter, HttpRequest, Meaning, StreamParser
from nbllm.cloud.vendors.answer_parser import AnswerParser
from nbllm.cloud.vendors.api_errors import parse_error, typed_error
from nbllm.cloud.vendors.embeddings import embeddings_of
from nbllm.cloud.vendors.error_bodies import is_failure, read_failure
from nbllm.cloud.vendors.json_values import (
    MalformedError,
    count,
    load_json,
    mapping,
    models_in,
    name_in,
    reading,
    sequence,
)
from nbllm.cloud.vendors.openai.chat_parser import ChatParser
from nbllm.cloud.vendors.openai.chat_requests import chat_body, is_openai, model_id
from nbllm.cloud.vendors.openai.responses_parser import ResponsesParser
from nbllm.cloud.vendors.openai.responses_requests import (
    BASE_URL,
    count_body,
    responses_body,
)
from nbllm.cloud.vendors.token_counts import embedding_usage
from nbllm.core.errors import InvalidOptionError, ModelError
from nbllm.core.kinds import place_of
from nbllm.core.option_table import Backend, options_of
from nbllm.core.types import (
    Embeddings,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
)
from nbllm.core.vendors import VENDORS

__all__ = ["ADAPTER", "OpenAIAdapter", "api_for"]

_MOST_INPUTS = 2048
_MOST_BYTES = 300_000
"""The limit of a request to the embeddings endpoint is 300,000 tokens. No token of its byte-level
vocabularies is shorter than a byte, so this many bytes always fit."""

# Where servers tell a model's context length: vLLM, OpenRouter and Together, Groq, LM Studio and
# Mistral.
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")
_ERROR_WORDS: Mapping[str, Meaning] = {
    "invalidapikey": Meaning.AUTHENTICATION,
    "accountdeactivated": Meaning.AUTHENTICATION,
    "slowdown": Meaning.RATE_LIMIT,
    "serverisoverloaded": Meaning.OVERLOADED,
    "modelnotfound": Meaning.NOT_FOUND,
    "contentpolicyviolation": Meaning.POLICY,
    "moderationblocked": Meaning.POLICY,
    "invalidprompt": Meaning.POLICY,
    "contentfilter": Meaning.POLICY,
    "responsibleaipolicyviolation": Meaning.POLICY,
    "deploymentnotfound": Meaning.NOT_FOUND,
}


def api_for(info: ModelInfo, request: GenerationRequest) -> Literal["chat", "responses"]:
    """Which of the two APIs answers a request; the module's text says why."""
    if info.api == "responses":
        return "responses"
    if info.api == "chat":
        return "chat"
    if info.api is not None:
        raise InvalidOptionError("api", f'must be "chat" or "responses" (got {info.api!r})')
    is_chat_only = any(map(_is_chat_only, request.options.set_values().items()))
    return "responses" if is_openai(info) and not is_chat_only else "chat"


def _is_chat_only(named: tuple[str, object]) -> bool:
    """Whether an option is set that Chat Completions follows, and Responses does not."""
    followed = options_of(GenerationOptions)[named[0]].backends
    is_only = Backend.OPENAI_CHAT & followed and not Backend.OPENAI_RESPONSES & followed
    return bool(is_only) and named[1] != ()


class OpenAIAdapter:
    """OpenAI's protocol."""

    default_base_url = BASE_URL
    default_key_env = VENDORS["openai"].key_variable
    error_words = _ERROR_WORDS

    def key_headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""
        return {"authorization": f"Bearer {key}"}

    def generation_request(
        self, info: ModelInfo, request: GenerationRequest, *, stream: bool
    ) -> HttpRequest:
        """Ask for an answer."""
        if api_for(info, request) == "responses":
            return HttpRequest("responses", responses_body(info, request, stream=stream))
        return HttpRequest("chat/completions", chat_body(info, request, stream=stream))

    def stream_parser(self, info: ModelInfo, request: GenerationRequest) -> StreamParser:
        """A parser for one streamed answer to this request."""
        return _parser(info, request)

    def parse_answer(
        self, info: ModelInfo, request: GenerationRequest, body: bytes
    ) -> GenerationResult:
        """A whole answer that was not streamed."""
        return _parser(info, request).whole(body)

    def parse_error(
        self, info: ModelInfo, status: int, headers: Mapping[str, str], body: bytes
    ) -> ModelError:
        """The typed error of an answer whose status is not 2xx."""
        return parse_error(info, status, headers, body)

    def embedding_requests(self, info: ModelInfo, texts: Sequence[str]) -> Sequence[HttpRequest]:
        """Ask for vectors, at most 2,048 inputs and 300,000 tokens a request."""
        # base64 is a third of the size of numbers and faster to read; the servers that do not
        # know it send numbers.
        style = {"model": model_id(info), "encoding_format": "base64"}
        return [
            HttpRequest("embeddings", {**style, "input": batch}, texts=len(batch))
            for batch in _batches(texts)
        ]

    def parse_embeddings(self, info: ModelInfo, bodies: Sequence[bytes]) -> Embeddings:
        """The vectors of all requests, in the order of the texts."""
        with reading(info):
            answers = [_answer(info, body) for body in bodies]
            used = [mapping(answer.get("usage"), "usage") for answer in answers]
            usage = embedding_usage([each.get("prompt_tokens") for each in used])
            return embeddings_of(info, list(map(_rows, answers)), usage)

    def count_request(self, info: ModelInfo, request: GenerationRequest) -> HttpRequest | None:
        """Ask for the exact number of prompt tokens; only OpenAI itself has such an endpoint."""
        if not is_openai(info):
            return None
        return HttpRequest("responses/input_tokens", count_body(info, request))

    def parse_count(self, info: ModelInfo, body: bytes) -> int:
        """The number of prompt tokens."""
        with reading(info):
            answer = _answer(info, body)
            if "input_tokens" not in answer:
                raise MalformedError("the response has no input_tokens")
            return count(answer["input_tokens"])

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        """Ask for the models; there is one page."""
        return HttpRequest("models", method="GET")

    def parse_list(self, info: ModelInfo, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """The models; Together sends the bare array, and some servers say "models"."""
        with reading(info):
            items = load_json(body)
            if not isinstance(items, list):
                answer = _answer(info, body)
                items = answer.get("data", answer.get("models"))
            return [_model(info, item) for item in models_in(items)], None


ADAPTER: Adapter = OpenAIAdapter()


def _parser(info: ModelInfo, request: GenerationRequest) -> AnswerParser:
    kind = ResponsesParser if api_for(info, request) == "responses" else ChatParser
    return kind(info, request)


def _answer(info: ModelInfo, body: bytes) -> Mapping[str, Any]:
    answer = mapping(load_json(body), "the response")
    if is_failure(answer):
        raise typed_error(info, read_failure(answer))
    return answer


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for item in texts:
        length = len(item.encode("utf-8", "surrogatepass"))
        if batch and (len(batch) == _MOST_INPUTS or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


def _rows(answer: Mapping[str, Any]) -> list[bytes | list[float]]:
    """The vectors of one request in order, as little-endian float32 or as numbers."""
    items = [mapping(item, "an embedding") for item in sequence(answer.get("data"), "data")]
    places = [item.get("index") for item in items]
    if sorted(p for p in places if isinstance(p, int)) == list(range(len(items))):
        items.sort(key=lambda item: item["index"])
    return [_row(item.get("embedding")) for item in items]


def _row(value: object) -> bytes | list[float]:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise MalformedError(f"an embedding is not valid base64: {error}") from None
    return sequence(value, "an embedding")


def _model(info: ModelInfo, item: Mapping[str, Any]) -> ModelInfo:
    meta = mapping(item.get("meta"), "meta")  # llama-server
    lengths = [item.get(key) for key in _CONTEXT_KEYS]
    lengths += [meta.get(key) for key in ("n_ctx", "n_ctx_train")]
    return ModelInfo(
        name=name_in(item, "id", "name"),
        model_type=info.model_type,
        local=False,
        base_url=info.base_url,
        api_key_env=info.api_key_env,
        api=info.api,
        context_length=next(filter(None, map(count, lengths)), None),
        source="server" if place_of(info) == "server" else "vendor",
    )
