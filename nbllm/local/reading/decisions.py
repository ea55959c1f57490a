"""From the scores of labels to a result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.core.types import FinishReason, GenerationResult, ModelInfo, Timings, Usage

if TYPE_CHECKING:
    from nbllm.core.schemas.decision_questions import Question
    from nbllm.local.ipc.events import Decided

__all__ = ["decision_result"]

_DIGITS = 6


def decision_result(
    info: ModelInfo, questions: Sequence[Question], replies: Sequence[Decided], seconds: float
) -> GenerationResult:
    """The most probable label of each question, as JSON, and the probabilities of all."""
    probabilities = [_normalized(reply.scores) for reply in replies]
    chosen = {
        question.name: question.labels[values.index(max(values))]
        for question, values in zip(questions, probabilities, strict=True)
    }
    return GenerationResult(
        text=json.dumps(chosen, ensure_ascii=False),
        model=info.name,
        finish_reason=FinishReason.STOP,
        usage=Usage(
            prompt_tokens=sum(reply.prompt_tokens + reply.label_tokens for reply in replies),
            completion_tokens=0,
            cached_tokens=sum(reply.cached_tokens for reply in replies),
            cost_usd=0.0,
        ),
        timings=Timings(
            queue_seconds=max(reply.queue_seconds for reply in replies),
            prompt_seconds=max(reply.prompt_seconds for reply in replies),
            total_seconds=seconds,
        ),
        device=info.device,
        label_probabilities=tuple(probabilities),
    )


def _normalized(scores: bytes) -> tuple[float, ...]:
    """Probabilities that add up to 1, each with six decimals."""
    import numpy as np

    logprobs = np.frombuffer(scores, np.float32).astype(np.float64)
    weights = np.exp(logprobs - logprobs.max())
    return tuple(round(float(each), _DIGITS) for each in weights / weights.sum())
