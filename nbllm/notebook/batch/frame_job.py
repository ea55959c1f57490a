"""``%%llm --map DF --bg``: a run over a table in the background."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from nbllm.batches.batch_rows import BatchProgress, BatchRow
from nbllm.core.errors import BatchError
from nbllm.core.rendering.escaping import text_html
from nbllm.notebook.batch.clusters import worker_notes
from nbllm.notebook.batch.run_view import SHOWN_ROWS, figures, rows_html, show_data
from nbllm.notebook.jobs.jobs import Job, Jobs, JobState
from nbllm.notebook.views.bundles import Bundle, note
from nbllm.notebook.views.markdown_view import BackgroundView

if TYPE_CHECKING:
    from nbllm.notebook.asking.waiting import WantedModel
    from nbllm.notebook.batch.frame_run import FrameRun
    from nbllm.notebook.session import NotebookSession

__all__ = ["FrameJob", "begin_frame_job"]


def begin_frame_job(
    session: NotebookSession, run: FrameRun, wanted: WantedModel, subject: str
) -> FrameJob:
    """Ask about the rows in the background, and show how far it is in the cell that runs now.

    The DataFrame may be changed meanwhile: the run has its own copy.
    """
    jobs = session.part(Jobs)
    run.df = run.df.copy()
    job = FrameJob(jobs.next_number, session, run, wanted, subject)
    jobs.put(job)
    return job


class FrameJob(Job[Any]):
    """One run, with the load of its model; its result is the frame with the answers."""

    def __init__(
        self,
        number: int,
        session: NotebookSession,
        run: FrameRun,
        wanted: WantedModel,
        subject: str,
    ) -> None:
        super().__init__(number, session)
        self._run_over, self._wanted, self._subject = run, wanted, subject
        self._progress: BatchProgress = run.progress
        self._last: deque[BatchRow] = deque(maxlen=SHOWN_ROWS)
        self._told: list[str] = []
        self._outcome: Bundle | None = None
        self._begin()

    @property
    def model(self) -> str:  # noqa: D102 - see Job, as all that follow
        model = self._run_over.model
        return model.name if model else self._wanted.title

    @property
    def subject(self) -> str:  # noqa: D102
        return self._subject

    @property
    def text(self) -> str:  # noqa: D102
        return "\n".join(row.text for row in self._run_over.found)

    @property
    def tokens(self) -> int:  # noqa: D102
        return self._progress.completion_tokens

    @property
    def _stage(self) -> JobState:
        if self._wanted.loading is not None:
            return "loading"
        return "writing" if self._progress.asked else "waiting"

    async def _work(self) -> Any:
        try:
            await self._run_over.work(self._tick, self._told.append)
        finally:
            self._told += worker_notes(self._run_over)
        return self._run_over.frame()

    def _partial(self) -> Any:
        run = self._run_over
        goes_on = run.asked is not None and run.request.journal is not None
        kept = f"Finished rows are kept in {run.request.journal}; run the cell again to go on."
        self._told.append(run.at_vendor or (kept if goes_on else ""))
        return run.frame()

    def _tick(self, progress: BatchProgress, row: BatchRow | None) -> None:
        self._progress = progress
        if row is not None:
            self._last.append(row)

    def _look(self) -> None:
        self._told += self._wanted.lines()
        self._progress = self._run_over.progress
        state = self._progress.done, self._activity, len(self._told), self._progress.running > 0
        if any(state):
            self._view.draw(
                state, lambda: self._bundle(rows_html(self._run_over.table, self._last))
            )

    def _show_outcome(self, outcome: Any) -> None:
        self._told += self._wanted.lines()
        frame, problem = outcome, ""
        if isinstance(outcome, Exception):
            problem = f"{type(outcome).__name__}: {outcome}"
            frame = None
            if isinstance(outcome, BatchError) and self._run_over.found:
                frame = outcome.finished = self._run_over.frame()
        formatter: Any = self._session.shell.display_formatter
        is_empty = formatter is None or frame is None or (self._was_stopped and not self._last)
        shown = {} if is_empty else formatter.format(frame)[0]
        plain = str(shown.get("text/plain", ""))
        self._outcome = self._bundle(str(shown.get("text/html", "")), plain, problem)
        if isinstance(self._view, BackgroundView):
            self._view.settle(self._outcome)

    def _show_again(self, *, is_value: bool) -> None:
        if self._outcome is not None:
            show_data(self._outcome.data)

    def _bundle(self, html: str, plain: str = "", problem: str = "") -> Bundle:
        """How far it is, above rows; ``problem`` is why it ended early."""
        lines = [line for line in (self._far(), *self._told, problem) if line]
        texts = [line for line in (*lines, plain) if line]
        notes = "".join(str(note(line).data["text/html"]) for line in lines)
        rows = html or (f"<pre>{text_html(plain)}</pre>" if plain else "")
        return Bundle({"text/html": notes + rows, "text/plain": "\n".join(texts)})

    @property
    def _activity(self) -> str:
        return self._wanted.activity or self._progress.vendor_state

    def _far(self) -> str:
        done, total = self._progress.done, self._progress.total
        rows = f"{done:,} rows" if total is None else f"{done:,} of {total:,} rows"
        seconds = (self._ended or time.monotonic()) - self._began
        more = self._wanted.activity or figures(self._progress, seconds)
        stopped = "■ stopped" if self._was_stopped else ""
        return f"Job {self.number}: {', '.join(filter(None, [stopped, rows, more]))}"
