from __future__ import annotations

import asyncio
import threading

import pytest

from nbllm.local.ipc.channel import Delivery, Mailbox, NewText, merged
from nbllm.local.ipc.events import Progress, Tokenized, WorkerEvent


async def test_values_come_in_order_and_none_is_lost_between_threads() -> None:
    mailbox: Mailbox[int] = Mailbox()

    def write() -> None:
        for number in range(20_000):
            mailbox.put(number)

    thread = threading.Thread(target=write)
    thread.start()
    got: list[int] = []
    while len(got) < 20_000:
        got += await asyncio.wait_for(mailbox.take(), 10)
    thread.join()
    assert got == list(range(20_000))


async def test_a_cancelled_reader_loses_nothing() -> None:
    mailbox: Mailbox[str] = Mailbox()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(mailbox.take(), 0.01)
    mailbox.put("kept")
    assert await mailbox.take() == ["kept"]


def test_a_writer_does_not_mind_that_the_readers_loop_is_closed() -> None:
    mailbox: Mailbox[str] = Mailbox()
    loop = asyncio.new_event_loop()
    task = loop.create_task(mailbox.take())
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    mailbox.put("nobody reads this")


async def test_a_mailbox_may_be_asked_for_a_while_only() -> None:
    mailbox: Mailbox[str] = Mailbox()
    assert await mailbox.take(0.01) == []
    mailbox.put("late")
    assert await mailbox.take(0.01) == ["late"]


async def test_what_a_slow_reader_has_not_taken_is_one_event_however_much_came() -> None:
    mailbox: Mailbox[Delivery[WorkerEvent]] = Mailbox(merged)
    for number in range(1000):
        mailbox.put(Progress(1, number, 1000, 0))
    for number in range(1000):
        mailbox.put(NewText(f"{number} ", 2))
    mailbox.put(Tokenized(1, [2]))
    progress, text, last = await mailbox.take()
    assert isinstance(progress, Progress)
    assert progress.processed == 999
    assert isinstance(text, NewText)
    assert text.text.split() == [str(number) for number in range(1000)]
    assert text.tokens == 2000
    assert last == Tokenized(1, [2])
