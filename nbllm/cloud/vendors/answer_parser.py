"""What all vendors' parsers share: one reads a vendor's events and tells an ``Answer`` of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from nbllm.cloud.addresses import signer_of
from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.api_errors import typed_error
from nbllm.cloud.vendors.error_bodies import read_failure
from nbllm.cloud.vendors.error_meanings import IN_STREAM
from nbllm.cloud.vendors.json_values import MalformedError, load_json
from nbllm.core.answer import Answer
from nbllm.core.errors import InterruptedStreamError, ModelError, ProtocolError
from nbllm.core.types import Event, GenerationRequest, GenerationResult, ModelInfo

__all__ = ["AnswerParser"]


class AnswerParser(ABC):
    """A vendor's parser of one streamed answer; see ``adapter.StreamParser`` for its contract."""

    end_marker: str
    """What ends a stream well, for people."""
    takes_seed = False
    base_url = ""
    """The vendor's own address. Signatures from another one are of whoever is there."""

    def __init__(self, info: ModelInfo, request: GenerationRequest) -> None:
        self.info, self.request = info, request
        self.answer = self.empty_answer(signer_of(info, self.base_url))
        self.done = False
        self.is_whole = False

    def empty_answer(self, signer: str) -> Answer:
        """What the events are told to."""
        return Answer(signer)

    @property
    def seed(self) -> int | None:
        """The seed that the vendor took."""
        return self.request.options.seed if self.takes_seed else None

    @property
    def text(self) -> str:
        """The text so far."""
        return self.answer.joined("text")

    @abstractmethod
    def read(self, event: ServerSentEvent) -> Sequence[Event]:
        """What an event says; raises ``MalformedError``."""

    def feed(self, event: ServerSentEvent) -> Sequence[Event]:
        """What an event says; raises the error that it carries, with the text so far."""
        try:
            return self.read(event)
        except MalformedError as error:
            raise self.malformed(error) from error

    @abstractmethod
    def read_answer(self, value: Any) -> None:
        """Read an answer that was not streamed; raises ``MalformedError``."""

    def whole(self, body: bytes) -> GenerationResult:
        """The result of an answer that was not streamed."""
        self.is_whole = True
        try:
            self.read_answer(load_json(body))
        except (MalformedError, RecursionError) as error:
            raise self.malformed(error) from error
        return self.answer.result(self.info, self.seed)

    def finish(self) -> GenerationResult:
        """The whole answer; raises ``InterruptedStreamError`` where its end has not come."""
        if self.answer.finish_reason is None:
            raise InterruptedStreamError(
                self.info.name,
                f"the stream ended without its {self.end_marker}; the text so far is in "
                "partial_text. Send the request again.",
                retryable=True,
                partial_text=self.text,
            )
        return self.answer.result(self.info, self.seed)

    def malformed(self, error: Exception) -> ProtocolError:
        """The error for an event that does not follow the protocol."""
        return ProtocolError(
            self.info.name,
            f"the response does not follow the vendor's protocol: {error}",
            partial_text=self.text,
        )

    def failure(self, value: Any) -> ModelError:
        """The typed error of an error event, or of a whole answer that is one."""
        status = 200 if self.is_whole else IN_STREAM
        return typed_error(self.info, read_failure(value), status=status, partial_text=self.text)
