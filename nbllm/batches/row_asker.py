"""How one row of a run gets its answer: kept, equal to another, or asked within the limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from nbllm.batches.batch_rows import BatchProgress, BatchRow, error_words, kept_row
from nbllm.batches.brake import Brake
from nbllm.batches.journal import Journal
from nbllm.batches.journal_rows import Entry
from nbllm.batches.limits import LimitReachedError, Limits
from nbllm.batches.spread import SpreadModel
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
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.results import GenerationResult
from nbllm.core.runs import Run, current_run
from nbllm.core.types import Completed, GenerationRequest, RetryScheduled, TextDelta

__all__ = ["RowAsker"]

_RESTING_SECONDS = 5.0
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


@dataclass(slots=True, kw_only=True)
class RowAsker:
    """Asks the rows of one run, each in a task of its own.

    ``over`` is why the run has ended, where it has: rows that are under way by then are finished,
    since they are paid for, and no other is asked.
    """

    model: ModelInterface
    brake: Brake
    journal: Journal | None
    retry_failed: bool
    limits: Limits
    mark: Run
    progress: BatchProgress
    request: Callable[[Any], GenerationRequest]
    equal: dict[str, asyncio.Future[BatchRow | None]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    held: set[asyncio.Task[Any]] = field(default_factory=set)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    pricing: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: BatchError | None = None

    def end(self, error: BatchError) -> None:
        """Send no more rows; those that wait for their turn are given up."""
        self.over = self.over or error
        for task in self.held:
            task.cancel()

    async def row(self, index: int, prompt: Any, *, goes_first: bool) -> BatchRow | None:
        """The row as it ended; None where the run was over before it was asked."""
        current_run.set(self.mark)  # in this row's task alone
        try:
            if isinstance(prompt, BatchRow):  # a row that could not be made a prompt of
                return replace(prompt, index=index)
            request = self._request(prompt)
            key = await self._key(request)
            if self.journal is not None:
                key = await self._own(self.journal, key, request)
                kept = kept_row(self.journal, key, request, retry_failed=self.retry_failed)
                if kept is not None:
                    self.limits.learn(kept.result)
                    return replace(kept, index=index)
            return await self._once(index, key, request, goes_first=goes_first)
        except NbllmError as error:
            return BatchRow(index=index, error=error_words(error))
        finally:
            if goes_first:
                self.begun.set()

    def _request(self, prompt: Any) -> GenerationRequest:
        try:
            return self.request(prompt)
        except NbllmError:
            raise
        except Exception as error:  # an object of the user's may raise anything
            raise InvalidOptionError("prompt", f"cannot be read: {error_words(error)}") from error

    @property
    def _key_of(self) -> Callable[[GenerationRequest, int], str]:
        """What tells a request from others."""
        return self.model.key_of if isinstance(self.model, SpreadModel) else request_key

    async def _key(self, request: GenerationRequest, sample: int = 0) -> str:
        """What is read of a model's file may take time; without one a thread would take more."""
        if request.model.path is None:
            return self._key_of(request, sample)
        return await asyncio.to_thread(self._key_of, request, sample)

    async def _own(self, journal: Journal, identity: str, request: GenerationRequest) -> str:
        """The row's key in the journal; equal rows whose answers may differ are told apart."""
        key = journal.key(identity)
        if is_deterministic(request.options):
            return key
        sample = self.seen[key]
        self.seen[key] += 1
        return journal.key(await self._key(request, sample)) if sample else key

    async def _once(
        self, index: int, key: str, request: GenerationRequest, *, goes_first: bool
    ) -> BatchRow | None:
        """Ask, or wait for an equal row that is being asked."""
        if not is_deterministic(request.options):
            return await self._ask(index, key, request, goes_first=goes_first)
        first = self.equal.get(key)
        if first is not None:
            row = await asyncio.shield(first)
            return row and replace(row, index=index, repeated=True)
        future = self.equal[key] = asyncio.get_running_loop().create_future()
        try:
            row = await self._ask(index, key, request, goes_first=goes_first)
        except BaseException:
            future.cancel()
            raise
        if row is None or row.error:
            del self.equal[key]
        future.set_result(row)
        return row

    @property
    def _reads_once(self) -> bool:
        """Whether what the rows begin with is kept by the first; a spread model sees to it."""
        return kind_of(self.model.info).keeps_prefixes and not isinstance(self.model, SpreadModel)

    async def _ask(
        self, index: int, key: str, request: GenerationRequest, *, goes_first: bool
    ) -> BatchRow | None:
        try:
            if not goes_first and self._reads_once:
                with self._held():
                    await self.begun.wait()
            if not self.limits.are_known:
                async with self._alone():  # what an answer takes is known by the first
                    if not self.limits.are_known:
                        return await self._attempts(index, key, request)
            return await self._attempts(index, key, request)
        except asyncio.CancelledError:
            if self.over is None:
                raise
            return None

    @contextmanager
    def _held(self) -> Iterator[None]:
        """What is done within is waiting; the row is given up where the run is over."""
        if self.over is not None:
            raise asyncio.CancelledError
        if (task := asyncio.current_task()) is None:
            raise RuntimeError("rows are asked in tasks")
        self.held.add(task)
        try:
            yield
        finally:
            self.held.discard(task)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        with self._held():
            await self.pricing.acquire()
        try:
            yield
        finally:
            self.pricing.release()

    @asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        with self._held():
            await self.brake.acquire()
        try:
            yield
        finally:
            self.brake.release()

    async def _attempts(self, index: int, key: str, request: GenerationRequest) -> BatchRow | None:
        """Ask until there is an answer, or an error against which asking again does not help."""
        refusals = 0
        while self.over is None:
            settled = self.settled
            try:
                async with self._under_way():
                    settled = self.settled
                    if self.over is not None:
                        return None
                    result = await self._result(request)
            except (RateLimitError, OverloadedError) as error:
                refusals += 1
                delay = getattr(error, "retry_after_seconds", None)
                self.brake.slow_down(_RESTING_SECONDS if delay is None else delay)
                if refusals == _MOST_RATE_LIMITS:
                    return self._failed(index, key, error)
            except LimitReachedError as error:
                await self._until_room(str(error), settled)
            except BudgetError as error:
                kept = self.journal and f" What is finished is kept in {self.journal.path}."
                words = f"stopped, as a budget allows no more: {error}{kept or ''}"
                await self._until_room(words, settled)
            except BatchError as error:  # nobody is left who could answer
                self.end(error)
            except NbllmError as error:
                if isinstance(error, _HOPELESS):
                    self.end(BatchError(f"stopped, because every row would fail: {error}"))
                return self._failed(index, key, error)
            else:
                self.brake.went_well()
                self._keep(key, Entry.of(result))
                return BatchRow(index=index, result=result)
        return None

    async def _until_room(self, words: str, settled: asyncio.Event) -> None:
        """Wait for what others reserved and do not take; the run is over where there are none.

        ``settled`` is set once another request has ended since this one was to be sent.
        """
        if not self.progress.running and not settled.is_set():
            self.end(BatchError(words))
        else:
            with self._held():
                await settled.wait()

    def _failed(self, index: int, key: str, error: NbllmError) -> BatchRow:
        words = error_words(error)
        self._keep(key, Entry(error=words))
        return BatchRow(index=index, error=words)

    def _keep(self, key: str, entry: Entry) -> None:
        """Note a row in the journal. It has its answer also where the disk refuses that."""
        if self.journal is not None:
            try:
                self.journal.add(key, entry)
            except BatchError as error:
                self.end(error)

    async def _result(self, request: GenerationRequest) -> GenerationResult:
        """One answer. Raises what the model does, and ``LimitReachedError``."""
        self.limits.reserve()
        self.progress.asked += 1
        self.progress.running += 1
        result, is_refused = None, False
        try:
            result = await self._completed(request)
        except BudgetError:
            is_refused = True
            self.progress.asked -= 1
            raise
        finally:
            self.progress.running -= 1
            self.limits.settle(result)
            if not is_refused:
                self.settled.set()
                self.settled = asyncio.Event()
        return result

    async def _completed(self, request: GenerationRequest) -> GenerationResult:
        async with aclosing(self.model.stream_request(request)) as events:
            with ExitStack() as resting:
                async for event in events:
                    resting.close()
                    match event:
                        case TextDelta():
                            self.begun.set()
                        case RetryScheduled(delay_seconds=seconds):
                            resting.enter_context(self._held())
                            self.brake.slow_down(seconds)
                        case Completed(result=result):
                            return result
        raise BatchError("a stream ended without a result; this is a bug in nbllm")
