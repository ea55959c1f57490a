"""``model.map(…)``: a batch to iterate over, or to await for all its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

from nbllm.batches.journal import Journal
from nbllm.batches.run import BatchProgress, BatchRow, run_batch, width_of
from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.texts import shown

__all__ = ["Batch", "batch_of"]


class Batch:
    """Prompts that are asked when this is iterated over or awaited; ``progress`` tells how far."""

    def __init__(
        self,
        model: ModelInterface,
        prompts: Iterable[Any],
        journal: Path | None,
        settings: dict[str, Any],
    ) -> None:
        self._model, self._prompts = model, prompts
        self._journal, self._settings = journal, settings
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
        """The rows in the prompts' order. Raises as ``run_batch`` does."""
        with Journal(self._journal) if self._journal else nullcontext() as journal:
            run = run_batch(
                self._model,
                self._prompts,
                journal=journal,
                progress=self.progress,
                **self._settings,
            )
            async with aclosing(run) as rows:  # type: ignore[type-var]
                async for row in rows:
                    yield row

    def __aiter__(self) -> AsyncIterator[BatchRow]:
        return self.rows()

    def __await__(self) -> Generator[Any, None, list[BatchRow]]:
        return self._all().__await__()

    async def _all(self) -> list[BatchRow]:
        return [row async for row in self.rows()]

    def __repr__(self) -> str:
        total = "" if self.progress.total is None else f" of {self.progress.total:,}"
        return f"<Batch: {self.progress.done:,}{total} rows done>"


def batch_of(
    model: ModelInterface, prompts: Iterable[Any], *, journal: Path | None, **settings: Any
) -> Batch:
    """The batch of ``model.map``. Raises ``InvalidOptionError`` for what holds no prompts."""
    if isinstance(prompts, str | bytes) or not hasattr(prompts, "__iter__"):
        raise InvalidOptionError(
            "prompts", f"must be a list of prompts, or another iterable (got {shown(prompts)})"
        )
    return Batch(model, prompts, journal and journal.expanduser().absolute(), settings)
