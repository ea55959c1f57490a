"""What a vendor's module provides: pure functions from values to values, no I/O.

``nbllm.cloud.transport`` drives them. A new vendor is one folder in ``nbllm.cloud.vendors``, whose
``ADAPTER`` has these functions, and its line in ``nbllm.core.vendors``.

A 2xx answer to a request with ``stream=True`` whose content type is not ``text/event-stream``
comes from a server that does not stream (or a Gemini one that ignored ``alt=sse``): the transport
reads it whole, gives it to ``parse_answer``, and shows ``events_of`` the result.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.core.errors import ModelError
from nbllm.core.types import (
    Embeddings,
    Event,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)

__all__ = ["Adapter", "HttpRequest", "Meaning", "StreamParser", "events_of"]


class Meaning(enum.Enum):
    """What went wrong, as far as it matters for what to do next."""

    CONTEXT = "the prompt is too long"
    QUOTA = "the credit or a spending limit is used up"
    AUTHENTICATION = "the key is missing or wrong"
    PERMISSION = "the key has no permission"
    RATE_LIMIT = "too many requests"
    OVERLOADED = "no capacity at the moment"
    NOT_FOUND = "no such model or address"
    UNSUPPORTED = "not supported by the model"
    POLICY = "rejected by the vendor's content filter"
    BAD_REQUEST = "the request is invalid"
    CONFLICT = "the request conflicts with another one"
    TIMEOUT = "the server took too long"
    NOT_IMPLEMENTED = "not supported by the server"
    SERVER = "the server failed"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its key; ``path`` is joined to the model's base URL.

    ``path`` has no leading slash and may carry a query: ``f"{base_url.rstrip('/')}/{path}"``.
    ``texts`` is how many vectors it asks for. ``content`` is sent instead of a JSON ``body``, with
    its type in ``headers``.
    """

    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: Literal["GET", "POST"] = "POST"
    texts: int = 0
    content: bytes | None = None


class StreamParser(Protocol):
    """The state of one streamed answer."""

    @property
    def text(self) -> str:
        """The text so far."""

    @property
    def done(self) -> bool:
        """Whether nothing more can come, so that the transport need not wait for the end."""

    def feed(self, event: ServerSentEvent) -> Sequence[Event]:
        """What one server-sent event says: text, reasoning and tool calls, never ``Completed``.

        Raises the error that the event carries, with the text so far in ``partial_text``.
        """

    def finish(self) -> GenerationResult:
        """The whole answer, once the stream has ended; ``timings`` are the transport's to add.

        Raises ``InterruptedStreamError`` where the end marker has not come. A connection that
        breaks after the marker has done no harm: ask this before reporting it.
        """


class Adapter(Protocol):
    """A vendor."""

    default_base_url: str
    default_key_env: str
    error_words: Mapping[str, Meaning]
    """Words in its errors, such as codes and types, in lower case without "_" and "error"."""

    def key_headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""

    def generation_request(
        self, info: ModelInfo, request: GenerationRequest, *, stream: bool
    ) -> HttpRequest:
        """Ask for an answer. Raises ``UnsupportedError`` for what the vendor cannot do."""

    def stream_parser(self, info: ModelInfo, request: GenerationRequest) -> StreamParser:
        """A parser for one streamed answer to this request."""

    def parse_answer(
        self, info: ModelInfo, request: GenerationRequest, body: bytes
    ) -> GenerationResult:
        """A whole answer that was not streamed."""

    def parse_error(
        self, info: ModelInfo, status: int, headers: Mapping[str, str], body: bytes
    ) -> ModelError:
        """The typed error of an answer whose status is not 2xx; header names are lower case.

        An ``ApiError``, or a ``ContextLengthError``.
        """

    def embedding_requests(self, info: ModelInfo, texts: Sequence[str]) -> Sequence[HttpRequest]:
        """Ask for vectors, in as many requests as the vendor's limits need, in order."""

    def parse_embeddings(self, info: ModelInfo, bodies: Sequence[bytes]) -> Embeddings:
        """The vectors of all requests, in the order of the texts."""

    def count_request(self, info: ModelInfo, request: GenerationRequest) -> HttpRequest | None:
        """Ask for the exact number of prompt tokens; None where the vendor has no such endpoint."""

    def parse_count(self, info: ModelInfo, body: bytes) -> int:
        """The number of prompt tokens."""

    def list_request(self, info: ModelInfo, page: str | None) -> HttpRequest:
        """Ask for a page of the vendor's models; None is the first page."""

    def parse_list(self, info: ModelInfo, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """The models of a page, and the next page."""


def events_of(result: GenerationResult) -> Sequence[Event]:
    """The events of an answer that came whole, as a stream would have shown them."""
    events: list[Event] = []
    if result.reasoning:
        events.append(ReasoningDelta(result.reasoning))
    if result.text:
        events.append(TextDelta(result.text))
    events += [
        ToolCallDelta(index, call.arguments, call.id, call.name)
        for index, call in enumerate(result.tool_calls)
    ]
    return events
