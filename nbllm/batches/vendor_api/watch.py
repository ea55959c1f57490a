"""Waiting for a batch at a vendor, telling meanwhile how far it is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nbllm.batches.batch_rows import BatchProgress
from nbllm.batches.vendor_api.failures import is_refusal, may_pass
from nbllm.batches.vendor_api.sent_batches import SentBatch
from nbllm.core.errors import BatchError, ModelError, NotFoundError
from nbllm.core.runs import VendorBatch, VendorBatches

__all__ = ["LONGEST_PAUSE", "Watch", "brief"]

_FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
_MOST_TOLD = 2
_SILENCE_SECONDS = 1_800.0
"""So long the vendor may be out of reach before a run ends; the batch goes on meanwhile."""
_KEPT_SECONDS = 28 * 86_400.0
"""The vendors keep batches for at least so long; one that is not found then was not lost there."""


def brief(told: str, most: int = 60) -> str:
    """A vendor's words in one line that is not long."""
    return " ".join(told.split())[:most]


@dataclass(slots=True)
class Watch:
    """What a run has at its vendor. ``on_state`` is called when ``progress.vendor_state`` changes.

    Once ``cancelled`` is true, what is waited for is cancelled.
    """

    api: VendorBatches
    progress: BatchProgress
    on_state: Callable[[], None]
    cancelled: Callable[[], bool]
    states: dict[str, str] = field(default_factory=dict)

    def tell(self, tag: str, state: str) -> None:
        """Say how far the batch of this tag is; "" says nothing of it any more."""
        if state:
            self.states[tag] = state
        else:
            self.states.pop(tag, None)
        told = "; ".join([*self.states.values()][:_MOST_TOLD])
        if (more := len(self.states) - _MOST_TOLD) > 0:
            told += f"; and {more:,} more batches"
        if told != self.progress.vendor_state:
            self.progress.vendor_state = told
            self.on_state()

    async def until_over(
        self, batch_id: str, batch: SentBatch, *, is_ours: bool = True
    ) -> VendorBatch:
        """The batch when it is over; meanwhile its state is told. Only ours is ever cancelled.

        Raises ``BatchError`` where the vendor cannot be asked.
        """
        pause, heard, is_cancelled = _FIRST_PAUSE, time.monotonic(), False
        while True:
            if is_ours and self.cancelled() and not is_cancelled:
                is_cancelled, pause = True, _FIRST_PAUSE
                await self._cancel(batch_id)
            try:
                found = await self.api.get(batch_id)
            except ModelError as error:
                if (gone := self._gone(batch_id, batch, error)) is not None:
                    return gone
                if not may_pass(error) or time.monotonic() - heard > _SILENCE_SECONDS:
                    raise self.left(batch_id, error) from None
                self.tell(batch.tag, f"{self.api.vendor} {batch_id}: no answer ({error})")
            else:
                heard = time.monotonic()
                self.tell(batch.tag, self._state(found, batch))
                if found.is_over:
                    return found
            await self._rest(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

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
            if not is_refusal(error):
                raise BatchError(f"the batch {batch_id} could not be cancelled: {error}") from None

    def _gone(self, batch_id: str, batch: SentBatch, error: ModelError) -> VendorBatch | None:
        """A batch that its vendor has deleted by now, as one that failed."""
        if not isinstance(error, NotFoundError) or time.time() - batch.since < _KEPT_SECONDS:
            return None
        problem = "the vendor does not keep it any more"
        return VendorBatch(id=batch_id, state="deleted", is_over=True, problem=problem)

    def left(self, batch_id: str, error: ModelError) -> BatchError:
        """The error of a run that ends while its batch goes on."""
        return BatchError(
            f"the batch {batch_id} could not be looked up: {error} It goes on at "
            f"{self.api.vendor}; run the same again, with the key that it was sent with, to take "
            "it up."
        )

    def _state(self, found: VendorBatch, batch: SentBatch) -> str:
        began = time.localtime(found.created or batch.since)
        is_today = began[:3] == time.localtime()[:3]
        since = time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", began)
        failed = f", {found.failed:,} failed" if found.failed else ""
        return (
            f"{self.api.vendor} {brief(found.id)}: {brief(found.state)}, "
            f"{found.done:,} of {len(batch.keys):,} rows done{failed}, since {since}"
        )
