"""Token counts and costs, in the ways in which vendors and servers tell them.

What is not told is None and never 0: a server without figures did not work for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nbllm.cloud.vendors.json_values import count
from nbllm.core.types import Usage

__all__ = [
    "chat_usage",
    "cost_of",
    "embedding_usage",
    "gemini_usage",
    "messages_usage",
    "responses_usage",
]

_TICKS = 1e10
"""xAI's ticks in a US dollar."""


def chat_usage(value: object) -> Usage:
    """That of Chat Completions."""
    usage = _object(value)
    read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _object(read).get("cached_tokens")
    if cached is None:  # DeepSeek, Moonshot
        cached = usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens"))
    # Perplexity tells its reasoning beside the other counts.
    reasoning = count(_object(written).get("reasoning_tokens", usage.get("reasoning_tokens")))
    prompt = _known(usage, "prompt_tokens")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_written(usage, _known(usage, "completion_tokens"), prompt, reasoning),
        cached_tokens=count(cached),
        cache_write_tokens=count(_object(read).get("cache_write_tokens")),  # OpenRouter
        reasoning_tokens=reasoning,
        cost_usd=cost_of(usage),
    )


def responses_usage(value: object) -> Usage:
    """That of the Responses API."""
    usage = _object(value)
    prompt = _known(usage, "input_tokens")
    reasoning = count(_object(usage.get("output_tokens_details")).get("reasoning_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_written(usage, _known(usage, "output_tokens"), prompt, reasoning),
        cached_tokens=count(_object(usage.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=reasoning,
        cost_usd=cost_of(usage),
    )


def messages_usage(usage: Mapping[str, Any]) -> Usage:
    """That of Anthropic's Messages API, whose input counts have nothing in common."""
    read = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    fresh = _known(usage, "input_tokens")
    return Usage(
        prompt_tokens=None if fresh is None else fresh + read + written,
        completion_tokens=_known(usage, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(_object(usage.get("output_tokens_details")).get("thinking_tokens")),
        cost_usd=cost_of(usage),
    )


def gemini_usage(usage: Mapping[str, Any]) -> Usage:
    """That of Gemini, which counts thoughts apart from candidates, and leaves out what is 0."""
    if not usage:
        return Usage()
    thoughts, tools = count(usage.get("thoughtsTokenCount")), "toolUsePromptTokenCount"
    completion = count(usage.get("candidatesTokenCount")) + thoughts
    prompt = _known(usage, "promptTokenCount")
    if prompt is not None:
        prompt += count(usage.get(tools))
    elif (total := _known(usage, "totalTokenCount")) is not None and total >= completion:
        prompt = total - completion
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


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
        behind = _object(usage.get("cost_details")).get("upstream_inference_cost")
        return told + (_number(behind) or 0.0)
    return told


def _written(
    usage: Mapping[str, Any], completion: int | None, prompt: int | None, reasoning: int
) -> int | None:
    """The tokens of an answer with its reasoning.

    xAI counts reasoning outside the completion, which the total shows. Where reasoning is more
    than all that was written, as with Perplexity, it is outside too.
    """
    if completion is None:
        return None
    total = count(usage.get("total_tokens"))
    outside = total - (prompt or 0) - completion
    if reasoning > completion or (reasoning and outside == reasoning):
        return completion + reasoning
    return completion


def _known(usage: Mapping[str, Any], name: str) -> int | None:
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


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
