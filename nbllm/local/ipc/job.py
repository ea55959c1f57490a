"""A process that does one kind of work on a model file, with progress, and can be cancelled."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeAlias, TypeVar

import msgspec

from nbllm.core.errors import NbllmError
from nbllm.local.ipc.channel import Channel, Exited, Forked, NewText
from nbllm.local.ipc.liveness import STALL_SECONDS
from nbllm.local.ipc.protocol import Beat, Event, Failed, Fraction, Message, Request, encode
from nbllm.local.ipc.worker_process import WorkerProcess

__all__ = ["Failure", "Job", "ask_once", "running"]

D = TypeVar("D", bound=Event)
E = TypeVar("E", bound=Event)

Failure: TypeAlias = Callable[[str, tuple[str, ...]], NbllmError]
"""Makes the error of a job from what happened and the last lines that the process wrote."""


class Job(Generic[D]):
    """A running process; ``ask`` has it do something."""

    def __init__(
        self,
        module: str,
        done: type[D],
        failure: Failure,
        *,
        stage: str,
        stall_seconds: float | None,
        noun: str,
    ) -> None:
        self._done, self._failure, self._noun = done, failure, noun
        self._stage, self._stall_seconds = stage, stall_seconds
        known = msgspec.json.Decoder(Beat | Fraction | Failed | done)
        self.channel: Channel[Event] = Channel(module, known)

    async def ask(
        self,
        operation: Callable[[int], Request],
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> D:
        """Send the operation, made with its id, and wait until it is done.

        ``progress`` gets the finished fraction, 0 to 1. Raises the job's kind of error.
        """
        with self.channel.mailbox() as (number, mailbox):
            await self.channel.send_long(operation(number))
            while True:
                for event in await self.channel.take(mailbox, self._stall_seconds, self._stage):
                    if isinstance(event, self._done):
                        return event
                    if not isinstance(event, Fraction):
                        log = await asyncio.to_thread(self.channel.worker.final_log)
                        raise self._failure(self._problem(event), log)
                    progress(event.fraction)

    def _problem(self, event: Event | NewText | Exited | Forked) -> str:
        match event:
            case Failed(_, problem):
                return problem
            case Exited():
                return f"{self._noun} {event.problem()}"
            case _:
                return f"{self._noun} belongs to the process that this one was forked from"


@asynccontextmanager
async def running(
    module: str,
    done: type[D],
    failure: Failure,
    *,
    stage: str,
    stall_seconds: float | None = STALL_SECONDS,
    noun: str = "its process",
) -> AsyncIterator[Job[D]]:
    """A job in ``python -m module``, whose process ends with the block, however that ends.

    Its operations are answered by ``Fraction`` and ``done``, or ``Failed``. A process that gives no
    sign of life, or is overdue at ``stage``, is ended; ``noun`` names it in messages.
    """
    job = Job(module, done, failure, stage=stage, stall_seconds=stall_seconds, noun=noun)
    try:
        yield job
    finally:
        job.channel.worker.end()
        await asyncio.to_thread(job.channel.worker.close)


def ask_once(
    module: str, operation: Message, answer: type[E], seconds: float
) -> E | tuple[str, ...]:
    """The one event of a process that sends no other.

    Where it fails, or takes longer, it is the last lines that it wrote instead. Blocks. Raises
    ``OSError`` where no process can be started.
    """
    answers: queue.SimpleQueue[E | None] = queue.SimpleQueue()
    process = WorkerProcess(
        module, msgspec.json.Decoder(answer), answers.put, lambda status: answers.put(None)
    )
    try:
        process.send(encode(operation))
        with suppress(queue.Empty):
            told = answers.get(timeout=seconds)
            return process.log_tail() if told is None else told
        return process.log_tail()
    finally:
        process.kill()
