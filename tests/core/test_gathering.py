"""Coroutines at once: all results in order, or one failure and no task left."""

from __future__ import annotations

import asyncio

import pytest

from nbllm.core.gathering import gathered


async def test_the_results_come_in_the_order_of_the_work() -> None:
    second = asyncio.Event()

    async def waits() -> int:
        await second.wait()
        return 1

    async def sets() -> int:
        second.set()
        return 2

    assert await gathered([waits(), sets()]) == [1, 2]
    assert await gathered([]) == []


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_failure_and_a_cancellation_wait_for_the_others_to_end(is_cancelled: bool) -> None:
    ended: list[str] = []

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async def fails() -> None:
        await asyncio.sleep(0)
        if is_cancelled:
            outer.cancel()
            await asyncio.Event().wait()
        raise ValueError("no")

    outer = asyncio.ensure_future(gathered([goes_on(), fails(), goes_on()]))
    with pytest.raises(asyncio.CancelledError if is_cancelled else ValueError):
        await outer
    assert ended == ["cleaned up"] * 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
