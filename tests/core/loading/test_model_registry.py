"""What a manager promises about memory: keep-alive, eviction, pins, turns, and what it tells."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nbllm import ModelManager
from nbllm.core.errors import (
    DoesNotFitError,
    InvalidOptionError,
    ModelClosedError,
    ModelLoadError,
    ModelNotFoundError,
)
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import LoadOptions
from nbllm.testing import FakeModel, FakeOpener, fake_info

GIB = 2**30
SIZES = {
    "a": 4,
    "b": 4,
    "c": 4,
    "small": 1,
    "medium": 2,
    "large": 8,
    "large-2": 8,
    "whole": 9,
    "huge": 100,
}


class Machine:
    """A manager of fake models on a fake machine with 9 GiB, and what it told."""

    def __init__(self, *, total: int = 9, **opener: Any) -> None:
        self.opener = FakeOpener(total_bytes=total * GIB, **opener)
        infos = [fake_info(name, size_bytes=size * GIB) for name, size in SIZES.items()]
        self.manager = ModelManager(
            [*infos, fake_info("cloud", local=False)],
            open_model=self.opener,
            plan_model=self.opener.plan_model,
            resources=self.opener.resources,
        )
        self.events: list[ManagerEvent] = []
        self.manager.subscribe(self.events.append)

    async def load(self, *names: str, **options: Any) -> list[ModelInterface]:
        """Load these, one after the other, and use each once."""
        models = []
        for name in names:
            model, _ = await self.manager.load_model(name, **options)
            await model.generate("Hi")
            models.append(model)
        return models

    @property
    def loaded(self) -> list[str]:
        return [info.name for info in self.manager.list_loaded_models()]

    def told(self, kind: str) -> list[str]:
        return [event.words for event in self.events if event.kind == kind]

    def waits(self, name: str) -> bool:
        """Whether a load of this model was told to wait."""
        return any(event.kind == "waiting" and event.model == name for event in self.events)

    @asynccontextmanager
    async def busy(self, model: ModelInterface) -> AsyncIterator[None]:
        """Have a generation of this model under way."""
        events = model.stream("Hi")
        await anext(events)
        try:
            yield
        finally:
            await events.aclose()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------- eviction


async def test_the_model_unused_longest_makes_room_and_this_is_told() -> None:
    machine = Machine()
    a, b = await machine.load("a", "b")
    await a.generate("again")
    (c,) = await machine.load("c")
    assert machine.loaded == ["a", "c"]
    assert not b.usable
    assert c.usable
    assert machine.told("evicted") == ["Unloaded b (4.0 GiB, idle for 0.0 s) to make room for c."]
    (event,) = (event for event in machine.events if event.kind == "evicted")
    assert (event.model, event.cause) == ("b", "c")
    with pytest.raises(ModelClosedError, match="make room for c; load it again"):
        await b.generate("Hi")


async def test_what_never_fits_is_refused_and_evicts_nothing() -> None:
    machine = Machine()
    await machine.load("a", "b")
    with pytest.raises(DoesNotFitError) as caught:
        await machine.manager.load_model("huge")
    assert caught.value.needed_bytes == 100 * GIB
    assert machine.loaded == ["a", "b"]
    assert machine.told("evicted") == []
    assert machine.told("failed") == [str(caught.value)]


async def test_a_pinned_model_stays_until_it_is_unpinned() -> None:
    machine = Machine()
    await machine.load("a", "b")
    machine.manager.pin_model("a")
    await machine.load("c")
    assert machine.loaded == ["a", "c"]
    with pytest.raises(ModelLoadError, match=r"a is pinned and holds 4\.0 GiB"):
        await machine.manager.load_model("large")
    assert machine.loaded == ["a", "c"]
    machine.manager.unpin_model("a")
    await machine.load("large")
    assert machine.loaded == ["large"]
    with pytest.raises(ModelNotFoundError):
        machine.manager.pin_model("a")


async def test_unloading_takes_a_pinned_model_and_its_pin() -> None:
    machine = Machine()
    await machine.load("a")
    machine.manager.pin_model("a")
    await machine.manager.unload_model("a")
    await machine.load("a", "b", "c")
    assert machine.loaded == ["b", "c"]


async def test_a_model_that_was_just_handed_out_is_there_for_its_first_request() -> None:
    machine = Machine(total=5)

    async def ask(name: str) -> str:
        model, _ = await machine.manager.load_model(name)
        return (await model.generate("Hi")).text

    answers = await asyncio.gather(*(ask(name) for name in ("a", "b", "c") * 3))
    assert set(answers) == {"A scripted answer."}


async def test_embedding_keeps_a_model_busy_too() -> None:
    machine = Machine()
    (a,) = await machine.load("a")
    assert not a.uses.busy
    with a.uses:
        assert a.uses.busy
        assert machine.manager.list_statuses()[0].requests == 1


# ---------------------------------------------------------------- waiting


async def test_a_load_waits_for_a_busy_model_and_tells_it() -> None:
    machine = Machine(token_seconds=0.01)
    (large,) = await machine.load("large")
    async with machine.busy(large):
        loading = asyncio.create_task(machine.manager.load_model("a"))
        await until(lambda: bool(machine.told("waiting")))
        (status,) = (s for s in machine.manager.list_statuses() if s.info.name == "a")
        assert status.state == "waiting"
        assert machine.loaded == ["large"]
    model, _ = await loading
    assert machine.loaded == ["a"]
    assert machine.told("waiting") == ["a is waiting for memory: large is busy."]
    assert model.usable


async def test_nobody_waits_longer_than_they_want() -> None:
    machine = Machine()
    (large,) = await machine.load("large")
    async with machine.busy(large):
        for wait in (0, 0.05):
            with pytest.raises(ModelLoadError, match="not enough memory while large is busy"):
                await machine.manager.load_model("a", wait=wait)
        assert (await large.generate("Hi")).text
        assert machine.loaded == ["large"]


async def test_requests_and_loads_that_do_not_compete_never_wait() -> None:
    machine = Machine()
    a, b = await machine.load("a", "b")
    async with machine.busy(a), machine.busy(b):
        waiting = asyncio.create_task(machine.manager.load_model("c"))
        await until(lambda: bool(machine.told("waiting")))
        assert (await a.generate("Hi")).text
        await machine.manager.load_model("a")
        await machine.manager.load_model("cloud")
        await machine.manager.load_model("small")  # 1 GiB is free, and c does not need it
        assert not waiting.done()
        await machine.manager.unload_model("small")
    await waiting
    assert "c" in machine.loaded


async def test_loads_that_compete_get_their_memory_in_order() -> None:
    machine = Machine(load_seconds=0.05)
    (first,) = await machine.load("large")
    async with machine.busy(first):
        tasks = []
        for name in ("a", "b", "large-2", "c"):
            tasks.append(asyncio.create_task(machine.load(name)))
            await until(lambda name=name: machine.waits(name))
    await asyncio.gather(*tasks)
    begun = [event.model for event in machine.events if event.kind == "loading"]
    assert set(begun[1:3]) == {"a", "b"}  # side by side, for there is memory for both
    assert begun[3:] == ["large-2", "c"]


async def test_two_loads_never_count_on_the_same_memory() -> None:
    machine = Machine(load_seconds=0.1)
    models = await asyncio.gather(*(machine.load(name) for name in ("large", "a", "large-2")))
    assert len(models) == 3
    assert machine.opener.most_used_bytes <= 9 * GIB


async def test_a_waiting_load_can_be_cancelled_and_the_next_gets_its_turn() -> None:
    machine = Machine(total=10)
    a, b = await machine.load("a", "b")
    async with machine.busy(a), machine.busy(b):
        first = asyncio.create_task(machine.manager.load_model("whole"))
        await until(lambda: bool(machine.told("waiting")))
        second = asyncio.create_task(machine.manager.load_model("medium"))
        await until(lambda: len(machine.told("waiting")) == 2)
        assert machine.told("waiting")[1] == "medium is waiting for its turn after whole."
        first.cancel()
        assert (await second)[1].name == "medium"
    assert machine.loaded == ["a", "b", "medium"]


async def test_a_failed_load_gives_its_memory_back() -> None:
    machine = Machine(load_error=ModelLoadError("a", "no luck"))
    for _ in range(3):
        with pytest.raises(ModelLoadError, match="no luck"):
            await machine.manager.load_model("large")
    machine.opener._load_error = None
    await machine.load("large")
    assert machine.manager.list_statuses()[0].state == "loaded"


async def test_unloading_a_waiting_model_gives_its_load_up() -> None:
    machine = Machine()
    (large,) = await machine.load("large")
    async with machine.busy(large):
        waiting = asyncio.create_task(machine.manager.load_model("a"))
        await until(lambda: bool(machine.told("waiting")))
        await machine.manager.unload_model("a")
        with pytest.raises(ModelLoadError, match="was cancelled"):
            await waiting


# ---------------------------------------------------------------- freed memory


async def test_a_load_starts_when_the_memory_that_was_given_back_is_shown() -> None:
    machine = Machine()
    lag: list[float] = []
    shown = machine.opener.resources

    def late() -> Any:
        """Shows memory that was given back only 0.3 s later."""
        if lag and time.monotonic() < lag[0]:
            return full
        return shown()

    models = ModelManager(
        [fake_info(name, size_bytes=4 * GIB) for name in ("x", "y", "z")],
        open_model=machine.opener,
        plan_model=machine.opener.plan_model,
        resources=late,
    )
    for name in ("x", "y"):
        model, _ = await models.load_model(name)
        await model.generate("Hi")
    full = shown()
    models.subscribe(
        lambda event: lag.append(time.monotonic() + 0.3) if event.kind == "evicted" else None
    )
    await models.load_model("z")
    assert time.monotonic() >= lag[0]
    assert len(lag) == 1  # the other one was not evicted for memory that was on its way
    assert [info.name for info in models.list_loaded_models()] == ["y", "z"]
    await models.aclose()


# ---------------------------------------------------------------- keep-alive


async def test_a_model_is_unloaded_when_its_keep_alive_is_over() -> None:
    machine = Machine()
    (a,) = await machine.load("a", keep_alive=0.05)
    (b,) = await machine.load("b")
    await until(lambda: bool(machine.told("unloaded")))
    assert machine.loaded == ["b"]
    assert machine.told("unloaded")[0].startswith("Unloaded a (4.0 GiB): idle for 0.")
    with pytest.raises(ModelClosedError, match="idle; load it again"):
        await a.generate("Hi")
    assert b.usable


async def test_a_busy_or_pinned_model_outlives_its_keep_alive() -> None:
    machine = Machine()
    a, _ = await machine.manager.load_model("a", keep_alive=0)
    await machine.manager.load_model("b", keep_alive=0)
    machine.manager.pin_model("b")
    async with machine.busy(a):
        await asyncio.sleep(0.7)
        assert machine.loaded == ["a", "b"]
    await until(lambda: machine.loaded == ["b"])
    machine.manager.unpin_model("b")
    await until(lambda: machine.loaded == [])


async def test_the_keep_alive_of_a_loaded_model_can_be_changed() -> None:
    machine = Machine()
    (first,) = await machine.load("a")
    (again,) = await machine.load("a", keep_alive=0.05)
    assert again is first
    await until(lambda: machine.loaded == [])


async def test_no_thread_waits_for_keep_alives_that_are_not_asked_for() -> None:
    earlier = set(threading.enumerate())

    def alarms() -> int:
        return sum(t.name == "nbllm-keep-alive" for t in set(threading.enumerate()) - earlier)

    machine = Machine()
    await machine.load("a", "b")
    assert alarms() == 0
    await machine.load("c", keep_alive=3600)
    assert alarms() == 1
    await machine.manager.aclose()
    await until(lambda: alarms() == 0)


@pytest.mark.parametrize("value", [-1, "soon", float("inf"), True])
def test_a_keep_alive_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(InvalidOptionError, match="keep_alive"):
        LoadOptions(keep_alive=value)


# ---------------------------------------------------------------- what is told


async def test_what_happens_is_told_in_order() -> None:
    machine = Machine()
    await machine.load("a")
    kinds = [event.kind for event in machine.events if event.kind != "progress"]
    assert kinds == ["loading", "loaded"]
    assert machine.told("loading") == ["Loading a on CPU (4.0 GiB)."]
    fractions = [event.fraction for event in machine.events if event.kind == "progress"]
    assert fractions[-1] == 1.0
    await machine.manager.unload_model("a")
    assert machine.told("unloaded") == ["Unloaded a (4.0 GiB)."]


async def test_who_unsubscribes_is_told_nothing_more() -> None:
    machine = Machine()
    told: list[ManagerEvent] = []
    unsubscribe = machine.manager.subscribe(told.append)
    await machine.load("a")
    count = len(told)
    unsubscribe()
    unsubscribe()
    await machine.load("b")
    assert len(told) == count > 0


async def test_the_states_of_models_are_listed() -> None:
    machine = Machine(load_seconds=0.5)
    loading = asyncio.create_task(machine.manager.load_model("a", keep_alive=600))
    await until(lambda: any(s.fraction > 0 for s in machine.manager.list_statuses()))
    (status,) = machine.manager.list_statuses()
    assert status.state == "loading"
    assert 0 < status.fraction <= 1
    machine.manager.pin_model("a")
    model, _ = await loading
    (status,) = machine.manager.list_statuses()
    assert (status.state, status.pinned, status.requests) == ("loaded", True, 0)
    assert status.load_seconds is not None
    assert status.load_seconds >= 0.4
    assert repr(machine.manager) == "<ModelManager: a (loaded)>"
    assert isinstance(model, FakeModel)
    await model.aclose()
    assert machine.manager.list_statuses()[0].state == "crashed"


async def test_a_model_that_died_holds_no_memory() -> None:
    machine = Machine()
    (large,) = await machine.load("large")
    machine.manager.pin_model("large")
    await large.aclose()
    await machine.load("a", "b")
    assert machine.loaded == ["a", "b"]


async def test_unloading_waits_for_what_is_being_closed_already() -> None:
    may_close = threading.Event()

    class Slow(FakeModel):
        async def aclose(self) -> None:
            await asyncio.to_thread(may_close.wait, 5)
            await super().aclose()

    models = ModelManager([fake_info("a")], open_model=lambda info, _: Slow(info))
    await models.load_model("a", keep_alive=0)
    await until(lambda: models.list_loaded_models() == [])
    unloading = asyncio.create_task(models.unload_model("a"))
    ending = asyncio.create_task(models.aclose())
    await asyncio.sleep(0.05)
    assert not unloading.done()
    assert not ending.done()
    may_close.set()
    await asyncio.gather(unloading, ending)


async def test_a_config_can_say_how_long_a_model_stays(tmp_path: Path) -> None:
    config = tmp_path / "models.json"
    config.write_text(
        '{"name": "m", "model_type": "fake", "local": true, "path": "m.gguf", '
        '"load": {"keep_alive": 90}}'
    )
    models = ModelManager.from_config(config, open_model=FakeOpener())
    await models.load_model("m")
    assert models.list_statuses()[0].keep_alive == 90
    models.save_config(tmp_path / "saved.json")
    (saved,) = ModelManager.from_config(tmp_path / "saved.json")._configured.values()
    assert saved.load.keep_alive == 90
    await models.aclose()


async def test_memory_that_a_model_has_not_filled_yet_is_not_given_away() -> None:
    """As with llama.cpp, whose buffers and mapped files the system shows late or never."""

    class Lazy(FakeModel):
        def used_memory_bytes(self) -> int:
            return 0

    machine = Machine()
    lazy = ModelManager(
        [fake_info(name, size_bytes=size * GIB) for name, size in (("x", 5), ("y", 3), ("z", 3))],
        open_model=lambda info, _: Lazy(info),
        plan_model=machine.opener.plan_model,
        resources=machine.opener.resources,  # where nothing is ever taken
    )
    for name in ("x", "y", "z"):
        model, _ = await lazy.load_model(name)
        await model.generate("Hi")
    assert [info.name for info in lazy.list_loaded_models()] == ["y", "z"]
    await lazy.aclose()
