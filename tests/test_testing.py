"""The public fakes behave as real models do."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from nbllm.core.errors import EngineCrashedError, ModelClosedError, ModelLoadError
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import Completed, FinishReason, PromptProgress, TextDelta
from nbllm.testing import FakeModel, FakeOpener, fake_info


async def test_the_scripted_text_arrives_word_by_word() -> None:
    events = [event async for event in FakeModel(text="One  two\nthree. ").stream("Hi")]
    *deltas, last = events
    words = ["One", "  two", "\nthree.", " "]
    assert deltas == [TextDelta(word, 1) for word in words]
    assert isinstance(last, Completed)
    assert last.result.text == "One  two\nthree. "
    assert last.result.finish_reason is FinishReason.STOP
    assert last.result.usage.completion_tokens == 4


async def test_max_tokens_cuts_the_answer() -> None:
    result = await FakeModel(text="One two three").generate("Hi", max_tokens=2)
    assert (result.text, result.finish_reason) == ("One two", FinishReason.LENGTH)


async def test_reading_the_prompt_is_reported() -> None:
    model = FakeModel(prompt_seconds=0.01)
    events = [event async for event in model.stream("one two three four")]
    steps = [event for event in events if isinstance(event, PromptProgress)]
    assert [(step.processed, step.total) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_a_failure_carries_the_partial_text() -> None:
    crash = EngineCrashedError("fake", "it died")
    model = FakeModel(text="One two three", error=crash, fail_after=2)
    with pytest.raises(EngineCrashedError) as caught:
        await model.generate("Hi")
    assert caught.value.partial_text == "One two"


async def test_answers_that_are_given_up_are_counted() -> None:
    model = FakeModel(text="One two three", token_seconds=0.01)
    async with aclosing(model.stream("Hi")) as events:
        async for _ in events:
            break
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(model.generate("Hi"), 0.005)
    assert model.cancelled == 2
    assert len(model.requests) == 2


async def test_a_closed_model_refuses() -> None:
    model = FakeModel()
    await model.aclose()
    assert not model.usable
    with pytest.raises(ModelClosedError):
        await model.generate("Hi")


async def test_tokens_counts_and_vectors() -> None:
    model = FakeModel()
    assert await model.detokenize(await model.tokenize("Größe")) == "Größe"
    assert (await model.count_tokens("one two", system="three")).tokens == 3
    assert (await model.embed(["a b", "abc"], normalize=False)).vectors.tolist() == [
        [3.0, 2.0],
        [3.0, 1.0],
    ]


async def test_the_opener_loads_reports_and_remembers() -> None:
    opener = FakeOpener(text="Hello!")
    seen: list[float] = []
    async with ModelManager([fake_info("tiny")], open_model=opener) as manager:
        model, info = await manager.load_model("tiny", progress=seen.append)
        assert (await model.generate("Hi")).text == "Hello!"
        assert info.device == "CPU"
        assert opener.opened == [model]
        assert seen == sorted(seen)
        assert seen[-1] == 1.0
    assert not model.usable


async def test_a_load_that_is_told_to_fail_fails() -> None:
    opener = FakeOpener(load_error=ModelLoadError("tiny", "its file is gone"))
    with pytest.raises(ModelLoadError, match="its file is gone"):
        await ModelManager([fake_info("tiny")], open_model=opener).load_model("tiny")


async def test_a_load_that_nobody_waits_for_is_given_up() -> None:
    opener = FakeOpener(load_seconds=60)
    async with ModelManager([fake_info("tiny")], open_model=opener) as manager:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(manager.load_model("tiny"), 0.1)
