"""Real models that take turns in a memory that holds two of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbllm import ModelManager, ResourceDetector
from nbllm.core.errors import DoesNotFitError, ModelClosedError
from nbllm.core.hardware.resources import Resources
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.openers import plan_model
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local import plans
from nbllm.local.gguf import shape
from nbllm.local.gguf.header import Header, read_header

HEADROOM = 128 * 2**20
ROUNDS = 2
ARCHITECTURES = ("llama", "qwen3", "gemma", "phi3")


def workers() -> list[psutil.Process]:
    """The workers of this process; the servers of other tests are none of these."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "nbllm.local.worker" in child.cmdline()
    ]


class SmallMachine:
    """This machine with an invented amount of memory, of which the workers take real parts."""

    def __init__(self, total: int) -> None:
        self.real = replace(ResourceDetector().detect(), gpus=())
        self.total = total
        self.others = {worker.pid for worker in workers()}

    def __call__(self) -> Resources:
        memory = replace(
            self.real.memory,
            total_bytes=self.total,
            available_bytes=max(0, self.total - self.used_bytes()),
        )
        return replace(self.real, memory=memory)

    def used_bytes(self) -> int:
        """As a system counts: a mapped file is memory that can be had."""
        used = 0
        for worker in workers():
            if worker.pid not in self.others:
                memory = worker.memory_info()
                used += memory.rss - getattr(memory, "shared", 0)
        return used


@pytest.fixture
def infos(tiny_models: dict[str, Path]) -> list[ModelInfo]:
    # Long contexts, so that what a worker takes by itself matters little beside the models.
    load = LoadOptions(context_length=131_072, parallel=1)
    return [
        ModelInfo(name=name, model_type=name, local=True, path=tiny_models[name], load=load)
        for name in ARCHITECTURES
    ]


@pytest.fixture
def machine(infos: list[ModelInfo]) -> Iterator[SmallMachine]:
    """Holds two of the models, and not three."""
    real = replace(ResourceDetector().detect(), gpus=())
    sizes = sorted(placed.total_bytes for info in infos if (placed := plan_model(info, real)))
    two, three = sizes[-1] + sizes[-2], sum(sizes[:3])
    assert two < three
    small = SmallMachine((two + three) // 2 + HEADROOM)
    yield small
    assert {worker.pid for worker in workers()} <= small.others, "a worker is left"


async def test_models_take_turns_and_nothing_is_left(
    infos: list[ModelInfo], machine: SmallMachine
) -> None:
    told: list[ManagerEvent] = []
    rss: list[int] = []
    async with ModelManager(infos, resources=machine) as manager:
        manager.subscribe(told.append)
        for _ in range(ROUNDS):
            for info in infos:
                model, loaded = await manager.load_model(info.name)
                assert (await model.generate("Hi", max_tokens=2)).usage.completion_tokens
                assert len(manager.list_loaded_models()) <= 2
                assert machine.used_bytes() <= machine.total
                assert loaded.placement is not None
            gc.collect()
            rss.append(psutil.Process().memory_info().rss)
    kinds = [event.kind for event in told]
    assert kinds.count("loaded") > 2
    assert kinds.count("evicted") == kinds.count("loaded") - 2
    assert "failed" not in kinds
    assert rss[-1] - rss[0] < 8 * 2**20


async def test_a_model_that_answers_is_not_evicted_and_the_other_waits(
    infos: list[ModelInfo], machine: SmallMachine
) -> None:
    async with ModelManager(infos, resources=machine) as manager:
        first, second, third, _ = infos
        answering, _ = await manager.load_model(first.name)
        evicted, _ = await manager.load_model(second.name)
        await evicted.generate("Hi", max_tokens=1)
        answer = asyncio.create_task(answering.generate("Hi", max_tokens=100))
        await asyncio.sleep(0)
        await manager.load_model(third.name)
        assert (await answer).text is not None
        assert [info.name for info in manager.list_loaded_models()] == [first.name, third.name]
        with pytest.raises(ModelClosedError, match=f"make room for {third.name}"):
            await evicted.generate("Hi")


async def test_a_context_that_never_fits_is_refused_and_all_stay(
    infos: list[ModelInfo], machine: SmallMachine
) -> None:
    async with ModelManager(infos, resources=machine) as manager:
        await manager.load_model(infos[0].name)
        with pytest.raises(DoesNotFitError):
            await manager.load_model(infos[1].name, context_length=10_000_000)
        assert [info.name for info in manager.list_loaded_models()] == [infos[0].name]


async def test_a_load_reads_the_header_once_and_looks_at_the_machine_that_it_was_given(
    infos: list[ModelInfo], machine: SmallMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noted(file: Path, **how: Any) -> Header:
        read.append(file)
        return read_header(file, **how)

    monkeypatch.setattr(shape, "read_header", noted)
    monkeypatch.delattr(ResourceDetector, "detect")
    plans._read.cache_clear()
    async with ModelManager(infos, resources=machine) as manager:
        await manager.load_model(infos[0].name)
    assert read == [infos[0].path]
