"""What is collected of one answer, and its tokens in equal intervals, at bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.errors import InvalidOptionError
from nbllm.core.generation import (
    FIRST_INTERVAL_SECONDS,
    MAX_INTERVALS,
    Generation,
    NewText,
    TokenPace,
)
from nbllm.core.types import (
    Event,
    FinishReason,
    PromptProgress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from nbllm.testing import FakeModel


def test_tokens_are_counted_in_the_interval_in_which_they_came() -> None:
    pace = TokenPace()
    for tokens, seconds in [(1, 0.0), (2, 0.1), (3, 0.3), (4, 1.0)]:
        pace.add(tokens, seconds)
    assert pace.counts == (3, 3, 0, 0, 4)
    assert (pace.total, pace.interval_seconds) == (10, 0.25)


def test_long_answers_get_longer_intervals() -> None:
    pace = TokenPace()
    for second in range(100):
        pace.add(10, second)
    assert pace.interval_seconds == 2.0
    assert pace.counts == (20,) * 50


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1e6)), min_size=1))
def test_no_token_is_lost_and_the_memory_is_bounded(steps: list[tuple[int, float]]) -> None:
    pace, seconds = TokenPace(), 0.0
    for tokens, more in steps:
        seconds += more
        pace.add(tokens, seconds)
    assert sum(pace.counts) == pace.total == sum(tokens for tokens, _ in steps)
    assert len(pace.counts) <= MAX_INTERVALS
    assert len(pace.counts) * pace.interval_seconds >= min(seconds, FIRST_INTERVAL_SECONDS)


# ---------------------------------------------------------------- Generation


def filled(*events: Event, clock: Callable[[], float] = time.monotonic) -> Generation:
    """A generation that took these events."""
    generation = Generation(clock=clock)

    async def run() -> None:
        generation.begin("tiny", "CPU", "Hi")
        for event in events:
            generation.take(event)

    asyncio.run(run())
    return generation


def test_new_text_is_taken_once_by_each_reader() -> None:
    generation = filled(TextDelta("One"), TextDelta(" two"))
    for _ in range(2):
        new = NewText(generation)
        assert (new.take(), new.take()) == ("One two", "")
    assert generation.text == "One two"


def test_new_text_goes_on_from_what_was_begun() -> None:
    new = NewText(Generation(), "One")
    assert (new.take(), new.take()) == ("One", "")


def test_a_reader_is_woken_by_the_first_text_alone() -> None:
    assert not filled(PromptProgress(1, 2), ReasoningDelta("hm")).wake.is_set()
    generation = filled(TextDelta("One"))
    assert generation.wake.is_set()
    generation.wake.clear()
    generation.take(TextDelta(" two"))
    assert not generation.wake.is_set()


def test_a_partial_result_has_what_is_known() -> None:
    generation = filled(PromptProgress(3, 7), ReasoningDelta("hm", 1), TextDelta("One", 2))
    result = generation.partial_result(FinishReason.CANCELLED, "interrupt")
    assert (result.text, result.reasoning, result.model) == ("One", "hm", "tiny")
    assert result.usage.prompt_tokens == 7
    assert result.usage.completion_tokens == generation.tokens == 3
    assert result.timings.first_token_seconds is not None
    assert result.timings.total_seconds >= result.timings.first_token_seconds


@pytest.mark.parametrize("uncounted", [TextDelta(" two"), ReasoningDelta("hm"), ToolCallDelta(0)])
def test_pieces_that_come_without_a_count_are_no_tokens_of_a_result(uncounted: Event) -> None:
    generation = filled(TextDelta("One", 2), uncounted)
    assert generation.tokens == 3
    assert generation.counted_tokens is None
    assert generation.partial_result(FinishReason.FAILED, "").usage.completion_tokens is None


def test_before_it_has_begun_a_generation_is_empty() -> None:
    generation = Generation("tiny")
    assert not generation.has_begun
    assert (generation.text, generation.tokens, generation.seconds) == ("", 0, 0.0)
    assert generation.partial_result(FinishReason.CANCELLED, "").model == "tiny"


async def test_a_generation_collects_one_stream_only() -> None:
    model, generation = FakeModel(text="one two"), Generation()
    async for _ in model.stream("Hi", generation=generation):
        pass
    assert (generation.text, generation.model, generation.beginning) == ("one two", "fake", "Hi")
    with pytest.raises(InvalidOptionError, match="give each stream a new Generation"):
        async for _ in model.stream("Hi", generation=generation):
            pass
    assert generation.text == "one two"
