"""Layers around a model's own stream: their order, and what each is told and leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from nbllm.core.errors import ModelClosedError, OverloadedError, ServerError
from nbllm.core.generation import Generation
from nbllm.core.layers.activity import Activity, Watched
from nbllm.core.layers.layer import Events, Next, Place, composed
from nbllm.core.layers.retry import Retry, RetryPolicy
from nbllm.core.layers.uses import CountedUse, Uses, retire_idle
from nbllm.core.types import (
    Completed,
    Event,
    FinishReason,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    Message,
    RetryScheduled,
    TextDelta,
    Timings,
)
from nbllm.testing import FakeModel, fake_info

REQUEST = GenerationRequest((Message("user", "?"),), model=fake_info("tiny"))
RESULT = GenerationResult(
    text="Yes",
    model="tiny",
    finish_reason=FinishReason.STOP,
    timings=Timings(first_token_seconds=0.25, decode_seconds=0.5, total_seconds=1.0),
)


class Noted:
    """A layer that notes when a stream passes through it, each way."""

    def __init__(self, place: Place, name: str, notes: list[str]) -> None:
        self.place, self._name, self._notes = place, name, notes

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        self._notes.append(f"in {self._name}")
        try:
            async with aclosing(following(request)) as events:
                async for event in events:
                    yield event
        finally:
            self._notes.append(f"out {self._name}")


async def answering(request: GenerationRequest) -> Events:
    yield TextDelta("Yes", 1)
    yield Completed(RESULT)


def failing(*failures: Exception, after: int = 0) -> tuple[Next, list[GenerationRequest]]:
    """A stream that fails once for each failure, after so many events, and what it was asked."""
    asked: list[GenerationRequest] = []
    left = list(failures)

    async def stream(request: GenerationRequest) -> Events:
        asked.append(request)
        events: list[Event] = [TextDelta("Yes", 1), Completed(RESULT)]
        for event in events[:after] if left else events:
            yield event
        if left:
            raise left.pop(0)

    return stream, asked


async def all_of(events: Events) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


async def test_layers_stand_in_the_order_of_their_places_however_they_are_given() -> None:
    notes: list[str] = []
    layers = [Noted(place, place.name, notes) for place in reversed(Place)]
    await all_of(composed(layers, answering)(REQUEST))
    names = [place.name for place in Place]
    assert notes == [f"in {name}" for name in names] + [f"out {name}" for name in reversed(names)]


async def test_a_newer_layer_takes_the_place_of_the_one_that_stood_there() -> None:
    notes: list[str] = []
    layers = [Noted(Place.RETRY, name, notes) for name in ("old", "new")]
    await all_of(composed(layers, answering)(REQUEST))
    assert notes == ["in new", "out new"]


async def test_closing_a_stream_closes_every_layer() -> None:
    notes: list[str] = []
    layers = [Noted(place, place.name, notes) for place in Place]
    async with aclosing(composed(layers, answering)(REQUEST)) as events:
        await anext(events)
    assert len(notes) == 2 * len(Place)


async def test_without_layers_the_model_itself_answers() -> None:
    assert await all_of(composed((), answering)(REQUEST)) == [
        TextDelta("Yes", 1),
        Completed(RESULT),
    ]


async def test_a_model_passes_its_streams_through_layers_that_are_added() -> None:
    class Shouting:
        place = Place.RETRY

        async def __call__(self, request: GenerationRequest, following: Next) -> Events:
            async for event in following(replace(request, options=GenerationOptions(max_tokens=1))):
                yield TextDelta(event.text.upper(), 1) if isinstance(event, TextDelta) else event

    model = FakeModel(text="one two")
    model.add_layers(Shouting())
    events = await all_of(model.stream("Hi"))
    assert events[0] == TextDelta("ONE", 1)
    assert (await model.generate("Hi")).finish_reason is FinishReason.LENGTH


async def test_a_request_says_to_which_model_it_goes_and_is_equal_to_one_alike() -> None:
    model = FakeModel(fake_info("tiny"))
    await model.generate("Hi", seed=3)
    await model.generate("Hi", seed=3)
    await model.generate("Hi", seed=4)
    first, same, other = model.requests
    assert first.model == model.info
    assert first == same != other


async def test_a_finished_request_can_be_streamed_as_it_is() -> None:
    model = FakeModel(fake_info("tiny"), text="one two three")
    request = replace(REQUEST, options=GenerationOptions(max_tokens=2))
    events = await all_of(model.stream_request(request))
    assert model.requests == [request]
    assert isinstance(events[-1], Completed)
    assert events[-1].result.text == "one two"


# ---------------------------------------------------------------- uses


async def test_a_stream_counts_as_a_use_from_its_first_event_to_its_end() -> None:
    uses = Uses("tiny")
    async with aclosing(composed([CountedUse(uses)], answering)(REQUEST)) as events:
        assert uses.count == 0
        await anext(events)
        assert uses.count == 1
        assert not retire_idle([uses], "it was unloaded")
    assert uses.count == 0
    assert retire_idle([uses], "it was unloaded")
    with pytest.raises(ModelClosedError, match="it was unloaded"):
        await all_of(composed([CountedUse(uses)], answering)(REQUEST))


def test_a_lease_keeps_a_model_without_being_a_request() -> None:
    uses = Uses("tiny")
    with uses.lease():
        assert (uses.count, uses.busy) == (0, True)
        assert not retire_idle([uses], "gone")
    assert not uses.busy


def test_a_grace_period_ends_with_the_first_use() -> None:
    uses = Uses("tiny")
    uses.grace(2)
    for _ in range(2):
        assert uses.busy
        with uses:
            pass
    assert not uses.busy


# ---------------------------------------------------------------- retry

BUSY = OverloadedError("tiny", "it is busy", retryable=True)
QUICK = Retry(RetryPolicy(first_delay=0.001, max_attempts=3))


async def test_what_failed_before_any_event_is_sent_again() -> None:
    stream, asked = failing(BUSY, BUSY)
    *waits, text, end = await all_of(composed([QUICK], stream)(REQUEST))
    assert asked == [REQUEST] * 3
    assert [(w.attempt, w.reason) for w in waits if isinstance(w, RetryScheduled)] == [
        (1, str(BUSY)),
        (2, str(BUSY)),
    ]
    assert text == TextDelta("Yes", 1)
    assert isinstance(end, Completed)
    # What the reader waited counts, and what the model took to write does not change.
    assert end.result.timings.first_token_seconds > 0.25
    assert end.result.timings.total_seconds > 1.0
    assert end.result.timings.decode_seconds == 0.5


async def test_the_result_of_a_first_attempt_is_left_as_it_is() -> None:
    *_, end = await all_of(composed([QUICK], answering)(REQUEST))
    assert end == Completed(RESULT)


@pytest.mark.parametrize(
    ("failures", "after", "attempts"),
    [
        ([BUSY] * 3, 0, 3),  # the policy's last attempt
        ([BUSY], 1, 1),  # text was delivered, which cannot be taken back
        ([ServerError("tiny", "no", retryable=False)], 0, 1),
        ([ValueError("a bug")], 0, 1),
    ],
)
async def test_the_last_failure_is_raised(
    failures: list[Exception], after: int, attempts: int
) -> None:
    stream, asked = failing(*failures, after=after)
    with pytest.raises(type(failures[-1])) as raised:
        await all_of(composed([QUICK], stream)(REQUEST))
    assert len(asked) == attempts
    assert raised.value is failures[-1]
    assert raised.value.__context__ is None


async def test_a_request_bounds_its_retries() -> None:
    stream, asked = failing(BUSY)
    request = replace(REQUEST, options=GenerationOptions(max_retry_seconds=0))
    with pytest.raises(OverloadedError):
        await all_of(composed([QUICK], stream)(request))
    assert len(asked) == 1


# ---------------------------------------------------------------- activity


@pytest.fixture
async def activity() -> AsyncIterator[Activity]:
    from nbllm.core.history import GenerationLog

    activity = Activity(GenerationLog())
    yield activity
    assert activity.running() == []


async def test_a_stop_before_the_beginning_asks_nobody(activity: Activity) -> None:
    stream, asked = failing()
    generation = Generation("tiny")
    generation.cancel()
    layers = [Watched(activity, generation, "CPU")]
    (end,) = await all_of(composed(layers, stream)(REQUEST))
    assert isinstance(end, Completed)
    assert end.result.finish_reason is FinishReason.CANCELLED
    assert not end.result.text
    assert asked == []


async def test_a_failure_of_a_layer_that_is_no_generator_is_recorded(activity: Activity) -> None:
    class Refusing:
        place = Place.SCHEMA

        def __call__(self, request: GenerationRequest, following: Next) -> Events:
            raise ServerError("tiny", "not now")

    layers = [Refusing(), Watched(activity, Generation(), "CPU")]
    with pytest.raises(ServerError):
        await all_of(composed(layers, answering)(REQUEST))
