"""Token counts and costs: what of them is told in the same way by several, and estimates.

What is not told is None and never 0: a server without figures did not work for nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.vendors.json_values import count
from nbllm.core.errors import NotFoundError
from nbllm.core.types import (
    ContentPart,
    GenerationRequest,
    ImagePart,
    Message,
    ModelInfo,
    ReasoningPart,
    TextPart,
    TokenCount,
    ToolCall,
    ToolResult,
    Usage,
    VendorPart,
)

__all__ = [
    "answer_limit",
    "as_object",
    "cost_of",
    "count_prompt",
    "embedding_usage",
    "estimate_text_tokens",
    "estimate_tokens",
    "known_count",
]

_TICKS = 1e10
"""xAI's ticks in a US dollar."""

_OF_A_MESSAGE = 4
_OF_AN_IMAGE = 765
"""What OpenAI counts for an image of 1,024 by 1,024 in detail; the vendors differ by half."""
_CJK = "\u2e80"
"""From here on most characters are a token each; alphabets stand before it."""


def embedding_usage(told: list[object]) -> Usage:
    """The tokens of all requests for vectors, of which nothing is written."""
    known = [number for value in told if (number := _number(value)) is not None]
    return Usage(prompt_tokens=sum(map(int, known)) if known else None, completion_tokens=0)


def cost_of(usage: Mapping[str, Any]) -> float | None:
    """US dollars that a server asks, None where it does not tell.

    OpenRouter and Vercel have a number, Perplexity an object with the total, xAI ticks. Where a
    reader has a key of his own behind OpenRouter, what that vendor asks stands beside it.
    """
    ticks = _number(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return ticks / _TICKS
    cost = usage.get("cost", usage.get("estimated_cost"))  # the latter is DeepInfra's
    told = _number(cost.get("total_cost") if isinstance(cost, dict) else cost)
    if told is not None and usage.get("is_byok") is True:
        behind = as_object(usage.get("cost_details")).get("upstream_inference_cost")
        return told + (_number(behind) or 0.0)
    return told


def known_count(usage: Mapping[str, Any], name: str) -> int | None:
    """The count of this name; None where it is not told or is no number."""
    number = _number(usage.get(name))
    return None if number is None else count(number)


def _number(value: object) -> float | None:
    """A number that is 0 or more; some servers write it as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def as_object(value: object) -> Mapping[str, Any]:
    """A JSON object; anything else is an empty one, because counts are an extra."""
    return value if isinstance(value, dict) else {}


_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_COPIES = ("n", "best_of", "candidateCount")


def answer_limit(body: Mapping[str, Any]) -> int | None:
    """The most tokens that all answers to a request have by its body; None: it states no limit."""
    places = (body, as_object(body.get("generationConfig")))
    limits = [_number(place.get(name)) for place in places for name in _LIMITS]
    copies = [_number(place.get(name)) or 1 for place in places for name in _COPIES]
    known = [math.ceil(limit) for limit in limits if limit is not None]
    return max(known) * math.ceil(max(copies)) if known else None


async def count_prompt(
    adapter: Adapter,
    info: ModelInfo,
    request: GenerationRequest,
    fetch: Callable[[HttpRequest], Awaitable[bytes]],
) -> TokenCount:
    """The tokens of a prompt as the vendor counts them; an estimate where nobody does."""
    counting = adapter.count_request(info, request)
    try:
        if counting is not None:
            return TokenCount(adapter.parse_count(info, await fetch(counting)))
    except NotFoundError:
        if info.base_url is None:
            raise
        # A server that speaks a vendor's protocol need not have all of it.
    return TokenCount(estimate_tokens(request), exact=False)


def estimate_tokens(request: GenerationRequest) -> int:
    """Tokens of the prompt, within about a third of the truth for the usual vocabularies.

    Four ASCII characters are taken for a token, two of another alphabet, one of CJK.
    """
    tools = request.options.tools or ()
    described = json.dumps([[t.name, t.description, dict(t.parameters)] for t in tools])
    return sum(map(_of_message, request.messages)) + (
        estimate_text_tokens(described) if tools else 0
    )


def _of_message(message: Message) -> int:
    return _OF_A_MESSAGE + sum(map(_of_part, message.parts))


def _of_part(part: ContentPart) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return estimate_text_tokens(text)
        case ImagePart():
            return _OF_AN_IMAGE
        case ToolCall(_, name, arguments):
            return estimate_text_tokens(name + arguments)
        case ToolResult(content=content) | VendorPart(content=content):
            return estimate_text_tokens(content)


def estimate_text_tokens(text: str) -> int:
    """Tokens of a text alone, as ``estimate_tokens`` counts them."""
    quarters = sum(1 if c.isascii() else 2 if c < _CJK else 4 for c in text)
    return -(-quarters // 4)
