"""From what a worker tells to events and results: of an answer, and of the scores of labels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from nbllm.core.answer import Answer
from nbllm.core.types import (
    Completed,
    Event,
    FinishReason,
    GenerationResult,
    ModelInfo,
    PromptProgress,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    Tool,
    Usage,
)
from nbllm.local.ipc.channel import NewText
from nbllm.local.ipc.events import AnswerFormat, Done, LogprobRecord, Progress
from nbllm.local.ipc.protocol import assert_never
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.reading.output_parser import output_parser

if TYPE_CHECKING:
    from nbllm.core.schemas.decision_questions import Question
    from nbllm.local.ipc.events import Decided

__all__ = ["AnswerEvent", "AnswerReader", "decision_result"]

AnswerEvent: TypeAlias = AnswerFormat | Progress | NewText | Done


class AnswerReader:
    """Reads the worker's events of one answer; its clock starts with it.

    ``info`` is the model's, ``tools`` are those that the request offers.
    """

    def __init__(self, info: ModelInfo, tools: Sequence[Tool] = ()) -> None:
        self._info = info
        self._tools = {tool.name: tool.parameters for tool in tools}
        self._answer = Answer()
        self._parser = output_parser(OutputFormat(), self._answer, self._tools)
        self._started = time.perf_counter()
        self._first_text: float | None = None
        self._unsaid = 0

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return self._answer.joined("text")

    def read(self, told: AnswerEvent) -> Iterator[Event]:
        """The events of the stream that follow; ``Completed`` is the last of the last."""
        match told:
            case Progress():
                yield PromptProgress(told.processed, told.total, told.cached)
            case AnswerFormat():
                form = OutputFormat.from_event(told)
                self._parser = output_parser(form, self._answer, self._tools)
            case NewText():
                yield from self._written(told.text, told.tokens)
            case Done():
                cut = told.reason != FinishReason.STOP
                yield from self._written(told.text, told.tokens, final=True, cut=cut)
                yield Completed(self._result(told))
            case _:
                assert_never(told)

    def _written(
        self, text: str, tokens: int, *, final: bool = False, cut: bool = False
    ) -> Iterator[Event]:
        if text:
            self._first_text = self._first_text or time.perf_counter()
        self._unsaid += tokens
        for event in self._parser.take(text, final=final, cut=cut):
            if isinstance(event, TextDelta | ReasoningDelta):
                event, self._unsaid = replace(event, tokens=self._unsaid), 0
            yield event

    def _result(self, done: Done) -> GenerationResult:
        ended = time.perf_counter()
        self._answer.ended(FinishReason(done.reason), done.stop or done.reason)
        return replace(
            self._answer.result(self._info, done.seed),
            usage=Usage(
                prompt_tokens=done.prompt_tokens,
                completion_tokens=done.completion_tokens,
                cached_tokens=done.cached_tokens,
                accepted_draft_tokens=done.accepted_draft_tokens,
                cost_usd=0.0,
            ),
            timings=Timings(
                queue_seconds=done.queue_seconds,
                prompt_seconds=done.prompt_seconds,
                first_token_seconds=(self._first_text or ended) - self._started,
                decode_seconds=done.decode_seconds,
                total_seconds=ended - self._started,
            ),
            device=self._info.device,
            logprobs=tuple(map(_logprob, done.logprobs or ())),
        )


def _logprob(record: LogprobRecord) -> TokenLogprob:
    likeliest = tuple(_token_logprob(data, logprob) for data, logprob in record.top)
    return _token_logprob(record.data, record.logprob, likeliest)


def _token_logprob(
    data: bytes, logprob: float | None, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    known = -math.inf if logprob is None else logprob
    return TokenLogprob(data.decode(errors="replace"), known, data, top)


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
