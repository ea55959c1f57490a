"""From the worker's frames of one answer to events, and of its refusals to errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from nbllm.core.answer import Answer
from nbllm.core.errors import (
    ContextLengthError,
    EngineBusyError,
    EngineError,
    InvalidOptionError,
    NbllmError,
)
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
from nbllm.local.protocol import Frame
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.reading.output_parser import output_parser

__all__ = ["AnswerReader", "refusal"]


class AnswerReader:
    """Reads the frames of one answer; its clock starts with it.

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

    def read(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame; ``Completed`` is the last of the last."""
        if frame["op"] == "progress":
            yield PromptProgress(frame["processed"], frame["total"], frame["cached"])
        elif frame["op"] == "prompt":
            form = OutputFormat.from_frame(frame)
            self._parser = output_parser(form, self._answer, self._tools)
        else:
            yield from self._written(frame)

    def _written(self, frame: Frame) -> Iterator[Event]:
        if frame["text"]:
            self._first_text = self._first_text or time.perf_counter()
        self._unsaid += frame["tokens"]
        done = frame["op"] == "done"
        cut = done and frame["reason"] != FinishReason.STOP
        for event in self._parser.take(frame["text"], final=done, cut=cut):
            if isinstance(event, TextDelta | ReasoningDelta):
                event, self._unsaid = replace(event, tokens=self._unsaid), 0
            yield event
        if done:
            yield Completed(self._result(frame))

    def _result(self, frame: Frame) -> GenerationResult:
        ended = time.perf_counter()
        self._answer.ended(FinishReason(frame["reason"]), frame["stop"] or frame["reason"])
        return replace(
            self._answer.result(self._info, frame["seed"]),
            usage=Usage(
                prompt_tokens=frame["prompt_tokens"],
                completion_tokens=frame["completion_tokens"],
                cached_tokens=frame["cached_tokens"],
                guessed_tokens=frame["guessed_tokens"],
                cost_usd=0.0,
            ),
            timings=Timings(
                queue_seconds=frame["queue_seconds"],
                prompt_seconds=frame["prompt_seconds"],
                first_token_seconds=(self._first_text or ended) - self._started,
                decode_seconds=frame["decode_seconds"],
                total_seconds=ended - self._started,
            ),
            device=self._info.device,
            logprobs=tuple(map(_logprob, frame["logprobs"] or ())),
        )


def _logprob(record: Sequence[Any]) -> TokenLogprob:
    characters, logprob, *top = record
    data = characters.encode("latin-1")
    best = tuple(map(_logprob, top[0])) if top else ()
    return TokenLogprob(data.decode(errors="replace"), logprob, data, best)


def refusal(model: str, frame: Frame, partial_text: str) -> NbllmError:
    """The error of a ``failed`` frame."""
    match frame["kind"]:
        case "context":
            prompt, limit = frame["prompt_tokens"], frame["context_length"]
            problem = (
                f"the prompt has {_count(prompt)} tokens, but the context length is {limit:,} "
                "(prompt and answer). Shorten the prompt, or load the model with a longer context."
            )
            return ContextLengthError(model, problem, prompt_tokens=prompt, context_length=limit)
        case "long_text":
            tokens, limit = frame["tokens"], frame["limit"]
            problem = (
                f"text {frame['number']} has {_count(tokens)} tokens, but the model accepts at "
                f"most {limit:,}. Split it into shorter texts."
            )
            return ContextLengthError(model, problem, prompt_tokens=tokens, context_length=limit)
        case "option":
            return InvalidOptionError(frame["option"], frame["problem"])
        case "busy":
            return EngineBusyError(
                model,
                f"{frame['waiting']:,} requests are already waiting. Wait until some are answered, "
                "or send fewer at a time.",
            )
        case _:
            return EngineError(model, frame["problem"], partial_text=partial_text)


def _count(tokens: int | None) -> str:
    return "too many" if tokens is None else f"{tokens:,}"
