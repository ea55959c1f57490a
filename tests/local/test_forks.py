"""Forked children, as multiprocessing makes them: the parent's models are as not there."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbllm import ModelManager, run
from nbllm.core.errors import ModelClosedError, ModelNotFoundError
from nbllm.core.types import GenerationOptions, LoadOptions, ModelInfo, TextDelta
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.testing import FakeModel

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

CHILD_SECONDS = 60


@pytest.fixture
def info(tiny_models: dict[str, Path]) -> ModelInfo:
    return ModelInfo(
        name="tiny",
        model_type="llama",
        local=True,
        path=tiny_models["mistral"],
        load=LoadOptions(context_length=4096),
        options=GenerationOptions(ignore_eos=True, temperature=0, stall_timeout=30),
    )


def in_child(work: Callable[[], Any]) -> Callable[[], Any]:
    """Fork, have ``work`` done there, and return what waits for its result or raises its error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            try:
                told = (True, work())
            except BaseException as error:  # noqa: BLE001 - the parent sees it
                told = (False, f"{type(error).__name__}: {error}")
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(told, pipe)
        finally:
            os._exit(0)
    os.close(writer)

    def result() -> Any:
        with os.fdopen(reader, "rb") as pipe:
            told = pipe.read()
        os.waitpid(pid, 0)
        good, value = pickle.loads(told)
        assert good, value
        return value

    def within() -> Any:
        timer = threading.Timer(CHILD_SECONDS, os.kill, (pid, 9))
        timer.start()
        try:
            return result()
        finally:
            timer.cancel()

    return within


async def words(model: Any, count: int) -> AsyncIterator[str]:
    async for event in model.stream("Tell me a story.", max_tokens=count):
        if isinstance(event, TextDelta):
            yield event.text


async def own_load(manager: ModelManager, name: str) -> tuple[int, str]:
    model, _ = await manager.load_model(name)
    assert isinstance(model, LlamaCppModel)
    answer = (await model.generate("Hi", max_tokens=4)).text
    pid = model.pid
    await manager.aclose()
    return pid, answer


async def every_use(model: LlamaCppModel) -> list[str]:
    asked = [
        model.generate("Hi", max_tokens=1),
        model.count_tokens("Hi"),
        model.tokenize("Hi"),
        model.detokenize([1]),
        model.embed(["Hi"]),
    ]
    found = await asyncio.gather(*asked, return_exceptions=True)
    for error in found:
        assert isinstance(error, ModelClosedError), error
    return [str(error) for error in found]


async def test_a_child_loads_and_asks_while_the_parent_streams(info: ModelInfo) -> None:
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("tiny")
        assert isinstance(model, LlamaCppModel)
        whole = "".join([text async for text in words(model, 200)])
        texts, child = "", None
        async for text in words(model, 200):
            texts += text
            if child is None:
                child = in_child(lambda: asyncio.run(own_load(manager, "tiny")))
        assert child is not None
        pid, answer = await asyncio.to_thread(child)
        assert texts == whole
        assert answer
        assert pid != model.pid
        assert model.usable
        assert (await model.generate("Hi", max_tokens=2)).usage.completion_tokens == 2


async def test_inherited_models_are_as_not_there(info: ModelInfo) -> None:
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("tiny")
        assert isinstance(model, LlamaCppModel)

        def ask() -> Any:
            with pytest.raises(ModelNotFoundError):
                manager.get_model("tiny")
            with pytest.raises(ModelNotFoundError):
                asyncio.run(manager.unload_model("tiny"))
            assert manager.list_loaded_models() == []
            assert not model.usable
            problems = asyncio.run(every_use(model))
            asyncio.run(model.aclose())
            model.kill()
            return problems

        problems = await asyncio.to_thread(in_child(ask))
        assert all("forked" in problem and "Load it again" in problem for problem in problems)
        assert (await model.generate("Hi", max_tokens=2)).usage.completion_tokens == 2


async def test_a_stream_that_a_child_inherits_ends_there_and_goes_on_here(info: ModelInfo) -> None:
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("tiny")
        stream = words(model, 100)
        texts = [await anext(stream)]

        def go_on() -> str:
            with pytest.raises(ModelClosedError, match="forked") as caught:
                asyncio.run(anext(stream))
            return str(caught.value)

        await asyncio.to_thread(in_child(go_on))
        texts += [text async for text in stream]
        assert "".join(texts) == "".join([text async for text in words(model, 100)])


PROGRAM = """
import gc, os, sys, threading
from pathlib import Path
from nbllm import GenerationOptions, LoadOptions, ModelInfo, ModelManager, run

options = GenerationOptions(ignore_eos=True, temperature=0)
load = LoadOptions(context_length=4096)
info = ModelInfo(name="tiny", model_type="llama", local=True, path=Path(sys.argv[1]), load=load)
manager = ModelManager([info])

async def answer():
    model, _ = await manager.load_model("tiny")
    return (await model.generate("Hi", options=options, max_tokens=300)).text

first, texts = run(answer()), []
thread = threading.Thread(target=lambda: texts.append(run(answer())))
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        gc.collect()
        del manager
        gc.collect()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
thread.join()
assert texts == [first], (texts, first)
assert run(answer()) == first
run(manager.aclose())
print("whole")
"""


def test_children_that_end_as_programs_do_leave_the_parents_worker(info: ModelInfo) -> None:
    """Their exit handlers and finalizers run, which those of multiprocessing leave out."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(info.path)],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr


def answer_in_pool(arguments: tuple[ModelInfo, str]) -> str:
    info, prompt = arguments

    async def answer() -> str:
        async with ModelManager([info]) as manager:
            model, _ = await manager.load_model(info.name)
            return (await model.generate(prompt, max_tokens=5)).text

    return asyncio.run(answer())


def test_a_pool_of_processes_asks_while_the_parent_does(info: ModelInfo) -> None:
    async def parent(manager: ModelManager) -> str:
        model, _ = await manager.load_model("tiny")
        return (await model.generate("Hi", max_tokens=200)).text

    manager = ModelManager([info])
    done = threading.Event()
    texts: list[str] = []

    def stream() -> None:
        while not done.is_set():
            texts.append(run(parent(manager)))

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        while not texts:
            time.sleep(0.05)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            asked = [(info, "Hi")] * 4
            answers = pool.map_async(answer_in_pool, asked).get(CHILD_SECONDS)
    finally:
        done.set()
        thread.join()
    run(manager.aclose())
    assert len(set(answers)) == 1
    assert len(set(texts)) == 1


@pytest.fixture
def held_locks() -> Iterator[list[Any]]:
    """Locks that a thread of the parent holds for as long as the test takes."""
    from nbllm.core.layers import uses

    manager = ModelManager()
    model = FakeModel()
    locks: list[Any] = [
        uses._LOCK,
        manager._registry.changed,
        manager._loader._queue._deciding,
        manager.activity._lock,
        manager.history._lock,
        manager._listeners._lock,
    ]
    release, holding = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.__enter__()
        holding.set()
        release.wait()
        for lock in locks:
            lock.__exit__(None, None, None)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    yield [manager, model]
    release.set()
    thread.join()


def test_locks_that_were_held_at_the_fork_are_free_in_the_child(held_locks: list[Any]) -> None:
    manager, model = held_locks

    def use() -> str:
        assert manager.list_statuses() == []
        assert manager.activity.running() == []
        assert manager.history.records() == ()
        manager.subscribe(print)
        return run(model.generate("Hi")).text

    assert in_child(use)() == "A scripted answer."


def test_the_bridge_of_magics_works_in_parent_and_child() -> None:
    async def answer() -> int:
        return 42

    assert run(answer()) == 42
    assert in_child(lambda: run(answer()))() == 42
    assert run(answer()) == 42
