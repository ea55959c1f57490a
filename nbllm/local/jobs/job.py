"""The parent's line to a process that works on a model file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nbllm.core.errors import QuantizationError
from nbllm.local.channel import Channel
from nbllm.local.worker_process import describe_exit, exit_remedy

__all__ = ["Job", "running"]

_STALL_SECONDS = 60.0


class Job:
    """A process for the model ``name``, its module, and the stage whose progress it shows."""

    def __init__(self, name: str, module: str, stage: str) -> None:
        self._name, self._stage, self.channel = name, stage, Channel(module)

    async def ask(
        self,
        frame: dict[str, Any],
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> dict[str, Any]:
        """Send a message and wait for its ``done``. Raises ``QuantizationError``."""
        with self.channel.mailbox() as (number, mailbox):
            await self.channel.ask({**frame, "id": number})
            while True:
                for reply in await self.channel.take(mailbox, _STALL_SECONDS, self._stage):
                    match reply["op"]:
                        case "fraction":
                            progress(reply["fraction"])
                        case "done":
                            return reply
                        case _:
                            raise self._failure(reply)

    def _failure(self, reply: dict[str, Any]) -> QuantizationError:
        problem, log = reply.get("problem"), self.channel.worker.log_tail()
        if self.channel.stalled:
            problem = "its process stopped responding and was terminated"
        elif problem is None:
            status = reply["status"]
            problem = f"its process {describe_exit(status)}.{exit_remedy(status, log)}"
        return QuantizationError(self._name, problem)


@asynccontextmanager
async def running(name: str, module: str, stage: str) -> AsyncIterator[Job]:
    """A job whose process ends with the block, however that ends."""
    job = Job(name, module, stage)
    try:
        yield job
    finally:
        job.channel.worker.end()
        await asyncio.to_thread(job.channel.worker.close)
