"""Coroutines that were not awaited say so, and are coroutines to all else; several at once."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

import nbllm
from nbllm import ModelManager
from nbllm.core.awaiting import gathered
from nbllm.testing import FakeModel, FakeOpener, fake_info


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(text="Hello.")


def ask(model: FakeModel) -> Coroutine[Any, Any, Any]:
    return model.generate("Hi")


ASKS: dict[str, tuple[Any, ...]] = {
    "generate": ("Hi",),
    "generate_many": ("Hi", 2),
    "fill": ("a", "b"),
    "tokenize": ("Hi",),
    "detokenize": ([1],),
    "count_tokens": ("Hi",),
    "embed": ("Hi",),
    "rerank": ("a", ["b"]),
    "aclose": (),
}


@pytest.mark.parametrize("name", ASKS)
def test_every_coroutine_tells_what_is_missing(name: str, model: FakeModel) -> None:
    work = getattr(model, name)(*ASKS[name])
    assert repr(work) == f'<nbllm: not awaited: write "await model.{name}(…)">'
    work.close()


def test_so_do_those_of_a_manager_and_the_slips_that_follow() -> None:
    manager = ModelManager([fake_info("m")], open_model=FakeOpener())
    work: Any = manager.load_model("m")
    hint = r'not awaited: write "await manager\.load_model\(…\)"'
    with pytest.raises(TypeError, match=hint):
        _model, _info = work
    with pytest.raises(TypeError, match=hint):
        work[0]
    with pytest.raises(AttributeError, match=hint):
        work.text  # noqa: B018 - the access is the test
    work.close()


def test_no_public_coroutine_of_a_manager_or_a_model_is_silent() -> None:
    """Those that they inherit, too: a manager has parts, and a model has a managed side."""
    silent = [
        f"{kind.__name__}.{name}"
        for kind in (ModelManager, FakeModel)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
        and inspect.iscoroutinefunction(inspect.unwrap(method))
        and inspect.unwrap(method) is method
    ]
    assert not silent


def test_it_is_a_coroutine_to_whoever_takes_one(model: FakeModel) -> None:
    async def main() -> list[Any]:
        task = asyncio.create_task(ask(model))
        first = repr(task)
        assert "generate" in first
        return [
            await task,
            await ask(model),
            *await asyncio.gather(ask(model), ask(model)),
            await asyncio.wait_for(ask(model), 5),
            await asyncio.shield(ask(model)),
            await asyncio.ensure_future(ask(model)),
            *[await each for each in asyncio.as_completed([ask(model)])],
        ]

    assert {result.text for result in asyncio.run(main())} == {"Hello."}
    assert asyncio.run(ask(model)).text == nbllm.run(ask(model)).text == "Hello."
    work = ask(model)
    assert inspect.isawaitable(work)
    assert asyncio.iscoroutine(work)
    work.close()
    assert repr(work) == "<nbllm: model.generate(…), finished>"


async def test_a_task_is_cancelled_and_its_stack_can_be_seen() -> None:
    task = asyncio.create_task(ask(FakeModel(text="a b c", token_seconds=5)))
    await asyncio.sleep(0)
    task.get_stack()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_one_that_is_never_awaited_still_warns(model: FakeModel) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(model)
    assert any("generate' was never awaited" in str(warning.message) for warning in caught)


def test_signatures_and_names_stay() -> None:
    assert "prompt" in inspect.signature(nbllm.ModelInterface.generate).parameters
    assert nbllm.ModelInterface.generate.__qualname__ == "ModelInterface.generate"
    assert nbllm.ModelManager.load_model.__doc__


async def test_the_results_come_in_the_order_of_the_work() -> None:
    second = asyncio.Event()

    async def waits() -> int:
        await second.wait()
        return 1

    async def sets() -> int:
        second.set()
        return 2

    assert await gathered([waits(), sets()]) == [1, 2]
    assert await gathered([]) == []


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_failure_and_a_cancellation_wait_for_the_others_to_end(is_cancelled: bool) -> None:
    ended: list[str] = []

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async def fails() -> None:
        await asyncio.sleep(0)
        if is_cancelled:
            outer.cancel()
            await asyncio.Event().wait()
        raise ValueError("no")

    outer = asyncio.ensure_future(gathered([goes_on(), fails(), goes_on()]))
    with pytest.raises(asyncio.CancelledError if is_cancelled else ValueError):
        await outer
    assert ended == ["cleaned up"] * 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
