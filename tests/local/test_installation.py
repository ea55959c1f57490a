"""A llama-cpp-python that is absent, too old, or compiled for another machine: what is said."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbllm import ModelManager
from nbllm.core.errors import EngineCrashedError, MissingDependencyError, ModelLoadError
from nbllm.core.openers import LoadControl
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo, TextDelta
from nbllm.local.installation import LOWEST_VERSION, REINSTALL, check_installation
from nbllm.local.ipc.worker_process import describe_exit, exit_remedy
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model
from nbllm.local.measuring.bench import measure_model

ILLEGAL_INSTRUCTIONS = {"x86_64": b"\x0f\x0b", "aarch64": b"\0\0\0\0"}
DIES = """
import ctypes, mmap
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write({code!r})
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
DOES_NOT_LOAD = (
    "raise RuntimeError(\"Failed to load shared library 'libllama.so': no such symbol\")"
)
posix_only = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@pytest.fixture
def info(bundled_gguf: Path) -> ModelInfo:
    load = LoadOptions(context_length=512)
    return ModelInfo(name="smollm2", model_type="llama", local=True, path=bundled_gguf, load=load)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Call it with the code of bindings, which workers import in place of the real."""

    def install(code: str) -> None:
        package = tmp_path / "llama_cpp"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "llama_cpp.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return install


# ---------------------------------------------------------------- absent, or too old


def test_without_llama_cpp_the_refusal_names_every_way(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbllm.local.installation.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        open_model(info, LoadControl())
    first, *ways = str(caught.value).splitlines()
    assert first == (
        "Running a model on this machine needs the package llama-cpp-python, which is not "
        'installed. Install it with: pip install "nbllm[local]"'
    )
    for place, words in enumerate(["compiler", "conda install", "--only-binary", "%llm_load gpt"]):
        assert words in ways[place]
    assert isinstance(caught.value, ImportError)


async def test_a_benchmark_without_llama_cpp_is_refused_in_the_same_words(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbllm.local.installation.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="llama-cpp-python, which is not installed"):
        await measure_model(info, ResourceDetector().detect())


@pytest.mark.parametrize("version", ["0.2.90", "0.3.9", "0.3.34", "0.3.34+cu121", "0.3"])
def test_a_version_that_lacks_what_nbllm_calls_is_told(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    with pytest.raises(MissingDependencyError) as caught:
        check_installation()
    assert f"llama-cpp-python>={LOWEST_VERSION}, and version {version} is too old" in str(
        caught.value
    )
    assert 'pip install "nbllm[local]"' in str(caught.value)


@pytest.mark.parametrize("version", [LOWEST_VERSION, "0.3.36", "0.3.100+cu124", "0.4", "1.0.0rc1"])
def test_a_newer_version_is_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    check_installation()


def test_the_extras_ask_for_no_newer_version_than_is_used() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    asked = re.findall(r'"llama-cpp-python(?:\[\w+\])?(.*)"', project)
    assert asked == [f">={LOWEST_VERSION}"] * 2


# ---------------------------------------------------------------- for another machine


@posix_only
@pytest.mark.skipif(
    platform.machine() not in ILLEGAL_INSTRUCTIONS, reason="no illegal instruction is known here"
)
async def test_an_illegal_instruction_while_loading_names_the_line_that_compiles_anew(
    info: ModelInfo, stand_in: Callable[[str], None]
) -> None:
    stand_in(DIES.format(code=ILLEGAL_INSTRUCTIONS[platform.machine()]))
    with pytest.raises(ModelLoadError, match=r"SIGILL; its llama\.cpp was compiled for another"):
        await ModelManager([info]).load_model("smollm2")
    with pytest.raises(ModelLoadError) as caught:
        await measure_model(info, ResourceDetector().detect())
    assert REINSTALL in map(str.strip, str(caught.value).splitlines())


@posix_only
async def test_an_illegal_instruction_in_an_answer_keeps_the_text_and_names_the_line(
    info: ModelInfo,
) -> None:
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("smollm2")
        assert isinstance(model, LlamaCppModel)

        async def read_and_kill() -> None:
            async for event in model.stream("Tell me a long story.", temperature=0):
                if isinstance(event, TextDelta):
                    os.kill(model.pid, signal.SIGILL)

        with pytest.raises(EngineCrashedError) as caught:
            await asyncio.wait_for(read_and_kill(), 60)
    assert caught.value.exit_status == -signal.SIGILL
    assert caught.value.partial_text
    assert REINSTALL in str(caught.value).splitlines()[2]


async def test_a_library_that_cannot_be_loaded_names_the_line_too(
    info: ModelInfo, stand_in: Callable[[str], None]
) -> None:
    stand_in(DOES_NOT_LOAD)
    with pytest.raises(ModelLoadError) as caught:
        await ModelManager([info]).load_model("smollm2")
    assert "llama-cpp-python cannot be loaded on this machine" in str(caught.value)
    assert REINSTALL in map(str.strip, str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "ended with exit code 1"),
        (0xC000001D, "was killed by SIGILL; its llama.cpp"),
        (0xC0000005, "was killed by SIGSEGV; a crash"),
    ],
)
def test_windows_codes_of_crashes_are_told_by_the_same_names(status: int, words: str) -> None:
    assert describe_exit(status).startswith(words)
    assert (REINSTALL in exit_remedy(status, ())) == ("SIGILL" in words)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has fewer signals")
@pytest.mark.parametrize("status", [-9, -11, -6, 1])
def test_no_other_end_asks_for_another_llama_cpp(status: int) -> None:
    assert exit_remedy(status, ["llama_model_load: error"]) == ""
