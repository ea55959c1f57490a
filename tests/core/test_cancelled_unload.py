"""An unload that is cancelled ends the engine all the same, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio

import pytest

from nbllm.core.model_manager import ModelManager
from nbllm.testing import FakeOpener, fake_info


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_unload_still_closes_the_model(steps: int) -> None:
    opener = FakeOpener()
    manager = ModelManager([fake_info("m", size_bytes=2**20)], open_model=opener)
    await manager.load_model("m")
    unload = asyncio.create_task(manager.unload_model("m"))
    for _ in range(steps):
        await asyncio.sleep(0)
    unload.cancel()
    await asyncio.gather(unload, return_exceptions=True)
    await asyncio.wait_for(manager.aclose(), timeout=10)
    assert steps == 0 or not opener.opened[0].usable


async def test_who_stops_waiting_does_not_cancel_the_end_for_others() -> None:
    opener = FakeOpener()
    manager = ModelManager([fake_info("m", size_bytes=2**20)], open_model=opener)
    await manager.load_model("m")
    waiting = [asyncio.create_task(manager.unload_model("m")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), timeout=10)
    assert results[0] is None
    assert not opener.opened[0].usable
