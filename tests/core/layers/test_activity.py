"""Generations that run: seen from outside, stopped from any thread, recorded once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import pytest_asyncio

from nbllm.core.errors import EngineError
from nbllm.core.generation import Generation
from nbllm.core.history import GenerationRecord
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import Completed, FinishReason, TextDelta
from nbllm.testing import FakeOpener, fake_info

Opened = tuple[ModelManager, ModelInterface]


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Callable[..., object]]:
    """Call it with the arguments of a fake: a manager, and the model that it has loaded."""
    managers: list[ModelManager] = []

    async def open_one(**fake: object) -> Opened:
        manager = ModelManager([fake_info("m")], open_model=FakeOpener(**fake))
        managers.append(manager)
        return manager, (await manager.load_model("m"))[0]

    yield open_one
    for manager in managers:
        await manager.aclose()


def only_record(manager: ModelManager) -> GenerationRecord:
    (record,) = manager.history
    assert manager.activity.running() == []
    return record


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("waited in vain")


async def running(manager: ModelManager) -> Generation:
    """The one generation that runs, once it has written something."""
    await until(lambda: any(each.tokens for each in manager.activity.running()))
    return manager.activity.running()[0]


async def test_an_answer_is_recorded_with_its_counts_and_times(opened) -> None:
    manager, model = await opened(text="one two three", token_seconds=0.001)
    result = await model.generate("Count, please.", seed=3)
    record = only_record(manager)
    assert (record.model, record.device, record.finish_reason) == ("m", "CPU", FinishReason.STOP)
    assert (record.usage, record.timings) == (result.usage, result.timings)
    assert record.tokens_per_second == result.tokens_per_second
    assert sum(record.token_counts) == 3
    assert record.error is None
    assert record.started.tzinfo is not None
    assert "Count" not in repr(record)


async def test_the_record_is_there_when_the_last_event_is(opened) -> None:
    manager, model = await opened()
    async with aclosing(model.stream("Hi")) as events:
        async for event in events:
            if isinstance(event, Completed):
                assert len(manager.history) == 1
    assert len(manager.history) == 1


async def test_what_runs_is_seen_from_outside(opened) -> None:
    manager, model = await opened(text="word " * 500, token_seconds=0.002, prompt_seconds=0.05)
    task = asyncio.create_task(model.generate("a b c"))
    await until(lambda: [each.phase for each in manager.activity.running("m")] == ["reading"])
    generation = await running(manager)
    assert manager.activity.running("another") == []
    assert generation.phase == "writing"
    assert generation.prompt is not None
    assert generation.prompt.total == 3
    assert "writing" in repr(generation)
    before = manager.activity.tokens_by_device()["CPU"]
    await until(lambda: generation.tokens > before + 1)
    assert generation.tokens_per_second
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert manager.activity.tokens_by_device()["CPU"] == generation.tokens


@pytest.mark.parametrize("from_thread", [True, False])
async def test_a_stopped_generation_ends_with_its_partial_answer(opened, from_thread) -> None:
    manager, model = await opened(text="word " * 5000, token_seconds=0.002)
    task = asyncio.create_task(model.generate("Go on."))
    generation = await running(manager)
    if from_thread:
        stopper = threading.Thread(target=generation.cancel)
        stopper.start()
        stopper.join()
    else:
        generation.cancel()
    result = await task
    assert result.finish_reason is FinishReason.CANCELLED
    assert result.text.startswith("word")
    assert result.usage.completion_tokens == len(result.text.split())
    assert model.cancelled == 1
    assert only_record(manager).stopped
    generation.cancel()
    await asyncio.sleep(0)
    assert not task.cancelled()


async def test_a_reader_that_is_elsewhere_is_not_cancelled(opened) -> None:
    manager, model = await opened(text="a b c d e f")
    seen = []
    async with aclosing(model.stream("Hi")) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event, TextDelta):
                manager.activity.running()[0].cancel()
                await asyncio.sleep(0.005)
    assert isinstance(seen[-1], Completed)
    assert seen[-1].result.text == "a"
    assert only_record(manager).stopped


async def test_a_cancellation_of_the_readers_own_stays_one(opened) -> None:
    manager, model = await opened(text="word " * 5000, token_seconds=0.002)
    task = asyncio.create_task(model.generate("Go on."))
    generation = await running(manager)
    task.cancel()
    generation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only_record(manager).stopped


async def test_a_time_limit_around_a_stopped_answer_is_kept(opened) -> None:
    manager, model = await opened(text="word " * 5000, token_seconds=0.002)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(model.generate("Go on."), timeout=0.05)
    assert only_record(manager).stopped


async def test_a_failure_is_recorded_by_its_kind(opened) -> None:
    manager, model = await opened(text="a b c", error=EngineError("m", "it broke"), fail_after=2)
    with pytest.raises(EngineError):
        await model.generate("Hi")
    record = only_record(manager)
    assert (record.finish_reason, record.error) == (FinishReason.FAILED, "EngineError")
    assert record.usage.completion_tokens == 2


async def test_a_stream_that_is_left_is_recorded_as_stopped(opened) -> None:
    manager, model = await opened()
    async with aclosing(model.stream("Hi")) as events:
        await anext(events)
    assert only_record(manager).stopped


async def test_stopping_after_the_loop_is_closed_is_harmless(opened) -> None:
    manager, model = await opened(text="word " * 200, token_seconds=0.001)
    found: list[Generation] = []

    async def elsewhere() -> None:
        async with aclosing(model.stream("Hi")) as events:
            await anext(events)
            found.extend(manager.activity.running())

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    found[0].cancel()
    assert only_record(manager).stopped
