"""Many prompts as batches of the vendor's: sent, waited for, read, matched by their keys."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from nbllm.batches.journal import Entry, Journal
from nbllm.batches.run import BatchProgress, BatchRow, error_words, kept_row
from nbllm.batches.vendor_api.sent_batches import SentBatch, SentBatches
from nbllm.core.caching.request_key import is_deterministic, request_key
from nbllm.core.errors import (
    ApiError,
    AuthenticationError,
    BatchError,
    ContextLengthError,
    InvalidOptionError,
    ModelError,
    NbllmError,
    NotFoundError,
    UnsupportedError,
)
from nbllm.core.model_interface import ModelInterface
from nbllm.core.options import GenerationOptions
from nbllm.core.results import GenerationResult
from nbllm.core.types import GenerationRequest
from nbllm.core.vendor_batches import VendorBatch, VendorBatches, VendorOutcome, VendorRow

__all__ = ["default_journal", "run_vendor_batch"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_SILENCE_SECONDS = 1_800.0
"""So long the vendor may be out of reach before a run ends; the batch goes on meanwhile."""
_LOOKS, _LOOK_PAUSE = 3, 1.0
"""A batch that was sent in the moment of a failure may be listed a little later."""
_MOST_ATTEMPTS = 6
_EARLIER = 600.0
"""By so many seconds the vendor's clock may be behind this one."""
_UNCLEAR = (408, 409, 499)
"""Statuses in the range of refusals after which a request may have been carried out."""
_KEPT_SECONDS = 28 * 86_400.0
"""The vendors keep batches for at least so long; one that is not found then was not lost there."""


def default_journal(request: GenerationRequest) -> Path:
    """Where a run is kept that names no journal: in the working directory, which is the notebook's.

    The file is another one for another model, other options or another system prompt.
    """
    return Path.cwd() / f"nbllm-batch-{request_key(request)[:12]}.jsonl"


async def run_vendor_batch(
    model: ModelInterface,
    prompts: Iterable[Any],
    *,
    journal: Journal,
    system: str | None = None,
    options: GenerationOptions | None = None,
    schema: Any = None,
    retry_failed: bool = True,
    cancelled: Callable[[], bool] = lambda: False,
    progress: BatchProgress,
    on_state: Callable[[], None] = lambda: None,
) -> AsyncIterator[BatchRow]:
    """Ask ``model`` every prompt by its vendor's batch API; the rows come in order, at the end.

    Rows that the journal has, or that an earlier run has sent, are not sent again: that run's
    batches are waited for. So an end of this process ends no batch, and the same run takes it up.
    Once ``cancelled`` is true nothing more is sent, and what is under way is cancelled; what is
    done by then is paid and kept. Rows that failed, expired or were cancelled are sent again by
    the next run, unless ``retry_failed`` is off. ``on_state`` is called whenever ``progress.vendor_state`` changes.

    Raises ``UnsupportedError`` for a model without a batch API, and ``BatchError`` where the vendor
    refuses everything or cannot be reached; what it has taken goes on.
    """
    api = model.vendor_batches()
    work = _Work(
        journal=journal,
        retry_failed=retry_failed,
        request=lambda prompt: model.request(prompt, system=system, options=options, schema=schema),
    )
    run = _VendorRun(api, journal, SentBatches(journal), work, progress, on_state, cancelled)
    await asyncio.to_thread(work.collect, prompts)
    await run.settle()
    for row in work.rows():
        progress.note(row)
        yield row


@dataclass(slots=True)
class _Work:
    """The rows of a run: those that are known already, and the keys of those that are wanted."""

    journal: Journal
    retry_failed: bool
    request: Callable[[Any], GenerationRequest]
    given: list[BatchRow | str] = field(default_factory=list)
    requests: dict[str, GenerationRequest] = field(default_factory=dict)
    ended: dict[str, BatchRow] = field(default_factory=dict)

    def collect(self, prompts: Iterable[Any]) -> None:
        """Read all prompts."""
        seen: dict[str, int] = {}
        self.given = [self._given(prompt, seen) for prompt in prompts]

    def _given(self, prompt: Any, seen: dict[str, int]) -> BatchRow | str:
        if isinstance(prompt, BatchRow):  # a row that could not be made a prompt of
            return prompt
        try:
            request = self.request(prompt)
        except InvalidOptionError as error:
            return BatchRow(index=0, error=error_words(error))
        key = request_key(request)
        sample = 0 if is_deterministic(request.options) else seen.get(key, 0)
        seen[key] = sample + 1
        own = request_key(request, sample) if sample else key
        for known in dict.fromkeys((own, key)):
            kept = kept_row(self.journal, known, request, retry_failed=self.retry_failed)
            if kept is not None:
                return kept
        self.requests.setdefault(own, request)
        return own

    def wanted(self) -> list[str]:
        """The keys that have no end yet."""
        return [key for key in self.requests if key not in self.ended]

    def end(self, key: str, found: GenerationResult | NbllmError, *, is_kept: bool = True) -> None:
        """Keep what became of a row; an answer is never replaced by a failure."""
        known = self.ended.get(key)
        if key not in self.requests or (known is not None and not known.error):
            return
        if isinstance(found, GenerationResult):
            entry, row = Entry.of(key, found), BatchRow(index=0, result=found)
        else:
            entry = Entry(key=key, error=error_words(found))
            row = BatchRow(index=0, error=entry.error)
        if is_kept and known != row:
            self.journal.add(entry)
        self.ended[key] = row

    def rows(self) -> Iterable[BatchRow]:
        """All rows in their order."""
        told: set[str] = set()
        for index, given in enumerate(self.given):
            if isinstance(given, BatchRow):
                yield replace(given, index=index)
            else:
                yield replace(self.ended[given], index=index, repeated=given in told)
                told.add(given)


@dataclass(slots=True)
class _VendorRun:
    api: VendorBatches
    journal: Journal
    sent: SentBatches
    work: _Work
    progress: BatchProgress
    on_state: Callable[[], None]
    cancelled: Callable[[], bool]
    states: dict[str, str] = field(default_factory=dict)
    refusals: list[NbllmError] = field(default_factory=list)

    async def settle(self) -> None:
        """Bring every row to an end."""
        wanted = set(self.work.wanted())
        under_way = [batch for batch in self.sent.open() if not wanted.isdisjoint(batch.keys)]
        named = [await self._taken_up(batch) for batch in under_way]
        batches = [batch for batch in named if batch is not None]
        batches += await self._send_rest({key for each in batches for key in each.keys})
        if self.refusals and not batches and not self.work.ended:
            raise BatchError(f"nothing could be sent: {self.refusals[0]}")
        self.progress.asked = self.progress.running = sum(len(each.keys) for each in batches)
        await _all_of([self._finish(batch) for batch in batches])
        self.progress.running = 0
        reason = self.refusals[0] if self.refusals else BatchError("it was not sent to the vendor")
        for key in self.work.wanted():
            self.work.end(key, reason, is_kept=False)

    # ------------------------------------------------------------ sending

    async def _send_rest(self, under_way: set[str]) -> list[SentBatch]:
        """Send what is wanted and not under way, in as many batches as the vendor needs."""
        rows = await asyncio.to_thread(self._rows, under_way)
        batches = []
        for part in _parts(rows, self.api.most_rows, self.api.most_bytes):
            if self.cancelled():
                break
            batch = self.sent.begin([row.key for row in part])
            self._tell(batch.tag, f"{self.api.vendor}: sending {len(part):,} rows")
            try:
                batches.append(await self._send(batch, part))
            except ModelError as error:  # the vendor has refused it
                self.sent.over(batch)
                self.refusals.append(error)
            self._tell(batch.tag, "")
        return batches

    def _rows(self, under_way: set[str]) -> list[VendorRow]:
        rows = []
        for key in self.work.wanted():
            if key in under_way:
                continue
            try:
                rows.append(self._row(key))
            except (InvalidOptionError, ModelError) as error:
                self.work.end(key, error, is_kept=False)
        return rows

    def _row(self, key: str) -> VendorRow:
        row = self.api.row(key, self.work.requests[key])
        if len(row.data) >= self.api.most_bytes:
            raise InvalidOptionError(
                "prompt",
                f"is too large for a batch: {len(row.data):,} bytes of {self.api.most_bytes:,}",
            )
        return row

    async def _send(self, batch: SentBatch, rows: Sequence[VendorRow]) -> SentBatch:
        """Create the batch; whatever happens, it is not created twice.

        Raises the ``ModelError`` with which the vendor refuses it, and ``BatchError`` where it
        remains unclear whether it arrived.
        """
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                return self.sent.named(batch, (await self.api.create(batch.tag, rows)).id)
            except ModelError as error:
                failure = error
            if not _is_refusal(failure) and (found := await self._looked_for(batch, failure)):
                return self.sent.named(batch, found.id)
            if not _may_pass(failure) or attempt == _MOST_ATTEMPTS:
                break
            await asyncio.sleep(_delay(failure, attempt))
        raise failure if _is_refusal(failure) else self._unclear(failure)

    async def _looked_for(self, batch: SentBatch, failure: ModelError) -> VendorBatch | None:
        """The batch that may have arrived in spite of a failure."""
        try:
            return await self._found(batch)
        except ModelError:
            pass
        raise self._unclear(failure)

    def _unclear(self, failure: ModelError) -> BatchError:
        return BatchError(
            f"it is unclear whether {self.api.vendor} has the batch: {failure} Run the same again "
            "to find out; nothing is sent twice."
        )

    async def _taken_up(self, batch: SentBatch) -> SentBatch | None:
        """The batch of an earlier run with its id; None where it has not reached the vendor."""
        if batch.id:
            return batch
        self._tell(batch.tag, f"{self.api.vendor}: looking for a batch that was being sent")
        try:
            found = await self._found(batch)
        except ModelError as error:
            raise BatchError(
                f"it cannot be found out whether {self.api.vendor} has a batch of these rows "
                f"already: {error}"
            ) from None
        self._tell(batch.tag, "")
        if found is None:
            self.sent.over(batch)
            return None
        return self.sent.named(batch, found.id)

    async def _found(self, batch: SentBatch) -> VendorBatch | None:
        """The batch among those that the vendor has."""
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_LOOK_PAUSE)
            for found in await self.api.created_since(batch.since - _EARLIER):
                if await self._is(found, batch):
                    return found
        return None

    async def _is(self, found: VendorBatch, batch: SentBatch) -> bool:
        """Whether the two are one; where the vendor keeps no tags, its results tell."""
        if self.api.has_tags:
            return found.tag == batch.tag
        if found.id in self.sent.ids or found.total != len(batch.keys):
            return False
        waited = await self._waited(found.id, batch)
        keys = set(batch.keys)
        async with aclosing(self.api.outcomes(waited)) as outcomes:
            async for outcome in outcomes:
                return outcome.key in keys
        return False

    # ------------------------------------------------------------ waiting and reading

    async def _finish(self, batch: SentBatch) -> None:
        """Wait for a batch, and keep what became of its rows."""
        found = await self._waited(batch.id, batch)
        if found.problem:
            failure = f"{self.api.vendor} did not accept the batch {batch.id}: {found.problem}"
            for key in batch.keys:
                self.work.end(key, BatchError(failure))
        else:
            await self._read(found)
        missing = f"it is not among the results of the batch {batch.id} ({found.state})"
        for key in batch.keys:
            if key not in self.work.ended:
                self.work.end(key, BatchError(missing))
        if all(key in self.work.ended or key in self.journal.entries for key in batch.keys):
            self.sent.over(batch)

    async def _waited(self, batch_id: str, batch: SentBatch) -> VendorBatch:
        """The batch when it is over; meanwhile its state is told."""
        pause, heard, is_cancelled = _FIRST_PAUSE, time.monotonic(), False
        while True:
            if self.cancelled() and not is_cancelled:
                is_cancelled, pause = True, _FIRST_PAUSE
                await self._cancel(batch_id)
            try:
                found = await self.api.get(batch_id)
            except ModelError as error:
                if (gone := self._gone(batch_id, batch, error)) is not None:
                    return gone
                if not _may_pass(error) or time.monotonic() - heard > _SILENCE_SECONDS:
                    raise self._left(batch_id, error) from None
                self._tell(batch.tag, f"{self.api.vendor} {batch_id}: no answer ({error})")
            else:
                heard = time.monotonic()
                self._tell(batch.tag, self._state(found, batch))
                if found.is_over:
                    return found
            await self._rest(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    async def _rest(self, seconds: float) -> None:
        """Wait, but not for long once the run is cancelled."""
        was_cancelled = self.cancelled()
        for _ in range(math.ceil(seconds)):
            await asyncio.sleep(min(seconds, 1.0))
            if self.cancelled() != was_cancelled:
                return

    async def _cancel(self, batch_id: str) -> None:
        """Ask the vendor to cancel; one that refuses, because the batch is over, is no failure."""
        try:
            await self.api.cancel(batch_id)
        except ModelError as error:
            if not _is_refusal(error):
                raise BatchError(f"the batch {batch_id} could not be cancelled: {error}") from None

    def _gone(self, batch_id: str, batch: SentBatch, error: ModelError) -> VendorBatch | None:
        """A batch that its vendor has deleted by now, as one that failed."""
        if not isinstance(error, NotFoundError) or time.time() - batch.since < _KEPT_SECONDS:
            return None
        problem = "the vendor does not keep it any more"
        return VendorBatch(id=batch_id, state="deleted", is_over=True, problem=problem)

    def _left(self, batch_id: str, error: ModelError) -> BatchError:
        return BatchError(
            f"the batch {batch_id} could not be looked up: {error} It goes on at "
            f"{self.api.vendor}; run the same again, with the key that it was sent with, to take "
            "it up."
        )

    async def _read(self, batch: VendorBatch) -> None:
        """Keep what became of the rows; a connection that breaks is opened again."""
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                async with aclosing(self.api.outcomes(batch)) as outcomes:
                    async for outcome in outcomes:
                        self._end(outcome)
                return
            except ModelError as error:
                if not _may_pass(error) or attempt == _MOST_ATTEMPTS:
                    raise self._left(batch.id, error) from None
            await asyncio.sleep(min(0.5 * 2.0**attempt, _LONGEST_PAUSE))

    def _end(self, outcome: VendorOutcome) -> None:
        request = self.work.requests.get(outcome.key)
        if request is None:  # a row of another run, or an id that was never sent
            return
        try:
            self.work.end(outcome.key, self.api.result(request, outcome))
        except (ModelError, BatchError) as error:
            self.work.end(outcome.key, error)

    # ------------------------------------------------------------ telling

    def _state(self, found: VendorBatch, batch: SentBatch) -> str:
        since = time.strftime("%H:%M", time.localtime(found.created or batch.since))
        failed = f", {found.failed:,} failed" if found.failed else ""
        return (
            f"{self.api.vendor} {found.id}: {found.state}, "
            f"{found.done:,} of {len(batch.keys):,} rows done{failed}, since {since}"
        )

    def _tell(self, tag: str, state: str) -> None:
        if state:
            self.states[tag] = state
        else:
            self.states.pop(tag, None)
        told = "; ".join(self.states.values())
        if told != self.progress.vendor_state:
            self.progress.vendor_state = told
            self.on_state()


def _is_refusal(error: ModelError) -> bool:
    """Whether a request has certainly not been carried out."""
    if isinstance(error, AuthenticationError | ContextLengthError | UnsupportedError):
        return True
    status = error.status if isinstance(error, ApiError) else None
    return status is not None and 400 <= status < 500 and status not in _UNCLEAR


def _delay(error: ModelError, attempt: int) -> float:
    told = error.retry_after_seconds if isinstance(error, ApiError) else None
    return min(2.0**attempt, _LONGEST_PAUSE) if told is None else told


def _may_pass(error: ModelError) -> bool:
    return isinstance(error, ApiError) and error.retryable


def _parts(rows: Iterable[VendorRow], most_rows: int, most_bytes: int) -> Iterable[list[VendorRow]]:
    """The rows in batches of one group each, none of them larger than the vendor takes."""
    for _, group in groupby(sorted(rows, key=_group), key=_group):
        part: list[VendorRow] = []
        size = 0
        for row in group:
            if part and (len(part) == most_rows or size + len(row.data) + 1 > most_bytes):
                yield part
                part, size = [], 0
            part.append(row)
            size += len(row.data) + 1
        yield part


def _group(row: VendorRow) -> str:
    return row.group


async def _all_of(works: Iterable[Any]) -> None:
    """Wait for all; the first failure is raised when the others have ended too."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
