"""How weights are brought into memory: mapped, read, locked; the answers stay the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import Load

from nbllm.core.errors import InvalidOptionError, ModelLoadError
from nbllm.core.types import LoadOptions

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def kibibytes(pid: int, name: str) -> int:
    """A figure of a process's status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def kibibytes_of(file: Path) -> int:
    return file.stat().st_size // 1024


@on_linux
async def test_weights_are_mapped_or_read_or_locked(load: Load, bundled_gguf: Path) -> None:
    weights, texts = kibibytes_of(bundled_gguf), set()
    for options, is_mapped in (
        ({}, True),
        ({"mmap": True, "numa": "distribute"}, True),
        ({"mmap": False}, False),
        ({"direct_io": True, "numa": "isolate"}, False),
    ):
        model = load(context_length=256, device="CPU", **options)
        answer = await model.generate("Count: one, two,", max_tokens=6, temperature=0)
        texts.add(answer.text)
        mapped = kibibytes(model.pid, "RssFile")
        assert (mapped > 0.9 * weights) == is_mapped, options
        await model.aclose()
    assert len(texts) == 1


@pytest.fixture
def little_may_be_locked() -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


@on_linux
@pytest.mark.usefixtures("little_may_be_locked")
async def test_locked_weights_are_locked_or_the_load_is_refused(
    load: Load, bundled_gguf: Path
) -> None:
    try:
        model = load(context_length=256, device="CPU", mlock=True)
    except ModelLoadError as error:
        problem = str(error)
    else:
        problem = ""
    if problem:
        assert "could not be locked in memory (the limit is 4 KiB); raise the limit" in problem
        return
    # A privileged process has no limit.
    assert kibibytes(model.pid, "VmLck") > 0.9 * kibibytes_of(bundled_gguf)
    await model.aclose()
    assert not psutil.pid_exists(model.pid)


@pytest.mark.parametrize("other", ["mmap", "mlock"])
def test_direct_reading_excludes_mapping_and_locking(other: str) -> None:
    with pytest.raises(InvalidOptionError, match="direct_io cannot be combined with mmap or mlock"):
        LoadOptions(direct_io=True, **{other: True})


def test_numa_strategies_are_llama_cpps() -> None:
    with pytest.raises(InvalidOptionError, match="numa must be one of distribute, isolate, "):
        LoadOptions(numa="everywhere")  # type: ignore[arg-type]
