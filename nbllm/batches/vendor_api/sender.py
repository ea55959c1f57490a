"""Sending rows to a vendor as batches, each of them once, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import groupby

from nbllm.batches.vendor_api.failures import is_refusal, may_pass
from nbllm.batches.vendor_api.sent_batches import SentBatch, SentBatches
from nbllm.batches.vendor_api.watch import LONGEST_PAUSE, Watch
from nbllm.core.errors import ApiError, ApiTimeoutError, BatchError, ModelError, NotFoundError
from nbllm.core.runs import VendorBatch, VendorBatches, VendorRow

__all__ = ["Sender", "parts_of"]

_MOST_ATTEMPTS = 6
_FIRST_DELAY = 2.0
_LONGEST_DELAY = 600.0
_LOOKS, _LOOK_PAUSE = 4, 2.0
"""A batch that was sent in the moment of a failure may be listed a little later."""
_EARLIER = 600.0
"""By so many seconds the vendor's clock may be behind this one."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends the batches that ``sent`` notes."""

    api: VendorBatches
    sent: SentBatches
    watch: Watch

    async def send(self, batch: SentBatch, rows: Sequence[VendorRow]) -> SentBatch:
        """Create the batch; whatever happens, it is not created twice.

        Raises the ``ModelError`` with which the vendor refuses it, and ``BatchError`` where it
        remains unclear whether it arrived.
        """
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                return self.sent.named(batch, (await self.api.create(batch.tag, rows)).id)
            except ModelError as error:
                failure = error
            if not is_refusal(failure) and (found := await self._looked_for(batch, failure)):
                return self.sent.named(batch, found.id)
            delay = _delay(failure, attempt)
            if delay is None or attempt == _MOST_ATTEMPTS:
                break
            await asyncio.sleep(delay)
        raise failure if is_refusal(failure) else self._unclear(failure)

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

    async def taken_up(self, batch: SentBatch) -> SentBatch | None:
        """The batch of an earlier run with its id; None where it has not reached the vendor."""
        if batch.id:
            return batch
        self.watch.tell(batch.tag, f"{self.api.vendor}: looking for a batch that was being sent")
        try:
            found = await self._found(batch)
        except ModelError as error:
            raise BatchError(
                f"it cannot be found out whether {self.api.vendor} has a batch of these rows "
                f"already: {error}"
            ) from None
        self.watch.tell(batch.tag, "")
        return None if found is None else self.sent.named(batch, found.id)

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
        waited = await self.watch.until_over(found.id, batch, is_ours=False)
        keys = set(batch.keys)
        with suppress(NotFoundError):  # results that are deleted are of an older batch
            async with aclosing(self.api.outcomes(waited)) as outcomes:
                async for outcome in outcomes:
                    return outcome.key in keys
        return False


def _delay(error: ModelError, attempt: int) -> float | None:
    """Seconds after which it may be sent again; None where it must not be.

    A vendor that took too long may have it yet, and list it later.
    """
    if not may_pass(error) or isinstance(error, ApiTimeoutError):
        return None
    told = error.retry_after_seconds if isinstance(error, ApiError) else None
    delay = min(_FIRST_DELAY * 2.0 ** (attempt - 1), LONGEST_PAUSE) if told is None else told
    return delay if delay <= _LONGEST_DELAY else None


def parts_of(
    rows: Iterable[VendorRow], most_rows: int, most_bytes: int
) -> Iterator[list[VendorRow]]:
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
