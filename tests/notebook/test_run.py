"""``nbllm.run`` from every place that cannot await."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

import nbllm


async def value(result: object) -> object:
    await asyncio.sleep(0)
    return result


def test_in_a_script() -> None:
    assert nbllm.run(value(3)) == 3


def test_an_exception_comes_through() -> None:
    async def fail() -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        nbllm.run(fail())


async def test_in_a_function_that_a_running_loop_has_called() -> None:
    def library_call() -> object:
        return nbllm.run(value("here"))

    assert library_call() == "here"


def test_nested_in_its_own_work() -> None:
    async def outer() -> object:
        return [nbllm.run(value("inner")), await value("outer")]

    assert nbllm.run(outer()) == ["inner", "outer"]
    assert nbllm.run(value("after")) == "after"


def test_an_interrupt_cancels_the_work() -> None:
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        nbllm.run(forever())
    assert cancelled.wait(5)


@pytest.mark.parametrize("patched", [False, True], ids=["unpatched", "nest_asyncio2"])
def test_beside_code_that_patches_loops(patched: bool) -> None:
    """A blocking wrapper of an async library, in a loop that runs: with and without the patch."""
    if patched:
        pytest.importorskip("nest_asyncio2")
    code = f"""
import asyncio, warnings
import nbllm
if {patched}:
    warnings.simplefilter("ignore")
    import nest_asyncio2
    nest_asyncio2.apply()

async def work(): return await asyncio.sleep(0, 5)
def wrapper(): return asyncio.get_event_loop().run_until_complete(work())

async def cell():
    return nbllm.run(work()), wrapper() if {patched} else 5, nbllm.run(work())

print(asyncio.run(cell()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("(5, 5, 5)\n", "")
