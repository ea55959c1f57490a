"""Prompts on disk outlive the worker: with the same numbers, or not at all."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Load

from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import GenerationResult, LoadOptions
from nbllm.local.llama_cpp_model import LlamaCppModel

LIMIT = 64 * 2**20
TEXT = " ".join(f"{n} is next to {n * 7 % 31}." for n in range(60))
MORE = TEXT + " And 3 is next to"
ASKED: dict[str, Any] = {"raw": True, "max_tokens": 1, "temperature": 0, "logprobs": 20}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the prompts are saved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "nbllm" / "prefixes"
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.prefix"))


def flipped(file: Path, place: int) -> bytes:
    """The file's bytes, one of which is another."""
    data = bytearray(file.read_bytes())
    data[place] ^= 0x55
    return bytes(data)


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def ask(model: LlamaCppModel, text: str = TEXT, **options: Any) -> GenerationResult:
    return await model.generate(text, **ASKED | options)


async def leave_one(load: Load, path: Path, **options: Any) -> None:
    """Have a worker read the text, and end."""
    model = load(path, prefix_cache_disk=LIMIT, **options)
    await ask(model)
    await model.aclose()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama-q8_0", {"kv_type": "q8_0"}),
        ("llama-q8_0", {"flash_attention": False}),
        ("llama-q8_0", {"batch_invariant": True}),
        ("gemma2", {}),  # layers that see the newest 256 tokens only
        ("mamba", {}),  # a state of which no part can be forgotten
        ("deepseek2", {}),
    ],
)
async def test_a_conversation_goes_on_after_a_restart_with_the_same_numbers(
    load: Load, tiny_models: dict[str, Path], folder: Path, name: str, options: dict[str, Any]
) -> None:
    path, given = tiny_models[name], {"context_length": 2048} | options
    staying = load(path, **given)
    await ask(staying)
    wanted = await ask(staying, MORE)
    await staying.aclose()
    await leave_one(load, path, **given)
    assert len(saved(folder)) == 1
    again = load(path, prefix_cache_disk=LIMIT, **given)
    found = await ask(again, MORE)
    assert found.usage.cached_tokens == wanted.usage.cached_tokens > 500
    assert found.logprobs == wanted.logprobs
    elsewhere = await ask(again, "Something else. " * 30)
    assert elsewhere.usage.cached_tokens < 5
    await again.aclose()


@pytest.mark.parametrize("options", [{"prefix_cache_disk": LIMIT}, {"prefix_cache_mib": 64}])
@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
async def test_of_a_sliding_window_no_part_is_used_that_was_not_saved(
    load: Load, tiny_models: dict[str, Path], folder: Path, name: str, options: dict[str, Any]
) -> None:
    given = {"context_length": 2048, "parallel": 1}
    plain, part = load(tiny_models[name], **given), TEXT[:500]
    model = load(tiny_models[name], **given | options)
    await ask(model, TEXT)
    await ask(model, "Something else. " * 30)
    restored = await ask(model, TEXT + " And")
    assert restored.usage.cached_tokens > 500
    forked = await ask(model, part)
    wanted = await ask(plain, part)
    assert forked.usage.cached_tokens == 0
    assert forked.logprobs == wanted.logprobs
    for each in (plain, model):
        await each.aclose()


async def test_of_a_sliding_window_the_prompt_is_saved_without_the_answer(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    path = tiny_models["gemma3"]
    model = load(path, prefix_cache_disk=LIMIT, context_length=2048)
    first = await ask(model, max_tokens=20, ignore_eos=True, logprobs=None)
    await model.aclose()
    again = load(path, prefix_cache_disk=LIMIT, context_length=2048)
    other_answer = await ask(again, MORE)
    assert other_answer.usage.cached_tokens == first.usage.prompt_tokens
    await again.aclose()


@pytest.mark.parametrize("damage", ["state", "tokens", "header", "cut"])
async def test_a_damaged_entry_is_dropped_and_told(
    load: Load, tiny_models: dict[str, Path], folder: Path, damage: str
) -> None:
    path = tiny_models["llama-q8_0"]
    await leave_one(load, path, context_length=2048)
    (file,) = saved(folder)
    data = flipped(
        file, {"state": -100, "tokens": file.read_bytes().index(b"}") + 9}.get(damage, 60)
    )
    write(file, data[:-5] if damage == "cut" else data)
    model = load(path, prefix_cache_disk=LIMIT, context_length=2048)
    with pytest.warns(UserWarning, match="saved prompt was dropped from the prefix cache on disk"):
        result = await ask(model, MORE)
    assert result.usage.cached_tokens == 0
    assert file not in saved(folder)
    await model.aclose()
    assert saved(folder), "what was read anew is saved anew"


async def test_what_was_computed_otherwise_is_not_taken(
    load: Load, tiny_models: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(tiny_models["llama-q8_0"], tmp_path / "own.gguf"))
    edited = flipped(own, -2000)
    await leave_one(load, own, context_length=2048)
    other_type = load(own, context_length=2048, prefix_cache_disk=LIMIT, kv_type="q8_0")
    assert (await ask(other_type)).usage.cached_tokens == 0
    await other_type.aclose()
    write(own, edited)
    other_weights = load(own, context_length=2048, prefix_cache_disk=LIMIT)
    assert (await ask(other_weights)).usage.cached_tokens == 0
    await other_weights.aclose()


async def test_a_shorter_context_does_not_take_what_is_longer(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    await leave_one(load, tiny_models["llama-q8_0"], context_length=2048)
    model = load(tiny_models["llama-q8_0"], context_length=512, prefix_cache_disk=LIMIT)
    result = await ask(model, TEXT[:400])
    assert result.usage.cached_tokens == 0
    await model.aclose()


async def test_without_it_nothing_is_saved(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    model = load(tiny_models["llama-q8_0"], context_length=2048)
    await ask(model)
    await model.aclose()
    assert not saved(folder)


async def test_a_long_prompt_is_saved_in_the_background(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    model = load(tiny_models["llama-q8_0"], context_length=4096, prefix_cache_disk=LIMIT)
    await ask(model, TEXT * 2)
    await asyncio.to_thread(wait_until, lambda: bool(saved(folder)))
    model.kill()
    assert len(saved(folder)) == 1
    again = load(tiny_models["llama-q8_0"], context_length=4096, prefix_cache_disk=LIMIT)
    result = await ask(again, TEXT * 2)
    assert result.usage.cached_tokens == result.usage.prompt_tokens - 1
    await again.aclose()


KERNEL = """
import asyncio, os, sys
from pathlib import Path
from nbllm.core.openers import LoadControl
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.llama_cpp_model import open_model

options = LoadOptions(context_length=2048, threads=1, prefix_cache_disk="64MiB")
info = ModelInfo(name="m", model_type="llama", local=True, path=Path(sys.argv[1]), load=options)
model = open_model(info, LoadControl())
asyncio.run(model.generate(sys.argv[2], raw=True, max_tokens=1))
print(model.pid, flush=True)
if sys.argv[3] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["clean", "killed"])
def test_it_is_saved_however_the_kernel_ends(
    tiny_models: dict[str, Path], folder: Path, end: str
) -> None:
    if end == "killed" and sys.platform == "win32":
        pytest.skip("no such signal")
    command = [sys.executable, "-c", KERNEL, str(tiny_models["llama-q8_0"]), TEXT, end]
    kernel = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    worker = int(kernel.stdout)
    wait_until(lambda: not psutil.pid_exists(worker))
    assert len(saved(folder)) == 1


async def test_the_prompts_of_a_batch_are_not_saved(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    model = load(tiny_models["llama-q8_0"], context_length=2048, prefix_cache_disk=LIMIT)
    await ask(model, priority="background")
    await model.aclose()
    assert not saved(folder)


async def test_what_a_context_shift_left_is_not_saved(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    model = load(tiny_models["llama-q8_0"], context_length=512, prefix_cache_disk=LIMIT)
    await ask(model, TEXT[:420], max_tokens=150, on_full="shift", ignore_eos=True, logprobs=None)
    await model.aclose()
    assert not saved(folder)


async def test_a_folder_that_cannot_be_written_is_told_and_no_answer_fails(
    load: Load, tiny_models: dict[str, Path], folder: Path
) -> None:
    write(folder, b"in the way of the folder")
    model = load(tiny_models["llama-q8_0"], context_length=4096, prefix_cache_disk=LIMIT)
    first = await ask(model, TEXT * 2)
    await asyncio.sleep(2)
    with pytest.warns(UserWarning, match="prefix cache on disk is off until the next load"):
        second = await ask(model, TEXT * 2)
    assert second.logprobs == first.logprobs
    await model.aclose()


@pytest.mark.parametrize(
    ("given", "size"),
    [("2GiB", 2**31), ("20 MB", 20_000_000), ("1.5g", 3 * 2**29), (2**30, 2**30), (0, 0)],
)
def test_its_size_may_have_a_unit(given: Any, size: int) -> None:
    assert LoadOptions(prefix_cache_disk=given).prefix_cache_disk == size


@pytest.mark.parametrize("given", ["much", "2 PiBs", "-1GiB", -1, True, 2.5, "1e9", 2, "1MiB", ""])
def test_other_sizes_are_refused(given: Any) -> None:
    with pytest.raises(InvalidOptionError, match="prefix_cache_disk must be"):
        LoadOptions(prefix_cache_disk=given)
