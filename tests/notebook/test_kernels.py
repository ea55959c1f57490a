"""The same behaviour on the kernels that people have, beside code that patches their loops.

An older ipykernel is tested where ``NBLLM_OLD_IPYKERNEL`` names the folder that it was put into:
``pip install --no-deps --target FOLDER ipykernel==6.31.0``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

SETUP = """
import asyncio, warnings
import nbllm
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

opener = FakeOpener(text="Some words. " * 100, token_seconds=0.01)
manager = ModelManager([fake_info("tiny")], open_model=opener)
magics.load(get_ipython(), lambda: manager)

async def three():
    await asyncio.sleep(0)
    return 3
"""
OLD = "NBLLM_OLD_IPYKERNEL"


@pytest.fixture(scope="module", params=["newest", "older"])
def any_kernel(request: pytest.FixtureRequest, new_kernel: Any) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "older":
            if OLD not in os.environ:
                pytest.skip(f"{OLD} does not name a folder with an older ipykernel")
            patch.setenv("PYTHONPATH", os.environ[OLD])
        kernel = new_kernel()
    kernel.ok(SETUP)
    yield kernel
    kernel.close()


@pytest.fixture(scope="module", params=[False, True], ids=["unpatched", "nest_asyncio2"])
def patched_kernel(request: pytest.FixtureRequest, any_kernel: Any) -> Any:
    if request.param:
        pytest.importorskip("nest_asyncio2")
        any_kernel.ok("warnings.simplefilter('ignore')\n%llm_config nest_asyncio=True")
        assert any_kernel.ok("asyncio.run(three())").result == "3"
    return any_kernel


def test_an_answer_streams(patched_kernel: Any) -> None:
    ran = patched_kernel.ok("%%llm tiny --max-tokens 60\nHi")
    assert ran.answers[-1] == "Some words. " * 29 + "Some words."
    assert len(ran.answers) >= 2


def test_an_interrupt_stops_it(patched_kernel: Any) -> None:
    ran = patched_kernel.run("%%llm tiny\nHi", interrupt_when_shown="words")
    assert ran.reply["status"] == "error"
    assert not ran.contents("error")
    assert "Stopped. The text so far is in _llm." in str(ran.contents("display_data"))
    assert ran.interrupt_to_idle_seconds < 0.1  # 4 to 6 ms on an idle machine


def test_a_job_ends_where_it_is_awaited(patched_kernel: Any) -> None:
    patched_kernel.ok("%%llm tiny --bg -o job --max-tokens 4\nHi")
    assert patched_kernel.ok("(await job).text").result == "'Some words. Some words.'"
    assert patched_kernel.ok("job.result() is _llm").result == "True"


def test_the_synchronous_door_is_open(patched_kernel: Any) -> None:
    assert patched_kernel.ok("nbllm.run(three())").result == "3"
    assert patched_kernel.ok("await three() + nbllm.run(three())").result == "6"
