"""The one brake of a run's requests: in their order, and no place is lost."""

from __future__ import annotations

import asyncio
import itertools

from nbllm.batches.brake import Brake


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_given_in_the_order_in_which_they_are_asked_for() -> None:
    brake, got = Brake(1), list[int]()

    async def take(number: int) -> None:
        await brake.acquire()
        got.append(number)

    tasks = [asyncio.ensure_future(take(number)) for number in range(5)]
    for number in range(5):
        await settle()
        brake.release()
        tasks.append(asyncio.ensure_future(take(5 + number)))  # comes when a place is free
    for _ in range(5):
        await settle()
        brake.release()
    await asyncio.gather(*tasks)
    assert got == [*range(10)]
    assert brake.running == 0


async def test_a_place_that_is_given_to_a_cancelled_request_goes_to_the_next() -> None:
    brake = Brake(1)
    await brake.acquire()
    first, second = (asyncio.ensure_future(brake.acquire()) for _ in range(2))
    await settle()
    brake.release()
    first.cancel()  # in the same step as it gets the place
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    await asyncio.wait_for(second, 5)
    assert brake.running == 1


async def test_after_a_pause_no_more_go_on_than_may() -> None:
    brake = Brake(4)
    for _ in range(4):
        await brake.acquire()
    waiting = [asyncio.ensure_future(brake.acquire()) for _ in range(6)]
    await settle()
    brake.slow_down(0.05)
    for _ in range(4):
        brake.release()
    await settle()
    assert not any(task.done() for task in waiting)
    for done in range(1, 4):
        going = itertools.islice(asyncio.as_completed(waiting), 2 * done)
        await asyncio.wait_for(asyncio.gather(*going), 5)
        await settle()
        assert brake.running == brake.limit == 2
        brake.release()
        brake.release()
