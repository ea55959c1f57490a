from __future__ import annotations

import asyncio
import sys
import time

import pytest

from nbllm.cloud.transport.timing import SilenceTimer


async def test_a_long_wait_ends() -> None:
    timer = SilenceTimer(0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError), timer:
        await asyncio.sleep(10)
    assert 0.05 <= time.monotonic() - began < 1
    await asyncio.sleep(0.1)  # nothing is left that cancels the task later
    timer.close()


async def test_many_short_waits_do_not_add_up() -> None:
    timer = SilenceTimer(0.1)
    for _ in range(10):
        with timer:
            await asyncio.sleep(0.03)
    timer.close()


async def test_time_outside_the_waits_does_not_count() -> None:
    timer = SilenceTimer(0.05)
    with timer:
        await asyncio.sleep(0)
    await asyncio.sleep(0.15)
    with timer:
        await asyncio.sleep(0)
    timer.close()


async def test_the_limit_holds_for_each_later_wait() -> None:
    timer = SilenceTimer(0.05)
    with timer:
        await asyncio.sleep(0.03)
    with pytest.raises(TimeoutError), timer:
        await asyncio.sleep(10)
    timer.close()


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def wait() -> None:
        with SilenceTimer(10):
            await asyncio.sleep(10)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 cannot tell the two apart")
async def test_a_cancellation_at_the_same_moment_wins() -> None:
    async def wait() -> None:
        timer = SilenceTimer(10)
        with timer:
            asyncio.get_running_loop().call_soon(timer._check)
            timer._since -= 20
            await asyncio.sleep(10)

    task = asyncio.ensure_future(wait())
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_inside_passes() -> None:
    timer = SilenceTimer(10)
    with pytest.raises(ValueError, match="inside"), timer:
        raise ValueError("inside")
    timer.close()
