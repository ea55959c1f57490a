"""Nothing waits for ever: workers that do not read, do not answer, or hang at one thing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbllm import ModelManager
from nbllm.core.errors import EngineStalledError, ModelClosedError, ModelError, ModelLoadError
from nbllm.core.openers import LoadControl
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import GenerationOptions, LoadOptions, ModelInfo, PromptProgress, TextDelta
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model
from nbllm.local.measuring.bench import BenchPlan, measure_model

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stops processes by POSIX signals")

LIMIT = 3.0
PATIENCE = 40.0  # of a test on a busy machine; the limits themselves are asserted where they can be
HUGE = "12345 " * 350_000  # 2 MB, which no pipe holds; the models have tokens for numbers


@pytest.fixture(scope="module")
def tiny_info(tiny_models: dict[str, Path]) -> ModelInfo:
    return ModelInfo(
        name="tiny",
        model_type="llama",
        local=True,
        path=tiny_models["mistral"],
        load=LoadOptions(context_length=2048),
        options=GenerationOptions(ignore_eos=True, stall_timeout=LIMIT),
    )


@pytest.fixture
def info(tiny_info: ModelInfo) -> ModelInfo:
    return tiny_info


@pytest.fixture
def model(info: ModelInfo) -> Iterator[LlamaCppModel]:
    model = open_model(info, LoadControl())
    yield model
    model.kill()


class Ticker:
    """Measures the longest pause of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - began)

    def stop(self) -> float:
        self._task.cancel()
        return self.longest


Ask = Callable[[LlamaCppModel], Awaitable[Any]]
ASKS: dict[str, Ask] = {
    "generate": lambda model: model.generate(HUGE),
    "short": lambda model: model.generate("Hi"),
    "tokenize": lambda model: model.tokenize(HUGE),
    "detokenize": lambda model: model.detokenize([3] * 50_000),
    "count": lambda model: model.count_tokens(HUGE),
    "embed": lambda model: model.embed([HUGE]),
}


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What a request to a worker that does not answer came to, and when."""

    error: BaseException
    seconds: float


async def ends_of(
    asks: Mapping[str, Ask], models: Mapping[str, LlamaCppModel]
) -> dict[str, GivenUp]:
    """The end of each request, all at once to a model each."""

    async def end_of(name: str) -> GivenUp:
        began = time.monotonic()
        (error,) = await asyncio.gather(asks[name](models[name]), return_exceptions=True)
        return GivenUp(error, time.monotonic() - began)

    ends = await asyncio.wait_for(asyncio.gather(*map(end_of, asks)), PATIENCE)
    return dict(zip(asks, ends, strict=True))


@pytest.fixture(scope="module")
def given_up(tiny_info: ModelInfo) -> tuple[dict[str, GivenUp], float]:
    """The end of each kind of request to a stopped worker, and the loop's longest pause."""

    async def watched() -> tuple[dict[str, GivenUp], float]:
        ticker = Ticker()
        return await ends_of(ASKS, models), ticker.stop()

    models = {name: open_model(tiny_info, LoadControl()) for name in ASKS}
    for model in models.values():
        os.kill(model.pid, signal.SIGSTOP)
    try:
        return asyncio.run(watched())
    finally:
        for model in models.values():
            model.kill()


@pytest.mark.parametrize("name", ASKS)
def test_a_worker_that_does_not_read_is_given_up_in_time(
    given_up: tuple[dict[str, GivenUp], float], name: str
) -> None:
    ends, longest_pause = given_up
    assert isinstance(ends[name].error, EngineStalledError)
    assert "stopped responding" in str(ends[name].error)
    assert ends[name].seconds < LIMIT + 5
    assert longest_pause < 1.0


async def test_many_requests_to_it_all_end_and_later_ones_at_once(model: LlamaCppModel) -> None:
    os.kill(model.pid, signal.SIGSTOP)
    asked = [ask(model) for ask in ASKS.values() for _ in range(5)]
    found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE)
    assert {type(error) for error in found} == {EngineStalledError}
    with pytest.raises(EngineStalledError):
        await asyncio.wait_for(model.generate("Hi"), 5)


async def test_cancelling_never_waits_for_the_worker(model: LlamaCppModel) -> None:
    os.kill(model.pid, signal.SIGSTOP)
    ticker = Ticker()
    tasks = [asyncio.create_task(model.generate(HUGE)) for _ in range(8)]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    for task in tasks:
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert time.monotonic() - began < 1
    assert all(task.cancelled() for task in tasks)
    assert ticker.stop() < 1.0


async def test_a_stopped_worker_is_unloaded_and_loaded_again(info: ModelInfo) -> None:
    patient = replace(info, options=GenerationOptions(stall_timeout=3600))
    async with ModelManager([patient]) as manager:
        model, _ = await manager.load_model("tiny")
        assert isinstance(model, LlamaCppModel)
        os.kill(model.pid, signal.SIGSTOP)
        asked = asyncio.create_task(model.generate(HUGE))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await asyncio.wait_for(manager.unload_model("tiny"), PATIENCE)
        assert time.monotonic() - began < 10
        with pytest.raises(ModelClosedError):
            await asked
        again, _ = await asyncio.wait_for(manager.load_model("tiny"), PATIENCE)
        assert (await again.generate("Hi", max_tokens=1)).usage.completion_tokens == 1


@pytest.mark.parametrize("kind", [PromptProgress, TextDelta])
async def test_one_that_stops_at_work_keeps_the_text(info: ModelInfo, kind: type) -> None:
    model = open_model(info, LoadControl())
    texts = ""

    async def stop_at_first() -> None:
        nonlocal texts
        async for event in model.stream("word " * 200):
            texts += event.text if isinstance(event, TextDelta) else ""
            if isinstance(event, kind):
                os.kill(model.pid, signal.SIGSTOP)

    with pytest.raises(EngineStalledError) as caught:
        await asyncio.wait_for(stop_at_first(), PATIENCE)
    assert caught.value.partial_text == texts
    model.kill()


async def test_a_worker_that_went_on_in_time_answers(model: LlamaCppModel) -> None:
    os.kill(model.pid, signal.SIGSTOP)
    asked = asyncio.create_task(model.tokenize(HUGE))
    await asyncio.sleep(LIMIT / 2)
    os.kill(model.pid, signal.SIGCONT)
    assert len(await asyncio.wait_for(asked, PATIENCE)) > 350_000
    assert model.usable


async def test_a_slow_reader_is_no_stall(model: LlamaCppModel) -> None:
    """Its signs of life come, while more waits than its pipe holds."""
    asked = [model.tokenize(HUGE) for _ in range(3)]
    counts = await asyncio.wait_for(asyncio.gather(*asked), PATIENCE)
    assert len({len(tokens) for tokens in counts}) == 1


# -------------------------------------------------------------------------------- at one thing

FAULTY = '''
"""A worker with something in it that never ends."""
import os, sys, time
from nbllm.local import worker
from nbllm.local.engine import Engine
from nbllm.local.ipc.events import Embedded, Tokenized
from nbllm.local.request_handler import RequestHandler
from nbllm.local.llama.embedder import Embedder
from nbllm.local.llama.native import NativeModel

def endless(*_):
    while True:
        time.sleep(0.01)

place = os.environ["FAULTY"]
if place == "requests":
    RequestHandler._count = endless
elif place == "engine":
    Engine._prepare = endless
elif place == "embedder":
    Embedder._computed = endless
elif place == "load":
    NativeModel._make_context = endless
elif place == "silent":
    worker.Outbox.send = lambda self, event: None
elif place in ("garbage", "unknown", "another"):
    known = worker.Outbox.send
    lines = {"garbage": b"this is no event\\n", "unknown": b'{"op":"close"}\\n', "another": b""}
    def send(self, event):
        if isinstance(event, Tokenized):
            self._file.write(lines[place])
            event = Embedded(event.id, b"", 0) if place == "another" else event
        known(self, event)
    worker.Outbox.send = send
worker.main()
'''


@contextmanager
def faulty_workers(info: ModelInfo, folder: Path) -> Iterator[Callable[[str], LlamaCppModel]]:
    """Loads models in workers that hang, each at one place."""
    (folder / "faulty_worker.py").write_text(FAULTY)
    models: list[LlamaCppModel] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setattr("nbllm.local.llama_cpp_model.WORKER", "faulty_worker")
        patch.setattr("nbllm.local.ipc.liveness._LEAST_OVERDUE_SECONDS", LIMIT)

        def load(place: str) -> LlamaCppModel:
            patch.setenv("FAULTY", place)
            models.append(open_model(info, LoadControl()))
            return models[-1]

        yield load
    for model in models:
        model.kill()


@pytest.fixture
def faulty(info: ModelInfo, tmp_path: Path) -> Iterator[Callable[[str], LlamaCppModel]]:
    """Loads a model in a worker that hangs at one place."""
    with faulty_workers(info, tmp_path) as load:
        yield load


HANGS: dict[str, Ask] = {
    "requests": lambda model: model.count_tokens("Hi"),
    "engine": lambda model: model.generate("Hi", max_tokens=1),
    "embedder": lambda model: model.embed(["Hi"]),
}


@pytest.fixture(scope="module")
def hung(tiny_info: ModelInfo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, GivenUp]:
    """The end of what hangs at each place, all at once in a worker each."""
    with faulty_workers(tiny_info, tmp_path_factory.mktemp("faulty")) as load:
        models = {place: load(place) for place in HANGS}
        return asyncio.run(ends_of(HANGS, models))


@pytest.mark.parametrize("place", HANGS)
def test_what_hangs_at_one_thing_is_seen_although_it_gives_signs_of_life(
    hung: dict[str, GivenUp], place: str
) -> None:
    assert isinstance(hung[place].error, EngineStalledError)
    assert "stopped responding" in str(hung[place].error)
    assert hung[place].seconds >= LIMIT


async def test_a_hang_ends_those_who_wait_for_it_and_no_sooner(
    faulty: Callable[[str], LlamaCppModel],
) -> None:
    """A request that is being answered does not look at what the intake does."""
    model = await asyncio.to_thread(faulty, "requests")
    stream = model.stream("Hi", max_tokens=100_000, on_full="shift", stall_timeout=LIMIT)
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    waiting = asyncio.create_task(model.count_tokens("Hi"))
    began = time.monotonic()
    with pytest.raises(ModelError):
        async for _ in stream:
            pass
    assert time.monotonic() - began >= LIMIT
    with pytest.raises(EngineStalledError):
        await waiting


@pytest.mark.parametrize("place", ["load", "silent"])
def test_a_load_that_hangs_fails(faulty: Callable[[str], LlamaCppModel], place: str) -> None:
    with pytest.raises(ModelLoadError, match="stopped responding"):
        faulty(place)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("garbage", "not a message"),
        ("unknown", "not a message"),
        ("another", r"unexpected message \(Embedded\)"),
    ],
)
async def test_a_worker_that_sends_nonsense_is_ended(
    faulty: Callable[[str], LlamaCppModel], place: str, told: str
) -> None:
    model = await asyncio.to_thread(faulty, place)
    with pytest.raises(ModelError, match=told):
        await asyncio.wait_for(model.tokenize("Hi"), PATIENCE)
    for _ in range(100):
        await asyncio.sleep(0.05)
        if not model.usable:
            return
    pytest.fail("the worker runs on")


# -------------------------------------------------------------------------------- benchmarks

PLAN = BenchPlan(
    threads=(1,),
    sequences=(),
    prompt_tokens=16,
    answer_tokens=100_000,
    rounds=1000,
    seconds=0.2,
)


@contextmanager
def stopping(name: str, after: float) -> Iterator[None]:
    """Stop the process that runs this module, so many seconds after it has begun."""
    done = threading.Event()

    def stop() -> None:
        while not done.is_set():
            with suppress(psutil.Error):  # a child that is not yet or no more there
                for child in psutil.Process().children():
                    if name in child.cmdline():
                        time.sleep(after)
                        child.suspend()
                        return
            time.sleep(0.02)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


async def test_a_benchmark_that_stops_is_ended(info: ModelInfo) -> None:
    ticker = Ticker()
    with stopping("nbllm.local.measuring.bench_process", after=2.0):
        work = measure_model(info, ResourceDetector().detect(), plan=PLAN)
        with pytest.raises(ModelLoadError, match="benchmark stopped responding"):
            await asyncio.wait_for(work, PATIENCE)
    assert ticker.stop() < 2.0


def test_a_dry_run_that_stops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbllm.local.measuring import dry_runs

    monkeypatch.setattr(dry_runs, "_SECONDS", 3.0)
    with stopping("nbllm.local.measuring.dry_run_process", after=0.0):
        began = time.monotonic()
        assert dry_runs._ask(dry_runs.DryRun(None)) == ()
        assert time.monotonic() - began < PATIENCE
