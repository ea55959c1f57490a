import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from nbllm.core.errors import NbllmError
from nbllm.core.placement import Placement
from nbllm.core.types import (
    Completed,
    Event,
    FinishReason,
    GenerationResult,
    PromptProgress,
    ReasoningDelta,
    RetryScheduled,
    TextDelta,
    Timings,
    Usage,
)
from nbllm.notebook.asking.answer import Answer
from nbllm.notebook.status_messages import ready_words, status_words
from nbllm.testing import fake_info

RESULT = GenerationResult(text="all", model="tiny", finish_reason=FinishReason.STOP)


async def events_of(*events: Event) -> AsyncGenerator[Event, None]:
    for event in events:
        yield event


def followed(*events: Event) -> Answer:
    answer = Answer("tiny")
    asyncio.run(answer.follow(events_of(*events, Completed(RESULT))))
    return answer


def test_new_text_is_taken_once() -> None:
    answer = Answer("tiny")
    events = events_of(TextDelta("One"), TextDelta(" two"), Completed(RESULT))
    assert asyncio.run(answer.follow(events)) is RESULT
    assert answer.take_new_text() == "One two"
    assert answer.take_new_text() == ""
    assert answer.text == "One two"


def test_the_reader_is_woken_by_the_first_text_alone() -> None:
    assert not followed(PromptProgress(1, 2), ReasoningDelta("hm")).wake.is_set()
    answer = followed(TextDelta("One"))
    assert answer.wake.is_set()
    answer.wake.clear()
    asyncio.run(answer.follow(events_of(TextDelta(" two"), Completed(RESULT))))
    assert not answer.wake.is_set()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], ""),
        ([PromptProgress(1024, 4096)], "prefill: 1,024 of 4,096 tokens (25%)"),
        ([PromptProgress(0, 0)], ""),
        (
            [PromptProgress(4, 4), ReasoningDelta("a" * 1200)],
            "thinking: 1,200 characters so far",
        ),
        ([RetryScheduled(1, 2.4, "overloaded")], "trying again in 2 s: overloaded"),
    ],
)
def test_what_the_model_does_is_told_in_words(events: list[Event], words: str) -> None:
    assert followed(*events).activity == words


def test_a_partial_result_has_what_is_known() -> None:
    answer = followed(PromptProgress(3, 7), ReasoningDelta("hm"), TextDelta("One", 2))
    result = answer.partial_result(FinishReason.CANCELLED, "interrupt")
    assert (result.text, result.reasoning, result.model) == ("One", "hm", "tiny")
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (7, 2)
    assert result.timings.first_token_seconds is not None
    assert result.timings.total_seconds >= result.timings.first_token_seconds


def test_an_answer_that_was_stopped_tells_its_device_and_speed() -> None:
    answer = Answer("tiny", clock=iter([0.0, 1.0, 1.5, 2.0, 2.5, 3.0]).__next__)
    events = events_of(TextDelta("One", 1), TextDelta(" two", 1), TextDelta(" three", 1))
    with pytest.raises(NbllmError):
        asyncio.run(answer.follow(events, "tiny", "CPU"))
    words = status_words(answer.partial_result(FinishReason.CANCELLED, "interrupt"))
    assert words == "■ stopped · tiny · CPU · 3 tokens · 2.0 tokens/s · first token 0.50 s"


def test_a_stream_without_an_end_is_an_error() -> None:
    with pytest.raises(NbllmError, match="tiny: the stream ended without a result"):
        asyncio.run(Answer("tiny").follow(events_of(TextDelta("One"))))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (RESULT, "tiny · \N{EN DASH} tokens"),
        (replace(RESULT, finish_reason=FinishReason.CANCELLED), "■ stopped · tiny"),
        (
            replace(RESULT, usage=Usage(completion_tokens=2), notes=("sent without top_k",)),
            "tiny · 2 tokens · sent without top_k",
        ),
        (
            GenerationResult(
                text="",
                model="gpt-4o",
                finish_reason=FinishReason.LENGTH,
                usage=Usage(completion_tokens=1201, cost_usd=0.0123),
                timings=Timings(first_token_seconds=0.456, decode_seconds=10.0),
                device="cloud",
            ),
            "cut off at the token limit · gpt-4o · cloud · 1,201 tokens · 120 tokens/s · "
            "first token 0.46 s · $0.0123",
        ),
        (
            GenerationResult(
                text="x",
                model="tiny",
                finish_reason=FinishReason.STOP,
                usage=Usage(completion_tokens=1, cost_usd=0.0),
            ),
            "tiny · 1 token",
        ),
        (
            GenerationResult(
                text="x",
                model="tiny",
                finish_reason=FinishReason.STOP,
                usage=Usage(completion_tokens=11),
                timings=Timings(decode_seconds=4.0),
            ),
            "tiny · 11 tokens · 2.5 tokens/s",
        ),
    ],
)
def test_the_line_under_an_answer(result: GenerationResult, words: str) -> None:
    assert status_words(result) == words


def test_every_ending_can_be_told() -> None:
    for reason in FinishReason:
        assert status_words(GenerationResult(text="", model="tiny", finish_reason=reason))


def test_the_ready_line() -> None:
    local = fake_info("tiny", device="GPU 0", context_length=8192, memory_bytes=92 << 20)
    assert (
        ready_words(local, 0.94) == "tiny ready on GPU 0 in 0.9 s · context 8,192 · memory 92 MiB"
    )
    cloud = fake_info("gpt-4o", local=False, context_length=None)
    assert ready_words(cloud) == "gpt-4o ready"


def test_what_a_placement_gave_up_is_told_below_the_ready_line() -> None:
    placement = Placement(
        device="CPU",
        memory={},
        context_length=4096,
        parallel=1,
        threads=1,
        batch_threads=1,
        explain=lambda _: "The context length is 4,096 tokens, because 8,192 do not fit.",
    )
    info = fake_info("tiny", device="CPU", context_length=4096, placement=placement)
    assert ready_words(info) == "tiny ready on CPU · context 4,096"
    told = ready_words(replace(info, placement=replace(placement, is_compromise=True)))
    assert told == f"tiny ready on CPU · context 4,096\n{placement.reason}"
