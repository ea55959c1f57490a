"""One run over a frame: asked on the loop, shown in the cell, stopped with what there is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nbllm.batches.batch_rows import BatchProgress, BatchRow, BatchTick
from nbllm.batches.calibration import calibrated
from nbllm.batches.estimate import estimate
from nbllm.core.errors import BatchError
from nbllm.core.option_names import option_use
from nbllm.notebook.batch.run_view import RunView, show_value
from nbllm.notebook.loop import free_loop

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.batches.batch import Batch
    from nbllm.core.model_interface import ModelInterface
    from nbllm.core.schemas.answer_schemas import AnswerSchema
    from nbllm.notebook.batch.frame_batch import FrameBatch
    from nbllm.notebook.batch.frame_request import FrameRequest

__all__ = ["SAMPLE_ROWS", "FrameRun", "HowFar", "RunInterrupt"]

SAMPLE_ROWS = 5

HowFar: TypeAlias = Literal["whole", "large", "dry", "cancelled"]


@dataclass(slots=True)
class FrameRun:
    """One run over a frame; ``found`` are the rows that are finished, in their order.

    A "large" one shows its first rows, with what the rest is going to take, and goes on; a "dry"
    one is over behind them, and a "cancelled" one takes back what a vendor's batch API has of it.
    ``find`` finds or loads the model, as part of the run. ``joined`` puts the answers into what was
    given, where that is no DataFrame of pandas. ``asked`` and ``model`` are there once the model
    is.
    """

    request: FrameRequest
    df: pd.DataFrame
    batch: FrameBatch
    how: HowFar
    find: Callable[[], Awaitable[ModelInterface]]
    schema: AnswerSchema | None
    joined: Callable[[pd.DataFrame], Any]
    asked: Batch | None = None
    model: ModelInterface | None = None
    found: list[BatchRow] = field(default_factory=list)

    @property
    def progress(self) -> BatchProgress:
        """How far it is."""
        if self.asked is not None:
            return self.asked.progress
        return BatchProgress(total=len(self._rows))

    @property
    def _rows(self) -> list[dict[str, Any]]:
        return self.batch.rows[:SAMPLE_ROWS] if self.how == "dry" else self.batch.rows

    def run(
        self,
        tick: BatchTick | None,
        *,
        activity: Callable[[], str] = str,
        lines: Callable[[], Iterable[str]] = tuple,
    ) -> Any:
        """The frame with the answers. Raises ``RunInterrupt`` or ``BatchError`` with what there is
        of it.

        ``activity`` says what goes on before the first row is asked, and ``lines`` what else there
        is to tell.
        """
        if tick is not None:
            return self._waited(tick, lambda: None, print)
        view = RunView(self.progress, self.table, activity)

        def show() -> None:
            for line in lines():
                view.tell(line)
            view.tick(self.progress, None)  # what is under way has no tick of its own
            view.show()

        try:
            return self._waited(view.tick, show, view.tell)
        finally:
            view.close()

    def _waited(
        self, tick: BatchTick, show: Callable[[], None], tell: Callable[[str], None]
    ) -> Any:
        told: SimpleQueue[str] = SimpleQueue()

        def look() -> None:
            show()
            while not told.empty():
                if self.how == "large":
                    show_value(self.table(self.found[:SAMPLE_ROWS]))
                tell(told.get())

        try:
            with free_loop() as loop:
                loop.run(self.work(tick, told.put), on_tick=look)
        except KeyboardInterrupt as stop:
            raise RunInterrupt(self.at_vendor or str(stop), self.frame()) from None
        except BatchError as error:
            error.finished = self.frame() if self.found else None
            raise
        look()
        return self.frame()

    async def work(self, tick: BatchTick, tell: Callable[[str], None]) -> None:
        """Ask all rows; ``tell`` gets what the rest is going to take, where that is wanted."""
        asked = await self._begun()
        began = time.monotonic()
        asked.on_state = lambda: tick(asked.progress, None)
        if self.how == "cancelled":
            self.found += await asked.cancel()
            return
        async for row in asked:
            self.found.append(row)
            tick(asked.progress, row)
            if self.how == "large" and len(self.found) == SAMPLE_ROWS:
                tell(self._estimated(asked, time.monotonic() - began))
        if self.how == "dry":
            tell(self._estimated(asked, time.monotonic() - began))

    async def _begun(self) -> Batch:
        request, by_vendor = self.request, self.request.batch_api or self.request.cancel_batch
        self.model = await self.find()
        self.asked = self.model.map(
            self.batch.prompts(self._rows),
            system=request.system,
            schema=self.schema,
            options=request.generation,
            concurrency=request.concurrency,
            journal=None if self.how == "dry" and by_vendor else request.journal,
            retry_failed=request.retry_failed,
            max_failures=request.max_failures,
            max_cost=request.max_cost,
            max_total_tokens=request.max_total_tokens,
            batch_api=by_vendor and self.how != "dry",
            first=SAMPLE_ROWS if self.how == "large" else 0,
            title=request.title or f"{len(self.df):,} rows",
        )
        return self.asked

    def _estimated(self, asked: Batch, seconds: float) -> str:
        sample = self.found[:SAMPLE_ROWS]
        rest = len(self.df) - len(sample)
        failed = sum(bool(row.error) for row in sample)
        kind = "Dry run" if self.how == "dry" else "Preview"
        words = f"{kind}: {len(sample):,} of {len(self.df):,} rows asked, {failed:,} failed."
        if rest:
            longer, width = self.batch.longer(sample), asked.width
            found = estimate(sample, rest, seconds=seconds, width=width, longer=longer)
            words += f" {(found.by_batch_api() if self.request.batch_api else found).words}"
        return f"{words} The batch API takes up to a day." if self.request.batch_api else words

    @property
    def at_vendor(self) -> str:
        """What goes on at the vendor in spite of an interrupt; "" where nothing does."""
        state = self.progress.vendor_state
        return state and (
            f"{state}. It goes on there, and is paid. Run the same again to take it up, or with "
            f"{option_use('cancel_batch', 'True')} to cancel it."
        )

    def table(self, rows: Sequence[BatchRow]) -> pd.DataFrame:
        """The columns of the prompt and of the answers, for these rows."""
        whole = self.batch.joined(self.df.iloc[[row.index for row in rows]], [*rows])
        new = [True] * (len(whole.columns) - len(self.df.columns))
        return whole.loc[:, [*self.batch.shown(self.df.columns), *new]]

    def frame(self) -> Any:
        """The frame as far as it is finished; what is not has missing values."""
        df = self.df.iloc[:SAMPLE_ROWS] if self.how == "dry" else self.df
        found = calibrated(self.found) if self.request.calibrate else self.found
        by_index = {row.index: row for row in found}  # an ended run leaves out what it did not ask
        rows = [by_index.get(index) or BatchRow(index=index) for index in range(len(df))]
        return self.joined(self.batch.joined(df, rows))


class RunInterrupt(KeyboardInterrupt):
    """A run was interrupted; ``frame`` has what was finished by then."""

    def __init__(self, words: str, frame: Any) -> None:
        super().__init__(*([words] if words else []))
        self.frame = frame
