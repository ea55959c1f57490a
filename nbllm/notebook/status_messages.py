"""What nbllm says of itself under an answer and beside a load, in short lines of plain text."""

from __future__ import annotations

from nbllm.core.generation import Generation
from nbllm.core.kinds import place_of
from nbllm.core.types import FinishReason, GenerationResult, ModelInfo
from nbllm.core.vendors import host_and_port
from nbllm.core.words import counted, listed_words, size_words

__all__ = [
    "EARLY_ENDS",
    "activity_words",
    "budget_words",
    "loading_words",
    "ready_words",
    "status_words",
]

SHORT_PROMPT = 128
"""So many tokens to be read are read before anybody could read a note about it."""
_SEPARATOR = " · "
EARLY_ENDS = {
    FinishReason.CANCELLED: "■ stopped",
    FinishReason.FAILED: "✗ failed",
    FinishReason.LENGTH: "cut off at the token limit",
    FinishReason.REPETITION: "stopped: it repeats itself",
    FinishReason.CONTENT_FILTER: "blocked by the vendor's filter",
    FinishReason.REFUSAL: "declined to answer",
    FinishReason.PAUSE: "paused by the vendor",
    FinishReason.TOOL_CALLS: "requested tool calls",
}
_UNCOUNTED = (FinishReason.CANCELLED, FinishReason.FAILED)


def loading_words(model: str, fraction: float) -> str:
    """How far a load is; ``fraction`` from 0 to 1."""
    return f"Loading {model} … {fraction:.0%}"


def activity_words(generation: Generation) -> str:
    """What a model does as long as it has written no text; "" where unknown."""
    if generation.reasoning:
        return f"thinking: {len(generation.reasoning):,} characters so far"
    if (retry := generation.retry) is not None:
        return f"trying again in {retry.delay_seconds:.0f} s: {retry.reason}"
    if generation.budget:
        return budget_words(generation.budget)
    route, prompt = generation.route, generation.prompt
    if prompt is not None and prompt.total - prompt.cached > SHORT_PROMPT:
        done, total = prompt.processed, prompt.total
        return f"prefill: {done:,} of {total:,} tokens ({done / total:.0%})"
    return f"{route.router} asks {route.member}: {route.reason}" if route else ""


def budget_words(budget: str) -> str:
    """That a request waits for a budget."""
    return f"waiting for {budget}: other requests under way have reserved what is left of it"


def ready_words(info: ModelInfo, seconds: float | None = None, unready: str | None = None) -> str:
    """That a model is loaded: where, in how many ``seconds``, with what context length and memory.

    Where its placement gave something up, a second line says what. ``unready`` is why it cannot
    answer at the moment.
    """
    if unready is not None:
        return f"{info.name} loaded, but not ready yet: {unready.removeprefix(f'{info.name}: ')}"
    place = _place_words(info)
    time = f" in {seconds:.1f} s" if seconds is not None else ""
    line = _SEPARATOR.join(
        [
            f"{info.name} ready{place}{time}",
            *([_context_words(info)] if info.context_length else []),
            *([f"memory {size_words(info.memory_bytes)}"] if info.memory_bytes else []),
            *([f"tuned to {(info.quantization or '').upper()}"] if info.tuned_from else []),
        ]
    )
    placement = info.placement
    return f"{line}\n{placement.reason}" if placement and placement.is_compromise else line


def _context_words(info: ModelInfo) -> str:
    words = f"context {info.context_length:,}"
    is_split = info.load.kv_unified is False and info.placement is not None
    return f"{words} for each request" if is_split else words


def _place_words(info: ModelInfo) -> str:
    if info.router is not None:
        members = listed_words([member.name for member in info.router.members])
        return f", a router of {members} ({info.router.strategy})"
    if place_of(info) == "server":
        return f" on the server {host_and_port(info)}"
    return f" on {info.device}" if info.device else ""


def status_words(result: GenerationResult, *more: str) -> str:
    """The line under an answer: how it ended, model, device, tokens, speed, price, and ``more``.

    The tokens are a dash where the server told no figures of an answer that is whole.
    """
    speed = result.tokens_per_second
    first, cost = result.timings.first_token_seconds, result.usage.cost_usd
    return _SEPARATOR.join(
        [
            *([EARLY_ENDS[result.finish_reason]] if result.finish_reason in EARLY_ENDS else []),
            result.model,
            *([result.device] if result.device else []),
            *([str(result.route)] if result.route else []),
            *_token_words(result),
            *(
                [f"{speed:,.0f} tokens/s" if speed >= 10 else f"{speed:.1f} tokens/s"]
                if speed
                else []
            ),
            *([f"first token {first:.2f} s"] if first is not None else []),
            *([f"${cost:.4f}"] if cost else []),
            *result.notes,
            *filter(None, more),
        ]
    )


def _token_words(result: GenerationResult) -> list[str]:
    tokens = result.usage.completion_tokens
    if tokens is None and not result.from_cache:
        return ["\N{EN DASH} tokens"] if result.finish_reason not in _UNCOUNTED else []
    return [counted(tokens, "token")] if tokens else []
