"""What a journal knows of the batches that a run has sent to a vendor.

A batch is noted *before* it is sent, with its tag and the keys of its rows, and again with the id
that the vendor gave it. So a batch is never unknown, wherever the process was killed: one that is
noted without an id may have arrived or not, and the vendor is asked before anything is sent again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbllm.batches.journal import Journal

__all__ = ["SentBatch", "SentBatches"]


@dataclass(frozen=True, slots=True)
class SentBatch:
    """A batch of this journal; ``id`` is "" until the vendor's is known, ``since`` Unix seconds."""

    tag: str
    keys: tuple[str, ...]
    since: float
    id: str = ""
    is_over: bool = False


class SentBatches:
    """The batches of a journal, by their tags."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._batches: dict[str, SentBatch] = {}
        for values in journal.notes:
            self._read(values)

    def _read(self, values: dict[str, Any]) -> None:
        tag, keys, since = values["batch"], values.get("keys"), values.get("since")
        known = self._batches.get(tag)
        if known is not None:
            vendor_id = values.get("id")
            self._batches[tag] = replace(
                known,
                id=vendor_id if isinstance(vendor_id, str) else known.id,
                is_over=known.is_over or values.get("over") is True,
            )
        elif isinstance(keys, list) and isinstance(since, int | float):
            self._batches[tag] = SentBatch(tag, tuple(map(str, keys)), float(since))

    @property
    def ids(self) -> set[str]:
        """The ids of all batches, those that are over too."""
        return {batch.id for batch in self._batches.values() if batch.id}

    def open(self) -> list[SentBatch]:
        """The batches of which more may come."""
        return [batch for batch in self._batches.values() if not batch.is_over]

    def missing(self) -> int:
        """How many rows a batch may still answer that have no answer in the journal."""
        entries = self._journal.entries
        keys = {key for batch in self.open() for key in batch.keys}
        return sum(key not in entries or bool(entries[key].error) for key in keys)

    def begin(self, keys: Sequence[str]) -> SentBatch:
        """Note a batch that is about to be sent."""
        batch = SentBatch(uuid.uuid4().hex, tuple(keys), time.time())
        self._note(batch.tag, keys=list(keys), since=round(batch.since, 3))
        return self._batches[batch.tag]

    def named(self, batch: SentBatch, vendor_id: str) -> SentBatch:
        """Note the id that the vendor gave it."""
        self._note(batch.tag, id=vendor_id)
        return self._batches[batch.tag]

    def over(self, batch: SentBatch) -> None:
        """Note that nothing more can come of it: its rows may be sent again."""
        self._note(batch.tag, over=True)

    def _note(self, tag: str, **values: Any) -> None:
        noted = {"batch": tag, **values}
        self._journal.note(noted)
        self._read(noted)
