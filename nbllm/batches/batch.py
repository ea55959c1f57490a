"""``model.map(…)``: a batch to iterate over, or to await for all its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

from nbllm.batches.batch_rows import BatchProgress, BatchRow
from nbllm.batches.conflicts import check_apart
from nbllm.batches.journal import Journal, check_place
from nbllm.batches.run import RunSettings, run_batch
from nbllm.batches.spread import width_of
from nbllm.batches.vendor_api.sent_batches import SentBatches
from nbllm.batches.vendor_api.vendor_run import default_journal, run_vendor_batch
from nbllm.core.errors import BatchError, InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_names import option_use
from nbllm.core.texts import shown

__all__ = ["Batch", "batch_of", "check_journal"]

_OF_REQUEST = ("system", "options", "schema")
_OF_BATCH_API = (*_OF_REQUEST, "retry_failed", "max_cost", "title")


class Batch:
    """Prompts that are asked when this is iterated over or awaited; ``progress`` tells how far."""

    def __init__(
        self,
        model: ModelInterface,
        prompts: Iterable[Any],
        journal: Path | None,
        settings: dict[str, Any],
        *,
        batch_api: bool = False,
    ) -> None:
        self._model, self._prompts = model, prompts
        self._journal, self._settings = journal, settings
        self._uses_vendor, self._is_running, self._is_cancelled = batch_api, False, False
        self.on_state: Callable[[], None] = lambda: None
        try:
            total = len(prompts)  # type: ignore[arg-type]
        except TypeError:
            total = None
        self.progress = BatchProgress(total=total)

    @property
    def width(self) -> int:
        """How many rows are asked at a time, at most."""
        return width_of(self._model, self._settings.get("concurrency"))

    async def rows(self) -> AsyncIterator[BatchRow]:
        """The rows in the prompts' order. Raises as ``run_batch`` or ``run_vendor_batch`` does."""
        with Journal(self._journal) if self._journal else nullcontext() as journal:
            self._is_running = True
            try:
                async with aclosing(self._run(journal)) as rows:  # type: ignore[type-var]
                    async for row in rows:
                        yield row
            finally:
                self._is_running = False

    def _run(self, journal: Journal | None) -> AsyncIterator[BatchRow]:
        if self._uses_vendor and journal is not None:
            return run_vendor_batch(
                self._model,
                self._prompts,
                journal=journal,
                cancelled=lambda: self._is_cancelled,
                progress=self.progress,
                on_state=lambda: self.on_state(),
                **self._settings,
            )
        if journal is not None:
            _check_nothing_is_sent(journal)
        return run_batch(
            self._model,
            self._prompts,
            RunSettings(**self._settings),
            journal=journal,
            progress=self.progress,
        )

    async def cancel(self) -> list[BatchRow]:
        """Cancel what the vendor's batch API has of this run, also from an earlier kernel.

        What is done by then is paid and kept in the journal. A run that is being iterated over
        ends with its rows, and this returns none; otherwise it returns the rows when the vendor
        has cancelled. Raises ``InvalidOptionError`` for a run without ``batch_api``: cancel its
        task instead.
        """
        if not self._uses_vendor:
            raise InvalidOptionError("batch_api", "is not set, so that no vendor has a batch of it")
        self._is_cancelled = True
        return [] if self._is_running else await self._all()

    def __aiter__(self) -> AsyncIterator[BatchRow]:
        return self.rows()

    def __await__(self) -> Generator[Any, None, list[BatchRow]]:
        return self._all().__await__()

    async def _all(self) -> list[BatchRow]:
        rows: list[BatchRow] = []
        try:
            async for row in self.rows():
                rows.append(row)  # noqa: PERF401 - what is there is given out at an error too
        except BatchError as error:
            error.finished = rows
            raise
        return rows

    def __repr__(self) -> str:
        total = "" if self.progress.total is None else f" of {self.progress.total:,}"
        return f"<Batch: {self.progress.done:,}{total} rows done>"


def batch_of(
    model: ModelInterface,
    prompts: Iterable[Any],
    *,
    journal: Path | None,
    batch_api: bool = False,
    **settings: Any,
) -> Batch:
    """The batch of ``model.map``. Raises ``InvalidOptionError`` for what holds no prompts.

    With ``batch_api`` also for settings that a vendor's batches cannot keep, and
    ``UnsupportedError`` for a model that has none.
    """
    if isinstance(prompts, str | bytes) or not hasattr(prompts, "__iter__"):
        wanted = "must be a list of prompts, or another iterable"
        if hasattr(prompts, "__aiter__"):
            wanted += "; collect them first, as in [each async for each in prompts]"
        raise InvalidOptionError("prompts", f"{wanted} (got {shown(prompts)})")
    check_apart({**settings, "batch_api": batch_api})
    place = journal and _absolute(journal)
    if not batch_api:
        return Batch(model, prompts, place, settings)
    kept = {name: settings[name] for name in _OF_BATCH_API if name in settings}
    model.vendor_batches()  # a model that has none is refused before a journal is made
    like = model.request("-", **{name: kept.get(name) for name in _OF_REQUEST})
    return Batch(model, prompts, place or default_journal(like), kept, batch_api=True)


def check_journal(path: Path, *, batch_api: bool) -> None:
    """Raise the ``BatchError`` with which a run that keeps its rows there would end at once.

    No file is made.
    """
    place = _absolute(path)
    check_place(place)
    if place.exists():
        with Journal(place) as journal:
            if not batch_api:
                _check_nothing_is_sent(journal)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _check_nothing_is_sent(journal: Journal) -> None:
    if missing := SentBatches(journal).missing():
        raise BatchError(
            f"{journal.path} notes {missing:,} rows that were sent to a vendor's batch API and "
            f"have no answer yet; run it with {option_use('batch_api', 'True')} to wait for them, "
            f"or name another file with {option_use('journal')}"
        )
