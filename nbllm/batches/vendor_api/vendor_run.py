"""Many prompts as batches of the vendor's: sent, waited for, read, matched by their keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbllm.batches.batch_rows import BatchProgress, BatchRow
from nbllm.batches.journal import Journal
from nbllm.batches.vendor_api.failures import may_pass
from nbllm.batches.vendor_api.rows import Rows
from nbllm.batches.vendor_api.sender import Sender, parts_of
from nbllm.batches.vendor_api.sent_batches import SentBatch, SentBatches
from nbllm.batches.vendor_api.watch import LONGEST_PAUSE, Watch, brief
from nbllm.core.caching.request_key import request_key
from nbllm.core.errors import (
    BatchError,
    InvalidOptionError,
    ModelError,
    NbllmError,
    NotFoundError,
)
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_names import option_name
from nbllm.core.options import GenerationOptions
from nbllm.core.runs import Run, VendorBatch, VendorBatches, VendorOutcome, VendorRow, stopper
from nbllm.core.types import GenerationRequest, Usage

__all__ = ["default_journal", "run_vendor_batch"]

_MOST_ATTEMPTS = 6
_MOST_OF_A_PROBLEM = 400
_UNBOUNDED = (
    "nothing was sent: what {model} may cost is not known, so that {max_cost} cannot hold. Set "
    "{max_tokens}, and add its price to the table that NBLLM_PRICES names if it has none."
)
_FIRST_DELAY = 1.0


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
    max_cost: float | None = None,
    title: str = "",
    cancelled: Callable[[], bool] = lambda: False,
    progress: BatchProgress,
    on_state: Callable[[], None] = lambda: None,
) -> AsyncIterator[BatchRow]:
    """Ask ``model`` every prompt by its vendor's batch API; the rows come in order, at the end.

    Rows that the journal has, or that an earlier run has sent, are not sent again: that run's
    batches are waited for. So an end of this process ends no batch, and the same run takes it up.
    Once ``cancelled`` is true nothing more is sent, and what is under way is cancelled; what is
    done by then is paid and kept. Rows that failed, expired or were cancelled are sent again by
    the next run, unless ``retry_failed`` is off. ``on_state`` is called when
    ``progress.vendor_state`` changes. What is sent is reserved in the model's budgets, and settled
    when its batch is over.

    ``title`` names the run where it is listed; whoever stops it there, or cancels the task, leaves
    the vendor working.

    Raises ``UnsupportedError`` for a model without a batch API, and ``BatchError`` where the vendor
    refuses everything or cannot be reached; what it has taken goes on. Also, before anything is
    sent, where what is to be sent could cost more than ``max_cost`` (US dollars).
    """
    api = model.vendor_batches()
    work = Rows(
        journal=journal,
        retry_failed=retry_failed,
        request=lambda prompt: model.request(prompt, system=system, options=options, schema=schema),
    )
    sent, watch = SentBatches(journal), Watch(api, progress, on_state, cancelled)
    run = _VendorRun(
        model, api, journal, sent, work, progress, watch, Sender(api, sent, watch), max_cost
    )
    mark = Run(title or model.name, progress.total, stop=stopper())
    await asyncio.to_thread(work.collect, prompts)
    with model.working_on(mark) as work.on_end:
        await run.settle()
        for row in work.in_order():
            progress.note(row)
            mark.done, mark.failed = progress.done, progress.failed
            yield row


@dataclass(slots=True)
class _VendorRun:
    model: ModelInterface
    api: VendorBatches
    journal: Journal
    sent: SentBatches
    work: Rows
    progress: BatchProgress
    watch: Watch
    sender: Sender
    max_cost: float | None
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

    async def _send_rest(self, under_way: set[str]) -> list[SentBatch]:
        """Send what is wanted and not under way, in as many batches as the vendor needs."""
        rows = await asyncio.to_thread(self._rows, under_way)
        await self._check_cost(rows)
        batches = []
        for part in parts_of(rows, self.api.most_rows, self.api.most_bytes):
            if self.watch.cancelled():
                break
            batch = self.sent.begin([row.key for row in part])
            self.watch.tell(batch.tag, f"{self.api.vendor}: sending {len(part):,} rows")
            try:
                requests = [self.work.requests[row.key] for row in part]
                await self.model.reserve_batch(batch.tag, requests)
                batches.append(await self.sender.send(batch, part))
            except ModelError as error:  # a budget or the vendor has refused it
                await self._end_batch(batch, ())
                self.refusals.append(error)
            self.watch.tell(batch.tag, "")
        return batches

    async def _taken_up(self, batch: SentBatch) -> SentBatch | None:
        found = await self.sender.taken_up(batch)
        if found is None:
            await self._end_batch(batch, ())
        return found

    async def _end_batch(self, batch: SentBatch, usages: Sequence[Usage]) -> None:
        await self.model.settle_batch(batch.tag, usages)
        self.sent.over(batch)

    async def _check_cost(self, rows: Sequence[VendorRow]) -> None:
        """Raises ``BatchError`` where the rows could cost more than they may."""
        if self.max_cost is None or not rows:
            return
        cost = 0.0
        for row in rows:
            usage = await self.model.usage_bound(self.work.requests[row.key])
            most = None if usage.completion_tokens is None else self.model.highest_cost(usage)
            if most is None:
                names = {name: option_name(name) for name in ("max_cost", "max_tokens")}
                raise BatchError(_UNBOUNDED.format(model=self.model.name, **names))
            cost += most / 2
            await asyncio.sleep(0)
        if cost > self.max_cost:
            limit, each = option_name("max_cost"), option_name("max_tokens")
            raise BatchError(
                f"nothing was sent: {len(rows):,} rows could cost up to {cost:.4g} US dollars, "
                f"which is more than {limit} ({self.max_cost:g}): every byte may be a token, and "
                f"every answer as long as {each}. Raise {limit}, lower {each}, or send fewer rows."
            )

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

    async def _finish(self, batch: SentBatch) -> None:
        """Wait for a batch, and keep what became of its rows."""
        found = await self.watch.until_over(batch.id, batch)
        missing = f"it is not among the results of the batch {batch.id} ({brief(found.state)})"
        if found.problem:
            problem = brief(found.problem, _MOST_OF_A_PROBLEM)
            missing = f"{self.api.vendor} did not accept the batch {batch.id}: {problem}"
        else:
            missing = await self._read(found) or missing
        for key in batch.keys:
            if key not in self.work.ended:
                self.work.end(key, BatchError(missing))
        self.watch.tell(batch.tag, "")
        if all(key in self.work.ended or key in self.journal.entries for key in batch.keys):
            await self._end_batch(batch, self.work.usages(batch.keys))

    async def _read(self, batch: VendorBatch) -> str:
        """Keep what became of the rows; a connection that breaks is opened again.

        Returns why nothing can be read, "" where it could.
        """
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                async with aclosing(self.api.outcomes(batch)) as outcomes:
                    async for outcome in outcomes:
                        self._end(outcome)
                        await asyncio.sleep(0)  # which lets others run: there may be very many
                return ""
            except NotFoundError as error:
                return f"the results of {batch.id} are not kept any more: {error}"
            except ModelError as error:
                if not may_pass(error) or attempt == _MOST_ATTEMPTS:
                    raise self.watch.left(batch.id, error) from None
            await asyncio.sleep(min(_FIRST_DELAY * 2.0 ** (attempt - 1), LONGEST_PAUSE))
        return ""

    def _end(self, outcome: VendorOutcome) -> None:
        request = self.work.requests.get(outcome.key)
        if request is None:  # a row of another run, or an id that was never sent
            return
        try:
            self.work.end(outcome.key, self.api.result(request, outcome))
        except (ModelError, BatchError) as error:
            self.work.end(outcome.key, error)


async def _all_of(works: Iterable[Any]) -> None:
    """Wait for all; the first failure is raised when the others have ended too."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
