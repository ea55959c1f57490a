"""One batch: prompts in, rows out in their order, each with an answer or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from nbllm.batches.batch_rows import BatchProgress, BatchRow, error_words, grouped_reasons, kept_row
from nbllm.batches.brake import Brake
from nbllm.batches.journal import Entry, Journal
from nbllm.batches.limits import Limits
from nbllm.batches.spread import SpreadModel, brake_of
from nbllm.core.caching.request_key import is_deterministic, request_key
from nbllm.core.errors import (
    AuthenticationError,
    BatchError,
    BudgetError,
    EngineCrashedError,
    InvalidOptionError,
    ModelClosedError,
    NbllmError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
)
from nbllm.core.kinds import kind_of, place_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_checks import check_number
from nbllm.core.options import GenerationOptions
from nbllm.core.results import GenerationResult
from nbllm.core.runs import Run, current_run, stopper
from nbllm.core.types import Completed, GenerationRequest, RetryScheduled, TextDelta, Usage

__all__ = ["run_batch"]

_AHEAD = 4
"""So many times the concurrency rows may be finished before an earlier one."""
_RESTING_SECONDS = 5.0
_FEWEST_FOR_SHARE = 20
_MOST_RATE_LIMITS = 5
_HOPELESS = (
    AuthenticationError,
    PermissionDeniedError,
    QuotaError,
    NotFoundError,
    ModelClosedError,
    EngineCrashedError,
)
"""What every other row would meet too."""


async def run_batch(
    model: ModelInterface,
    prompts: Iterable[Any],
    *,
    system: str | None = None,
    options: GenerationOptions | None = None,
    schema: Any = None,
    concurrency: int | None = None,
    journal: Journal | None = None,
    retry_failed: bool = True,
    max_failures: float = 0.5,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    first: int = 0,
    title: str = "",
    progress: BatchProgress | None = None,
    on_row: Callable[[BatchRow], None] = lambda row: None,
) -> AsyncIterator[BatchRow]:
    """Ask ``model`` every prompt; the rows come in order, as soon as those before them are done.

    ``prompts`` is anything that can be iterated over, and is read as it is needed. Each row fails
    alone: its error stands in ``BatchRow.error``. The run itself ends with ``BatchError`` where a
    failure would meet every row, such as a key that is refused, where more than the share
    ``max_failures`` failed, and where the next request could take more than is left of
    ``max_cost`` (US dollars) or ``max_total_tokens`` (of prompts and answers). The ``first`` rows
    are done before any other is asked. What is finished is in the ``journal``, and is not asked
    again when the same is run with it. Equal rows of a deterministic run are asked once.

    A local model works at the priority "background", also behind a router, so that cells go first,
    and gets as many requests at a time as it has sequences; its first row is read before the
    others, so that what they begin with is read once. A vendor gets 8, fewer after a rate limit.
    Raises ``InvalidOptionError`` at once for options that nothing could be asked with.
    """
    check_number("max_failures", max_failures, 0, 1)
    limits = Limits(max_cost, max_total_tokens)
    brake = await brake_of(model, concurrency)
    asked = _with_priority(model, options)
    run = _Run(
        model=model,
        brake=brake,
        journal=journal,
        retry_failed=retry_failed,
        limits=limits,
        first=first,
        mark=Run(title or model.name),
        progress=progress or BatchProgress(),
        request=lambda prompt: model.request(prompt, system=system, options=asked, schema=schema),
    )
    run.mark.total = run.progress.total
    run.mark.stop = stopper()
    try:
        async for row in run.rows(iter(prompts)):
            run.note(row)
            on_row(row)
            yield row
            run.check_failures(max_failures)
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
    model: ModelInterface
    brake: Brake
    journal: Journal | None
    retry_failed: bool
    limits: Limits
    first: int
    mark: Run
    progress: BatchProgress
    request: Callable[[Any], GenerationRequest]
    equal: dict[str, asyncio.Future[BatchRow]] = field(default_factory=dict)
    tasks: set[asyncio.Task[BatchRow]] = field(default_factory=set)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    priced: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    over: BatchError | None = None

    def note(self, row: BatchRow) -> None:
        """Count a finished row."""
        self.progress.note(row)
        self.mark.done, self.mark.failed = self.progress.done, self.progress.failed

    async def rows(self, prompts: Iterator[Any]) -> AsyncIterator[BatchRow]:
        """The rows in order; at most a window of them is held."""
        waiting: list[asyncio.Task[BatchRow]] = []
        is_first, index, has_more = True, 0, True
        while True:
            while has_more and len(waiting) < self.brake.most * _AHEAD and self.over is None:
                if index == self.first and waiting:
                    break
                try:
                    prompt = next(prompts)
                except StopIteration:
                    has_more = False
                    break
                task = asyncio.create_task(self._row(index, prompt, goes_first=is_first))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                waiting.append(task)
                index, is_first = index + 1, False
            if not waiting:
                break
            row = await waiting.pop(0)
            yield row
        if self.over is not None:
            raise self.over

    @property
    def key_of(self) -> Callable[[GenerationRequest], str]:
        """What tells a request from others."""
        return self.model.key_of if isinstance(self.model, SpreadModel) else request_key

    async def _key(self, request: GenerationRequest) -> str:
        """What is read of a model's file may take time; without one a thread would take more."""
        if request.model.path is None:
            return self.key_of(request)
        return await asyncio.to_thread(self.key_of, request)

    async def aclose(self) -> None:
        """End what still runs."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def check_failures(self, most: float) -> None:
        """Raise ``BatchError`` where so many rows failed that the rest is better not asked."""
        if self.over is not None:
            raise self.over
        done, failed = self.progress.done, self.progress.failed
        if done >= _FEWEST_FOR_SHARE and failed > most * done:
            raise BatchError(
                f"stopped after {done:,} rows, because {failed:,} of them failed: "
                f"{grouped_reasons(self.progress.reasons)}"
            )

    async def _row(self, index: int, prompt: Any, *, goes_first: bool) -> BatchRow:
        current_run.set(self.mark)  # in this row's task alone
        try:
            if isinstance(prompt, BatchRow):  # a row that could not be made a prompt of
                return replace(prompt, index=index)
            request = self.request(prompt)
            key = await self._key(request)
            if self.journal is not None:
                key = self.journal.key(key)
                kept = kept_row(self.journal, key, request, retry_failed=self.retry_failed)
                if kept is not None:
                    return replace(kept, index=index)
            return await self._once(index, key, request, goes_first=goes_first)
        except InvalidOptionError as error:
            return BatchRow(index=index, error=error_words(error))
        finally:
            if goes_first:
                self.begun.set()
                self.priced.set()

    async def _once(
        self, index: int, key: str, request: GenerationRequest, *, goes_first: bool
    ) -> BatchRow:
        """Ask, or wait for an equal row that is being asked."""
        if not is_deterministic(request.options):
            return await self._ask(index, key, request, goes_first=goes_first)
        first = self.equal.get(key)
        if first is not None:
            row = await asyncio.shield(first)
            return replace(row, index=index, repeated=True)
        future = self.equal[key] = asyncio.get_running_loop().create_future()
        try:
            row = await self._ask(index, key, request, goes_first=goes_first)
        except BaseException:
            future.cancel()
            raise
        if row.error:
            del self.equal[key]
        future.set_result(row)
        return row

    @property
    def reads_once(self) -> bool:
        """Whether what the rows begin with is kept by the first; a spread model sees to it."""
        return kind_of(self.model.info).keeps_prefixes and not isinstance(self.model, SpreadModel)

    async def _ask(
        self, index: int, key: str, request: GenerationRequest, *, goes_first: bool
    ) -> BatchRow:
        if not goes_first and self.reads_once:
            await self.begun.wait()
        if not goes_first and self.limits.exist:
            await self.priced.wait()  # what an answer takes is known by the first
        attempts = 0
        settled = self.settled
        while True:
            try:
                async with self.brake:
                    settled = self.settled
                    result = await self._result(request)
            except (RateLimitError, OverloadedError) as error:
                attempts += 1
                delay = getattr(error, "retry_after_seconds", None)
                await self.brake.slow_down(_RESTING_SECONDS if delay is None else delay)
                if attempts < _MOST_RATE_LIMITS:
                    continue
                return self._failed(index, key, error)
            except BudgetError as error:
                if await self._may_have_room(error, settled):
                    continue
                return BatchRow(index=index, error=error_words(error))
            except NbllmError as error:
                if isinstance(error, BatchError):
                    self.over = self.over or error
                if isinstance(error, _HOPELESS):
                    self.over = BatchError(f"stopped, because every row would fail: {error}")
                return self._failed(index, key, error)
            await self.brake.went_well()
            if self.journal is not None:
                self.journal.add(key, Entry.of(result))
            return BatchRow(index=index, result=result)

    async def _may_have_room(self, error: BudgetError, settled: asyncio.Event) -> bool:
        """Wait for what others reserved and do not take; the run is over where there are none.

        So everything that was asked is kept by then. ``settled`` is set once another request has
        ended since this one was sent.
        """
        if self.progress.running or settled.is_set():
            await settled.wait()
        elif self.over is None:
            kept = f" What is finished is kept in {self.journal.path}." if self.journal else ""
            self.over = BatchError(f"stopped, as a budget allows no more: {error}{kept}")
            self._wake()
        return self.over is None

    def _wake(self) -> None:
        """Let those go on that wait for room in a budget."""
        self.settled.set()
        self.settled = asyncio.Event()

    def _failed(self, index: int, key: str, error: NbllmError) -> BatchRow:
        words = error_words(error)
        if self.journal is not None and not isinstance(error, BatchError):
            self.journal.add(key, Entry(error=words))
        return BatchRow(index=index, error=words)

    async def _result(self, request: GenerationRequest) -> GenerationResult:
        """One answer. Raises what the model does, and ``BatchError`` at a limit."""
        self._reserve()
        self.progress.asked += 1
        self.progress.running += 1
        usage, is_refused = Usage(), False
        try:
            async with aclosing(self.model.stream_request(request)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        self.begun.set()
                    elif isinstance(event, RetryScheduled):
                        await self.brake.slow_down(event.delay_seconds)
                    elif isinstance(event, Completed):
                        usage = event.result.usage
                        return event.result
        except BudgetError:
            is_refused = True
            self.progress.asked -= 1
            raise
        finally:
            self.progress.running -= 1
            self.limits.settle(usage)
            if not is_refused:
                self._wake()
        raise BatchError("a stream ended without a result; this is a bug in nbllm")

    def _reserve(self) -> None:
        try:
            self.limits.reserve()
        except BatchError as error:
            self.over = error
            raise
