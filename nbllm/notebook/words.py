"""What nbllm says of itself under an answer and beside a load, in short lines of plain text."""

from __future__ import annotations

from nbllm.core.types import FinishReason, GenerationResult, ModelInfo
from nbllm.core.words import size_words

__all__ = ["EARLY_ENDS", "loading_words", "ready_words", "status_words"]

_SEPARATOR = " · "
EARLY_ENDS = {
    FinishReason.CANCELLED: "■ stopped",
    FinishReason.FAILED: "✗ failed",
    FinishReason.LENGTH: "cut off at the token limit",
    FinishReason.REPETITION: "stopped: it repeats itself",
    FinishReason.CONTENT_FILTER: "blocked by the vendor's filter",
    FinishReason.REFUSAL: "declined to answer",
    FinishReason.PAUSE: "paused by the vendor",
    FinishReason.TOOL_CALLS: "asks for tools",
}


def loading_words(model: str, fraction: float) -> str:
    """How far a load is; ``fraction`` from 0 to 1."""
    return f"Loading {model} … {fraction:.0%}"


def ready_words(info: ModelInfo, seconds: float | None = None) -> str:
    """That a model is loaded: where, in how many ``seconds``, with what context and memory.

    Where its placement gave something up, a second line says what.
    """
    place = f" on {info.device}" if info.device else ""
    time = f" in {seconds:.1f} s" if seconds is not None else ""
    size = info.memory_bytes or info.size_bytes
    line = _SEPARATOR.join(
        [
            f"{info.name} ready{place}{time}",
            *([f"context {info.context_length:,}"] if info.context_length else []),
            *([size_words(size)] if size and info.local else []),
        ]
    )
    placement = info.placement
    return f"{line}\n{placement.reason}" if placement and placement.is_compromise else line


def status_words(result: GenerationResult, *more: str) -> str:
    """The line under an answer: how it ended, model, device, tokens, speed, price, and ``more``."""
    tokens, speed = result.usage.completion_tokens, result.tokens_per_second
    first, cost = result.timings.first_token_seconds, result.usage.cost_usd
    return _SEPARATOR.join(
        [
            *([EARLY_ENDS[result.finish_reason]] if result.finish_reason in EARLY_ENDS else []),
            result.model,
            *([result.device] if result.device else []),
            *([f"{tokens:,} token{'s' * (tokens != 1)}"] if tokens else []),
            *(
                [f"{speed:,.0f} tokens/s" if speed >= 10 else f"{speed:.1f} tokens/s"]
                if speed
                else []
            ),
            *([f"first token {first:.2f} s"] if first is not None else []),
            *([f"${cost:.4f}"] if cost else []),
            *filter(None, more),
        ]
    )
