"""A real OpenAI-compatible server with a real model: llama_cpp.server and the bundled one."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from nbllm.cloud.cloud_model import CloudModel, open_model
from nbllm.core.errors import InterruptedStreamError
from nbllm.core.model_manager import ModelManager
from nbllm.core.openers import LoadControl
from nbllm.core.types import Completed, FinishReason, ModelInfo, TextDelta

# llama.cpp's kernels for Intel's AMX crash (see nbllm.local.llama.native); the server has no option
# that passes them by.
LAUNCH = """
import runpy, llama_cpp.llama_cpp as lib
defaults = lib.llama_model_default_params
def without_amx():
    params = defaults()
    params.use_extra_bufts = b"AMX_INT8 = 1" not in lib.llama_print_system_info()
    return params
lib.llama_model_default_params = without_amx
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def llama_server(bundled_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server; starting it takes seconds, so there is one."""
    if importlib.util.find_spec("uvicorn") is None:
        pytest.skip('the server is absent: pip install "llama-cpp-python[server]"')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("llama-server") / "log"
    command = [
        sys.executable, "-c", LAUNCH, "--model", str(bundled_gguf), "--port", str(port),
        "--n_ctx", "256", "--n_threads", "1", "--model_alias", "smollm2",
    ]  # fmt: skip
    # Importing the server warns of what it itself deprecates.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with log.open("wb") as out, subprocess.Popen(
        command, stdout=out, stderr=out, env=environment
    ) as process:  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < deadline, "the server did not start within a minute"
            time.sleep(0.1)
        yield url
        process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models", timeout=1).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
def model(llama_server: str) -> Iterator[CloudModel]:
    info = ModelInfo(name="mine", model_type="llama-server", local=False, base_url=llama_server)
    opened = open_model(info, LoadControl())
    yield opened
    asyncio.run(opened.aclose())


def test_the_server_tells_its_model(model: CloudModel) -> None:
    assert model.info.model == "smollm2"
    listed = asyncio.run(model.list_models())
    assert [info.name for info in listed] == ["smollm2"]


def test_its_address_is_enough(llama_server: str) -> None:
    async def ask() -> tuple[ModelInfo, str]:
        async with ModelManager() as manager:
            model, info = await manager.load_model(f"{llama_server}/")
            return info, (await model.generate("Say hi.", max_tokens=4)).text

    info, text = asyncio.run(ask())
    assert (info.name, info.base_url) == ("smollm2", llama_server)
    assert text


def test_an_answer_streams(model: CloudModel) -> None:
    async def ask() -> list[object]:
        stream = model.stream("Hello, who are you?", max_tokens=12, temperature=0)
        async with aclosing(stream) as events:
            return [event async for event in events]

    *deltas, completed = asyncio.run(ask())
    assert isinstance(completed, Completed)
    result = completed.result
    assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == result.text
    assert len(deltas) > 5
    assert result.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert result.timings.first_token_seconds is not None


def test_options_reach_the_model(model: CloudModel) -> None:
    async def ask() -> None:
        options = {"temperature": 0, "max_tokens": 6}
        whole = await model.generate("Count to five.", **options)
        assert whole.finish_reason is FinishReason.LENGTH
        stop = whole.text[3]
        stopped = await model.generate("Count to five.", stop=stop, **options)
        assert stopped.text == whole.text.partition(stop)[0]
        assert stopped.finish_reason is FinishReason.STOP

    asyncio.run(ask())


def test_a_server_that_gives_up_without_a_word_is_found_out(model: CloudModel) -> None:
    # Where the prompt does not fit, this server answers 200 and ends the stream with nothing in it.
    with pytest.raises(InterruptedStreamError):
        asyncio.run(model.generate("word " * 400, max_tokens=8, max_retry_seconds=0))


def test_a_cancelled_answer_leaves_the_server_usable(model: CloudModel) -> None:
    async def ask() -> str:
        stream = model.stream("Tell me a long story.", max_tokens=200)
        async with aclosing(stream) as events:
            await anext(events)
        return (await model.generate("Say hi.", max_tokens=4)).text

    assert asyncio.run(ask())
