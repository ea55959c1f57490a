"""One batch: prompts in, rows out in their order, each with an answer or its own error."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nbllm.batches.batch_rows import BatchProgress, BatchRow, error_words, grouped_reasons
from nbllm.batches.journal import Journal
from nbllm.batches.limits import Limits
from nbllm.batches.row_asker import RowAsker
from nbllm.batches.spread import SpreadModel, brake_of
from nbllm.core.errors import BatchError
from nbllm.core.kinds import place_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_checks import check_number
from nbllm.core.options import GenerationOptions
from nbllm.core.runs import Run, stopper
from nbllm.core.types import GenerationRequest

__all__ = ["RunSettings", "run_batch"]

_AHEAD = 4
"""So many times the concurrency rows may be finished before an earlier one."""
_FEWEST_FOR_SHARE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What ``run_batch`` is told beside the prompts. Raises ``InvalidOptionError``.

    ``system``, ``options`` and ``schema`` are those of every request. ``concurrency`` requests are
    under way at a time; without it a local model gets as many as it has sequences, and a vendor 8.
    More than the share ``max_failures`` of failed rows ends the run, and so does a next request
    that could take more than is left of ``max_cost`` (US dollars) or ``max_total_tokens`` (of
    prompts and answers). The ``first`` rows are done before any other is asked. ``retry_failed``
    asks again what failed in an earlier run with the same journal. ``title`` says what the run is.
    """

    system: str | None = None
    options: GenerationOptions | None = None
    schema: Any = None
    concurrency: int | None = None
    retry_failed: bool = True
    max_failures: float = 0.5
    max_cost: float | None = None
    max_total_tokens: int | None = None
    first: int = 0
    title: str = ""

    def __post_init__(self) -> None:
        check_number("max_failures", self.max_failures, 0, 1)


async def run_batch(
    model: ModelInterface,
    prompts: Iterable[Any],
    settings: RunSettings,
    *,
    journal: Journal | None = None,
    progress: BatchProgress | None = None,
) -> AsyncIterator[BatchRow]:
    """Ask ``model`` every prompt; the rows come in order, as soon as those before them are done.

    ``prompts`` is anything that can be iterated over, and is read as it is needed. Each row fails
    alone: its error stands in ``BatchRow.error``. The run itself ends with ``BatchError`` where a
    failure would meet every row, such as a key that is refused, and at the limits of ``settings``.
    The rows that are under way by then are finished first, since they are paid for, and no others
    are asked; so rows between those that came may be missing. Where reading the prompts fails, it
    ends so too, behind all that were read.
    What is finished is in the ``journal``, and is not asked again when the same is run with it.
    Equal rows of a deterministic run are asked once.

    A local model works at the priority "background", also behind a router, so that cells go first;
    its first row is read before the others, so that what they begin with is read once. A vendor
    gets fewer requests at a time after a rate limit. Raises ``InvalidOptionError`` at once for
    options that nothing could be asked with.
    """
    asked = _with_priority(model, settings.options)

    def request(prompt: Any) -> GenerationRequest:
        return model.request(prompt, system=settings.system, options=asked, schema=settings.schema)

    limits = Limits(settings.max_cost, settings.max_total_tokens)
    asker = RowAsker(
        model=model,
        brake=await brake_of(model, settings.concurrency),
        journal=journal,
        retry_failed=settings.retry_failed,
        limits=limits,
        mark=Run(settings.title or model.name),
        progress=progress or BatchProgress(),
        request=request,
    )
    run = _Run(asker, settings)
    try:
        async for row in run.rows(iter(prompts)):
            yield row
    finally:
        await run.aclose()
        if isinstance(model, SpreadModel):
            await model.close()


def _with_priority(model: ModelInterface, options: GenerationOptions | None) -> GenerationOptions:
    given = options or GenerationOptions()
    if place_of(model.info) in ("server", "cloud") or given.priority is not None:
        return given
    return given.replaced(priority="background")


@dataclass(slots=True)
class _Run:
    """The rows of one run, of which at most a window is held; ``tasks`` are those under way."""

    asker: RowAsker
    settings: RunSettings
    tasks: set[asyncio.Task[BatchRow | None]] = field(default_factory=set)
    waiting: deque[asyncio.Task[BatchRow | None]] = field(default_factory=deque)
    begun: int = 0
    has_more: bool = True
    broken: BatchError | None = None

    def __post_init__(self) -> None:
        mark = self.asker.mark
        mark.total, mark.stop = self.asker.progress.total, stopper()

    async def rows(self, prompts: Iterator[Any]) -> AsyncIterator[BatchRow]:
        """The rows in order. Raises the ``BatchError`` that ended the run behind the last."""
        while True:
            while self._may_begin and (begun := self._next(prompts)) is not None:
                self._begin(*begun)
            if not self.waiting:
                break
            row = await self.waiting.popleft()
            if row is not None:
                self._note(row)
                yield row
        if (over := self.asker.over or self.broken) is not None:
            raise over

    @property
    def _may_begin(self) -> bool:
        if not self.has_more or self.asker.over is not None:
            return False
        if self.begun == self.settings.first and self.waiting:
            return False
        return len(self.waiting) < self.asker.brake.most * _AHEAD

    def _next(self, prompts: Iterator[Any]) -> tuple[int, Any] | None:
        """The next row's number and prompt, None behind the last."""
        try:
            prompt = next(prompts)
        except StopIteration:
            self.has_more = False
            return None
        except Exception as error:  # noqa: BLE001 - an iterator of the user's may raise anything
            problem = f"reading the prompts failed behind {self.begun:,} rows"
            self.broken = BatchError(f"stopped, because {problem}: {error_words(error)}")
            self.broken.__cause__, self.has_more = error, False
            return None
        self.begun += 1
        return self.begun - 1, prompt

    def _begin(self, index: int, prompt: Any) -> None:
        task = asyncio.create_task(self.asker.row(index, prompt, goes_first=index == 0))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.waiting.append(task)

    def _note(self, row: BatchRow) -> None:
        """Count a row; the run is over where so many failed that the rest is better not asked."""
        progress, mark = self.asker.progress, self.asker.mark
        progress.note(row)
        mark.done, mark.failed = done, failed = progress.done, progress.failed
        if done >= _FEWEST_FOR_SHARE and failed > self.settings.max_failures * done:
            reasons = grouped_reasons(progress.reasons)
            problem = f"because {failed:,} of them failed: {reasons}"
            self.asker.end(BatchError(f"stopped after {done:,} rows, {problem}"))

    async def aclose(self) -> None:
        """End what still runs."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
