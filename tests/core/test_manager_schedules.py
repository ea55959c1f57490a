"""Random schedules of loads, unloads, answers, crashes, pins and cancellations on three loops.

Whatever the order: memory is never given twice, nothing busy or pinned is evicted, everybody gets
an answer, and nothing is left. ``NBLLM_SCHEDULES=1000`` runs so many schedules instead of a few.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from nbllm import ModelManager
from nbllm.core.errors import EngineCrashedError, ModelError, ModelLoadError
from nbllm.core.layers import uses
from nbllm.core.loading import memory_queue, model_registry
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.openers import LoadControl
from nbllm.core.types import Event, GenerationRequest, ModelInfo
from nbllm.testing import FakeModel, FakeOpener, fake_info

SIZES = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "never": 50, "cloud": 0}
LIMIT = 7
SECONDS = 20
NAMES = st.sampled_from(sorted(SIZES))
LOOPS = st.integers(0, 2)
SCHEDULES = int(os.environ.get("NBLLM_SCHEDULES", "20"))


class Engine(FakeOpener):
    """Counts the memory of what is open and of what is being opened, and sees who is closed."""

    def __init__(self) -> None:
        super().__init__(total_bytes=LIMIT)
        self.lock = threading.Lock()
        self.opening = 0
        self.failures = 0
        self.load_seconds = 0.0
        self.may_close: set[str] = set()
        self.violations: list[str] = []

    def __call__(self, info: ModelInfo, control: LoadControl) -> FakeModel:
        size = info.size_bytes or 0
        with self.lock:
            self.opening += size
            if self.opening + self.used_bytes > LIMIT:
                self.violations.append(f"{info.name} has no memory: {self.opening=} {self.opened=}")
        try:
            if self.failures:
                self.failures -= 1
                raise ModelLoadError(info.name, "no luck")
            if control.cancelled.wait(self.load_seconds):
                raise ModelLoadError(info.name, "the load was given up")
            with self.lock:
                self.opened.append(WatchedModel(info, self))
                self.opening -= size
                size = 0
                return self.opened[-1]
        finally:
            with self.lock:
                self.opening -= size


class WatchedModel(FakeModel):
    """Tells of being closed while it works; ``crash`` ends it as the death of a worker does."""

    def __init__(self, info: ModelInfo, engine: Engine) -> None:
        super().__init__(info, text="word " * 1000, token_seconds=0.001)
        self._engine, self._running, self._crashed = engine, 0, False

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self._running += 1
        try:
            async for event in super()._events(request):
                if self._crashed:
                    raise EngineCrashedError(self.name, "its worker died")
                yield event
        finally:
            self._running -= 1

    def crash(self) -> None:
        self._crashed, self._is_open = True, False

    async def aclose(self) -> None:
        if self._running and self._is_open and self.name not in self._engine.may_close:
            self._engine.violations.append(f"{self.name} was closed while it worked")
        await super().aclose()


class Loops:
    """Three event loops in threads of their own."""

    def __init__(self) -> None:
        self._loops = [asyncio.new_event_loop() for _ in range(3)]
        self._threads = [threading.Thread(target=loop.run_forever) for loop in self._loops]
        for thread in self._threads:
            thread.start()

    def submit(self, index: int, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loops[index])

    def close(self) -> None:
        for loop, thread in zip(self._loops, self._threads, strict=True):
            asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(SECONDS)
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class Schedules(RuleBasedStateMachine):
    """One schedule: what users, other loops, time and bad luck do to one manager."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.patches = [
            # Short, so that schedules are; and no second look, so that a lost wake-up shows.
            patch.object(uses, "GRACE_SECONDS", 0.01),
            patch.object(model_registry, "SETTLE_SECONDS", 0.05),
            patch.object(memory_queue, "LOOK_AGAIN_SECONDS", 3600.0),
        ]
        for each in self.patches:
            each.start()
        self.engine, self.loops = Engine(), Loops()
        self.manager = ModelManager(
            [fake_info(n, size_bytes=size, local=n != "cloud") for n, size in SIZES.items()],
            open_model=self.engine,
            plan_model=self.engine.plan_model,
            resources=self.engine.resources,
        )
        self.pinned: set[str] = set()
        self.manager.subscribe(self.watch)
        self.loads: list[Future[Any]] = []
        self.answers: list[Future[Any]] = []

    def watch(self, event: ManagerEvent) -> None:
        is_by_itself = event.kind == "evicted" or "keep-alive" in event.words
        if is_by_itself and event.model in self.pinned:
            self.engine.violations.append(f"{event.model} is pinned: {event.words}")

    # ------------------------------------------------------------ what happens

    @rule(
        names=st.lists(NAMES, min_size=1, max_size=4),
        loop=LOOPS,
        wait=st.sampled_from([60.0, 60.0, 0.02, 0.0]),
        keep_alive=st.sampled_from([None, None, None, 0.01]),
        takes=st.sampled_from([0.0, 0.002, 0.02]),
    )
    def load(
        self, names: list[str], loop: int, wait: float, keep_alive: float | None, takes: float
    ) -> None:
        self.engine.load_seconds = takes
        for number, name in enumerate(names):
            work = self.manager.load_model(name, wait=wait, keep_alive=keep_alive)
            self.loads.append(self.loops.submit((loop + number) % 3, work))

    @rule(names=st.lists(NAMES, min_size=1, max_size=4), loop=LOOPS)
    def load_and_ask(self, names: list[str], loop: int) -> None:
        """Load and use at once, as a cell does."""

        async def use(name: str) -> None:
            model, _ = await self.manager.load_model(name, wait=60.0)
            await model.generate("Hi", max_tokens=2)

        for number, name in enumerate(names):
            self.answers.append(self.loops.submit((loop + number) % 3, use(name)))

    @rule(loop=LOOPS, which=st.integers(0, 10), tokens=st.sampled_from([2, 20, 200]))
    def ask(self, loop: int, which: int, tokens: int) -> None:
        """Ask a model that is loaded, if there is one."""
        loaded = [info.name for info in self.manager.list_loaded_models()]
        if loaded:

            async def generate(name: str) -> None:
                await self.manager.get_model(name).generate("Hi", max_tokens=tokens)

            self.answers.append(self.loops.submit(loop, generate(loaded[which % len(loaded)])))

    @rule(name=NAMES, pinned=st.booleans())
    def pin(self, name: str, *, pinned: bool) -> None:
        self.pinned.discard(name)
        try:
            if pinned:
                self.manager.pin_model(name)
            else:
                self.manager.unpin_model(name)
        except LookupError:
            return
        if any(s.info.name == name and s.pinned for s in self.manager.list_statuses()):
            self.pinned.add(name)

    @rule(
        what=st.sampled_from(["unload", "aclose", "crash", "fail", "cancel load", "cancel answer"]),
        which=st.integers(0, 10),
        loop=LOOPS,
    )
    def mishap(self, what: str, which: int, loop: int) -> None:
        """Somebody unloads or gives up, a worker dies, or the next load fails."""
        if what == "unload":
            name = sorted(SIZES)[which % len(SIZES)]
            self.end(loop, self.manager.unload_model(name), {name})
        elif what == "aclose" and which < 3:
            self.end(loop, self.manager.aclose(), set(SIZES))
        elif what == "crash":
            for model in [model for model in self.engine.opened if model.usable][which:]:
                model.crash()
        elif what == "fail":
            self.engine.failures = 1
        else:
            futures = self.loads if what == "cancel load" else self.answers
            if futures:
                futures[-1 - which % len(futures)].cancel()

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.03]))
    def time_passes(self, seconds: float) -> None:
        time.sleep(seconds)

    def end(self, loop: int, work: Coroutine[Any, Any, None], names: set[str]) -> None:
        self.pinned -= names
        self.engine.may_close |= names
        try:
            assert_ended(self.loops.submit(loop, work), LookupError)  # where it was not loaded
        finally:
            self.engine.may_close -= names

    # ------------------------------------------------------------ what must hold

    @invariant()
    def nothing_went_wrong(self) -> None:
        type(self).steps += 1
        assert self.engine.violations == []

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.loops.close()
            for each in self.patches:
                each.stop()

    def finish(self) -> None:
        """Let everything come to its end, as it does when nobody asks for more."""
        for name in SIZES:
            self.pin(name, pinned=False)
        for answer in self.answers:
            assert_ended(answer, ModelError, ModelLoadError, LookupError)
        for load in self.loads:
            assert_ended(load, ModelLoadError)
        self.end(0, self.manager.aclose(), set(SIZES))
        assert self.engine.violations == []
        assert self.manager.list_statuses() == []
        assert self.engine.opening == 0
        assert [model for model in self.engine.opened if model.usable] == []
        deadline = time.monotonic() + SECONDS
        while any(t.name.startswith("nbllm-load-") for t in threading.enumerate()):
            assert time.monotonic() < deadline, "a load's thread is left"
            time.sleep(0.001)


def assert_ended(future: Future[Any], *expected: type[Exception]) -> None:
    """It has ended, and where it failed, as ``expected``; else this raises ``TimeoutError``."""
    with suppress(CancelledError, *expected):
        future.result(SECONDS)


@pytest.mark.timeout(3600 if SCHEDULES > 100 else 180)
def test_no_schedule_breaks_a_promise() -> None:
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=SCHEDULES,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate],  # threads do not repeat themselves, so nothing to shrink
            suppress_health_check=[HealthCheck.too_slow],
            database=None,
        ),
    )
    print(f"{Schedules.steps:,} steps in {SCHEDULES:,} schedules")
