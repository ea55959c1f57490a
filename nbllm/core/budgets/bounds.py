"""What a request can take at most, and what one that ended took."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbllm.core.budgets.budget import PICO, Amount, Budget
from nbllm.core.errors import (
    ApiError,
    ContextLengthError,
    EngineBusyError,
    ModelClosedError,
    ModelError,
    UnsupportedError,
)
from nbllm.core.types import (
    Event,
    GenerationOptions,
    GenerationRequest,
    ImagePart,
    Message,
    PromptProgress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)

__all__ = [
    "Meter",
    "bytes_of_labels",
    "bytes_of_messages",
    "bytes_of_tools",
    "charge",
    "image_bound",
    "json_bytes",
    "rerank_bound",
    "text_bound",
]

_OF_A_TEMPLATE = 512
"""Tokens that a chat template adds of its own, such as a system prompt and what tools are."""
_OF_A_MESSAGE = 16
_FORMS_OF_A_LABEL = 4
"""In one letter case or the other, with or without a space; see ``ModelInterface.decide``."""
_OF_AN_IMAGE = 6_000
"""More than any vendor counts for one image at its finest; see their pages on vision."""
_NEVER_SENT = (EngineBusyError, ModelClosedError, UnsupportedError)


def charge(budget: Budget, usage: Usage, cost: float | None) -> Amount | None:
    """What tokens cost of a budget; None where their price is unknown and it refuses that.

    ``cost`` is in US dollars, None where it is not known. Money is rounded up.
    """
    tokens = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    if budget.usd is None:
        return Amount(0, tokens, 1)
    if cost is None:
        if isinstance(budget.unknown, str):
            return None
        cost = tokens * budget.unknown / 1_000_000
    return Amount(math.ceil(round(cost * PICO, 3)), tokens, 1)


def bytes_of_messages(request: GenerationRequest) -> int:
    """A bound for the prompt's tokens: none has less than a byte of text."""
    return (
        sum(_OF_A_MESSAGE + _bytes_of(message) for message in request.messages)
        + len((request.suffix or "").encode())
        + json_bytes(request.options.response_schema)
        + _OF_A_TEMPLATE
        + bytes_of_tools(request.options)
    )


def bytes_of_tools(options: GenerationOptions) -> int:
    """A bound for the tokens by which tools make a prompt longer, in whatever way a template writes
    them: indented, and behind a text of its own.
    """
    tools = options.tools or ()
    written = [[tool.name, tool.description, tool.parameters] for tool in tools]
    return 2 * json_bytes(written) + _OF_A_TEMPLATE if tools else 0


def bytes_of_labels(labels: Iterable[str]) -> int:
    """A bound for the tokens of labels that are scored, in each of the forms that count as one."""
    read = sum(_FORMS_OF_A_LABEL * (len(label.encode()) + 2) for label in labels)
    return _OF_A_MESSAGE + read  # behind what ends the reasoning


def _bytes_of(message: Message) -> int:
    images = [part for part in message.parts if isinstance(part, ImagePart)]
    others = [part for part in message.parts if not isinstance(part, ImagePart)]
    texts = [str(getattr(part, name)) for part in others for name in part.__dataclass_fields__]
    return sum(len(text.encode()) for text in texts) + _OF_AN_IMAGE * len(images)


def text_bound(texts: Iterable[str]) -> int:
    """A bound for the tokens of texts that are embedded."""
    return sum(_OF_A_MESSAGE + len(text.encode("utf-8", "replace")) for text in texts)


def rerank_bound(query: str, documents: Sequence[str]) -> int:
    """A bound for the tokens of documents of which each is read behind the query."""
    return len(documents) * (text_bound([query]) + _OF_A_TEMPLATE) + text_bound(documents)


def image_bound(messages: Iterable[Message]) -> int:
    """What to add to the bytes of a request's JSON for its images, which are no text in it."""
    images = [p for m in messages for p in m.parts if isinstance(p, ImagePart)]
    return sum(_OF_AN_IMAGE - _written(image) for image in images)


def _written(image: ImagePart) -> int:
    if image.data is not None:
        return 4 * -(-len(image.data) // 3)
    return len(image.url or "") if (image.url or "").startswith("data:") else 0


def json_bytes(value: Any) -> int:
    """The size of a value as JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, default=lambda each: dict(each))
    return len(text.encode("utf-8", "replace"))


@dataclass(slots=True)
class Meter:
    """Counts what a request took while its events come; ``most`` is what it could take.

    Where the server tells no figures, a byte of text counts as a token, which is too much and never
    too little. What was refused took nothing. Where a server fell silent or a connection broke, it
    may have written more than anybody saw, so that this counts as the most it could take.
    """

    most: Usage
    prompt: int | None = None
    written: int = 0

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case PromptProgress(total=total):
                self.prompt = total
            case TextDelta(text, tokens) | ReasoningDelta(text, tokens):
                self.written += len(text.encode()) if tokens is None else tokens
            case ToolCallDelta(arguments=arguments, name=name):
                self.written += len(f"{arguments}{name or ''}".encode())

    def told(self, usage: Usage) -> Usage:
        """What a whole answer took: as it is told, else as counted."""
        so_far = self._so_far()
        return replace(
            usage,
            prompt_tokens=_known(usage.prompt_tokens, so_far.prompt_tokens),
            completion_tokens=_known(usage.completion_tokens, so_far.completion_tokens),
        )

    def ended(self, error: BaseException | None) -> Usage | None:
        """What a request took that was stopped, or that failed; None: it never went out."""
        if isinstance(error, ApiError) and error.status is None:
            return self.most if error.was_sent else None
        if self.written or not isinstance(error, ModelError) or error.partial_text:
            return self._so_far()
        if isinstance(error, _NEVER_SENT):
            return None
        is_refusal = isinstance(error, ApiError | ContextLengthError)
        return Usage(prompt_tokens=0, completion_tokens=0) if is_refusal else self._so_far()

    def _so_far(self) -> Usage:
        return Usage(
            prompt_tokens=_known(self.prompt, self.most.prompt_tokens),
            completion_tokens=min(self.written, self.most.completion_tokens or self.written),
        )


def _known(told: int | None, counted: int | None) -> int | None:
    return counted if told is None else max(0, told)
