"""What nbllm says of itself: what goes on, the line under an answer, the line beside a load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbllm.core.generation import Generation
from nbllm.core.placement import Placement
from nbllm.core.routing.route import Route, RouteTry
from nbllm.core.routing.router_settings import RouterMember, RouterSettings
from nbllm.core.types import (
    BudgetWait,
    Event,
    FinishReason,
    GenerationResult,
    LoadOptions,
    ModelInfo,
    PromptProgress,
    ReasoningDelta,
    RetryScheduled,
    RouteChosen,
    TextDelta,
    Timings,
    Usage,
)
from nbllm.notebook.status_messages import activity_words, ready_words, status_words
from nbllm.testing import fake_info

RESULT = GenerationResult(text="all", model="tiny", finish_reason=FinishReason.STOP)


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
        (
            [BudgetWait("today's budget for gpt-5")],
            "waiting for today's budget for gpt-5: other requests under way have reserved what is "
            "left of it",
        ),
        ([BudgetWait("today's budget"), BudgetWait("")], ""),
        ([RetryScheduled(1, 2.4, "overloaded")], "trying again in 2 s: overloaded"),
    ],
)
def test_what_the_model_does_is_told_in_words(events: list[Event], words: str) -> None:
    generation = Generation("tiny")
    for event in events:
        generation.take(event)
    assert activity_words(generation) == words


async def test_an_answer_that_was_stopped_tells_its_device_and_speed() -> None:
    generation = Generation(clock=iter([0.0, 0.5, 1.0, 1.5, 2.0]).__next__)
    generation.begin("tiny", "CPU", "")
    for text in ("One", " two", " three"):
        generation.take(TextDelta(text, 1))
    words = status_words(generation.partial_result(FinishReason.CANCELLED, "interrupt"))
    assert words == "■ stopped · tiny · CPU · 3 tokens · 2.0 tokens/s · first token 0.50 s"


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
    split = replace(info, load=LoadOptions(kv_unified=False))
    assert ready_words(split) == "tiny ready on CPU · context 4,096 for each request"
    told = ready_words(replace(info, placement=replace(placement, is_compromise=True)))
    assert told == f"tiny ready on CPU · context 4,096\n{placement.reason}"


ROUTE = Route(
    router="any",
    strategy="in-order",
    member="tiny",
    tries=(
        RouteTry(member="big", why="first in order", failure="rate_limit", problem="big: slow"),
        RouteTry(member="tiny", why="next in order"),
    ),
)


def test_a_routed_answer_tells_who_was_passed_over() -> None:
    words = status_words(replace(RESULT, route=ROUTE))
    assert words == "tiny · via any (big: rate limit) · \N{EN DASH} tokens"
    generation = Generation("any")
    generation.take(RouteChosen(ROUTE, "CPU"))
    assert activity_words(generation) == "any asks tiny: big: rate limit"
    partial = generation.partial_result(FinishReason.CANCELLED, "interrupt")
    assert (partial.model, partial.device, partial.route) == ("tiny", "CPU", ROUTE)


def test_the_ready_line_of_a_router_names_its_members() -> None:
    settings = RouterSettings(members=(RouterMember("a"), RouterMember("b")), strategy="weighted")
    info = ModelInfo(name="any", model_type="router", local=False, router=settings)
    assert ready_words(info) == "any ready, a router of a and b (weighted)"
