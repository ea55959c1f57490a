"""What goes wrong must stay in the worker: the notebook lives, the text is kept, nothing leaks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_models import copy_model

from nbllm import ModelManager
from nbllm.core.errors import (
    EngineCrashedError,
    EngineError,
    EngineStalledError,
    ModelLoadError,
)
from nbllm.core.openers import LoadControl
from nbllm.core.types import (
    GenerationOptions,
    LoadOptions,
    ModelInfo,
    PromptProgress,
    TextDelta,
)
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes by POSIX signals")

STORY = "Tell me a long story about a fox."


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def workers() -> list[psutil.Process]:
    """The workers of this process; the servers of other tests are none of these."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "nbllm.local.worker" in child.cmdline()
    ]


def own_threads() -> int:
    return sum(thread.name.startswith("nbllm") for thread in threading.enumerate())


@pytest.fixture
def info(bundled_gguf: Path) -> ModelInfo:
    load = LoadOptions(context_length=512)
    return ModelInfo(name="smollm2", model_type="llama", local=True, path=bundled_gguf, load=load)


async def test_a_killed_worker_raises_with_the_partial_text_and_loads_again(
    info: ModelInfo,
) -> None:
    texts: list[str] = []
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("smollm2")
        assert isinstance(model, LlamaCppModel)

        async def read_and_kill() -> None:
            async for event in model.stream(STORY, temperature=0):
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                if len(texts) == 3:
                    os.kill(model.pid, signal.SIGKILL)

        with pytest.raises(EngineCrashedError, match=r"smollm2.*SIGKILL") as caught:
            await read_and_kill()
        assert caught.value.partial_text == "".join(texts) != ""
        assert caught.value.exit_status == -signal.SIGKILL
        with pytest.raises(EngineCrashedError):
            await model.generate("Hi")
        assert manager.list_loaded_models() == []
        again, _ = await manager.load_model("smollm2")
        assert (await again.generate("Hi", max_tokens=3)).text


async def test_all_requests_of_a_killed_worker_are_told(info: ModelInfo) -> None:
    model = open_model(info, LoadControl())
    requests = [asyncio.create_task(model.generate(f"{STORY} {n}")) for n in range(12)]
    await asyncio.sleep(0.3)
    os.kill(model.pid, signal.SIGKILL)
    results = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 10)
    assert [type(result) for result in results] == [EngineCrashedError] * 12
    await model.aclose()


async def test_a_worker_killed_while_loading_fails_the_load_and_the_next_succeeds(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills, others = threading.Semaphore(1), {worker.pid for worker in workers()}

    def kill(fraction: float) -> None:
        if kills.acquire(blocking=False):
            for worker in workers():
                if worker.pid not in others:
                    worker.kill()

    async with ModelManager([info]) as manager:
        with pytest.raises(ModelLoadError, match="SIGKILL"):
            await manager.load_model("smollm2", progress=kill)
        model, _ = await manager.load_model("smollm2")
        assert model.usable


async def test_giving_up_a_load_ends_its_worker(info: ModelInfo) -> None:
    async with ModelManager([info]) as manager:
        before = len(workers())
        loading = asyncio.create_task(manager.load_model("smollm2"))
        assert await asyncio.to_thread(wait_until, lambda: len(workers()) > before)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert await asyncio.to_thread(wait_until, lambda: len(workers()) == before)
        model, _ = await manager.load_model("smollm2")
        assert model.usable


def test_a_module_beside_the_notebook_does_not_shadow_the_workers(
    info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "llama_cpp", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    model = open_model(info, LoadControl())
    asyncio.run(model.aclose())


PARENT = """
import asyncio, os, sys, time
from nbllm.core.openers import LoadControl
from nbllm.core.types import ModelInfo
from nbllm.local.llama_cpp_model import open_model
from pathlib import Path

info = ModelInfo(name="m", model_type="llama", local=True, path=Path(sys.argv[1]))
model = open_model(info, LoadControl())
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(60)
async def main():
    async for event in model.stream("Tell me a long story."):
        print(model.pid, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_the_worker_dies_with_its_parent_however_that_ends(bundled_gguf: Path, how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(bundled_gguf), how],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    others = [p for p in psutil.Process(parent.pid).children() if p.pid != worker.pid]
    parent.kill()
    parent.wait()
    gone = wait_until(lambda: not worker.is_running() or worker.status() == "zombie", 5)
    for process in others:
        process.kill()
    parent.stdout.close()
    assert gone


async def test_an_interrupt_of_the_notebooks_process_group_is_not_the_workers(
    info: ModelInfo,
) -> None:
    model = open_model(info, LoadControl())
    assert os.getpgid(model.pid) != os.getpgid(0)
    await model.aclose()


async def test_fifty_loads_leak_no_descriptor_no_thread_and_no_memory(
    info: ModelInfo, tiny_models: dict[str, Path]
) -> None:
    me, info = psutil.Process(), replace(info, path=tiny_models["mistral"])

    async def cycle() -> None:
        async with ModelManager([info]) as manager:
            model, _ = await manager.load_model("smollm2")
            await model.generate("Hi", max_tokens=1)

    for _ in range(3):
        await asyncio.gather(cycle(), cycle())
    before = (me.num_fds(), own_threads(), me.memory_info().rss, len(workers()))
    for _ in range(22):
        await asyncio.gather(cycle(), cycle())
    assert me.num_fds() <= before[0]
    assert own_threads() <= before[1]
    assert me.memory_info().rss - before[2] < 5 * 2**20
    assert len(workers()) == before[3]


@pytest.mark.parametrize(
    "key", [{"tokenizer.ggml.model": "bert"}, {"llama.block_count": 600}], ids=["words", "layers"]
)
async def test_a_file_that_makes_llama_cpp_abort_fails_the_load_and_the_next_succeeds(
    key: dict[str, int | str], info: ModelInfo, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """Its header is in order, and llama.cpp's own checks end the process all the same."""
    path = copy_model(tiny_models["mistral"], tmp_path / "aborts.gguf", key)
    bad = replace(info, name="aborts", path=path)
    async with ModelManager([info, bad]) as manager:
        running, _ = await manager.load_model("smollm2")
        with pytest.raises(ModelLoadError, match=r"aborts.*SIGABRT; llama\.cpp gave up") as caught:
            await manager.load_model("aborts")
        assert caught.value.log, "what llama.cpp said is there"
        assert [each.name for each in manager.list_loaded_models()] == ["smollm2"]
        assert (await running.generate("Hi", max_tokens=1)).usage.completion_tokens == 1


# -------------------------------------------------------------------------------- every phase

LONG = "The quick brown fox jumps over the lazy dog. " * 60


async def first_event(model: LlamaCppModel, kind: type, prompt: str, **options: Any) -> None:
    async for event in model.stream(prompt, **options):
        if isinstance(event, kind):
            os.kill(model.pid, signal.SIGKILL)


async def killed_in(phase: str, model: LlamaCppModel) -> None:
    """Ask for something, and have the worker killed while it is at it."""
    if phase == "prefill":
        await first_event(model, PromptProgress, LONG)
    elif phase == "embed":
        asyncio.get_running_loop().call_later(0.3, os.kill, model.pid, signal.SIGKILL)
        await model.embed([LONG] * 50)
    else:
        os.kill(model.pid, signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: not model.usable)
        await model.generate("Hi")


@pytest.mark.parametrize("phase", ["prefill", "embed", "idle"])
async def test_a_worker_killed_in_any_phase_is_told_and_loads_again(
    info: ModelInfo, phase: str
) -> None:
    """While it writes an answer is the first test's."""
    info = replace(info, load=LoadOptions(context_length=1024))
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("smollm2")
        assert isinstance(model, LlamaCppModel)
        with pytest.raises(EngineCrashedError, match="SIGKILL"):
            await killed_in(phase, model)
        again, _ = await manager.load_model("smollm2")
        assert (await again.generate("Hi", max_tokens=1)).usage.completion_tokens == 1


async def test_a_stopped_worker_is_ended_and_the_text_kept(info: ModelInfo) -> None:
    texts: list[str] = []
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("smollm2")
        assert isinstance(model, LlamaCppModel)

        async def read_and_stop() -> None:
            async for event in model.stream(STORY, temperature=0, stall_timeout=3):
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                if len(texts) == 2:
                    os.kill(model.pid, signal.SIGSTOP)

        beside = asyncio.create_task(model.generate(f"{STORY} Another one.", ignore_eos=True))
        with pytest.raises(EngineStalledError, match="stopped responding") as caught:
            await asyncio.wait_for(read_and_stop(), 60)
        assert caught.value.partial_text == "".join(texts) != ""
        with pytest.raises(EngineStalledError):
            await asyncio.wait_for(beside, 10)
        again, _ = await manager.load_model("smollm2")
        assert (await again.generate("Hi", max_tokens=1)).usage.completion_tokens == 1


async def test_a_worker_stopped_while_loading_fails_the_load(info: ModelInfo) -> None:
    others = {worker.pid for worker in workers()}

    def stop(fraction: float) -> None:
        for worker in workers():
            if worker.pid not in others:
                worker.suspend()

    info = replace(info, options=GenerationOptions(stall_timeout=3))
    async with ModelManager([info]) as manager:
        with pytest.raises(ModelLoadError, match="stopped responding"):
            await asyncio.wait_for(manager.load_model("smollm2", progress=stop), 60)
        model, _ = await manager.load_model("smollm2")
        assert model.usable


# -------------------------------------------------------------------------------- memory

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="another process's address space is limited on Linux only"
)


def limit_memory(worker: psutil.Process, spare_mebibytes: int) -> None:
    """Leave a running worker so much address space beyond what it has."""
    most = worker.memory_info().vms + spare_mebibytes * 2**20
    worker.rlimit(psutil.RLIMIT_AS, (most, most))


@linux_only
async def test_a_load_that_meets_the_limit_of_memory_fails_and_the_next_succeeds(
    info: ModelInfo,
) -> None:
    others = {worker.pid for worker in workers()}

    def limit(fraction: float) -> None:
        for worker in workers():
            if worker.pid not in others:
                others.add(worker.pid)  # a limit that was set cannot be raised
                limit_memory(worker, 0)

    large = replace(info, load=LoadOptions(context_length=8192))
    async with ModelManager([large]) as manager:
        with pytest.raises(ModelLoadError):
            await manager.load_model("smollm2", progress=limit)
        model, _ = await manager.load_model("smollm2")
        assert model.usable


@linux_only
async def test_answers_that_meet_the_limit_of_memory_end_in_an_error_or_whole(
    info: ModelInfo,
) -> None:
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("smollm2")
        assert isinstance(model, LlamaCppModel)
        limit_memory(psutil.Process(model.pid), 0)
        asked = [model.generate(f"{STORY} {n}", max_tokens=5) for n in range(16)]
        half = LONG[: len(LONG) // 2]  # all of it is longer than the context
        asked.append(model.embed([half] * 4))  # needs a context of its own
        results = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
        failures = [result for result in results if isinstance(result, BaseException)]
        assert failures
        assert all(isinstance(failure, EngineError) for failure in failures), failures
        again, _ = await manager.load_model("smollm2")
        if again is not model:
            assert (await again.generate("Hi", max_tokens=1)).usage.completion_tokens == 1


def move(pid: int, group: Path) -> None:
    """Put a process into a control group."""
    group.write_text(str(pid))


@pytest.fixture
def narrow_group() -> Iterator[Path]:
    """A control group whose processes may take 12 MiB more, of either version."""
    top, name = Path("/sys/fs/cgroup"), f"nbllm-narrow-{os.getpid()}"
    v2 = (top / "cgroup.controllers").exists()
    folder = top / name if v2 else top / "memory" / name
    try:
        folder.mkdir(parents=True)
        (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(f"{12 * 2**20}")
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    yield folder / "cgroup.procs"
    assert wait_until(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


@linux_only
async def test_a_load_that_the_system_ends_for_its_memory_fails_and_the_next_succeeds(
    info: ModelInfo, narrow_group: Path
) -> None:
    others = {worker.pid for worker in workers()}
    moved: list[int] = []

    def limit(fraction: float) -> None:
        for worker in workers():
            if worker.pid not in others and not moved:
                move(worker.pid, narrow_group)
                moved.append(worker.pid)

    large = replace(info, load=LoadOptions(context_length=8192))
    async with ModelManager([large]) as manager:
        with pytest.raises(ModelLoadError, match=r"SIGKILL.*memory runs out"):
            await manager.load_model("smollm2", progress=limit)
        model, _ = await manager.load_model("smollm2")
        assert model.usable


@linux_only
async def test_requests_that_the_system_ends_for_their_memory_keep_their_text(
    info: ModelInfo, narrow_group: Path
) -> None:
    texts: list[str] = []
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("smollm2")
        assert isinstance(model, LlamaCppModel)

        async def read_and_need_memory() -> None:
            async for event in model.stream(STORY, temperature=0, ignore_eos=True):
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                if len(texts) == 2:
                    move(model.pid, narrow_group)
                    needing.append(asyncio.create_task(model.embed([LONG[:1000]] * 30)))

        needing: list[asyncio.Task[Any]] = []
        with pytest.raises(EngineCrashedError, match=r"SIGKILL.*memory runs out") as caught:
            await asyncio.wait_for(read_and_need_memory(), 60)
        assert caught.value.partial_text == "".join(texts) != ""
        results = await asyncio.gather(*needing, return_exceptions=True)
        assert all(isinstance(result, EngineCrashedError) for result in results)
        again, _ = await manager.load_model("smollm2")
        assert (await again.generate("Hi", max_tokens=1)).usage.completion_tokens == 1
