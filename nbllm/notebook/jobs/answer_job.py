"""Answers that are written in the background, while other cells run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.core.types import FinishReason, GenerationResult
from nbllm.notebook.asking.live_answer import LiveAnswer
from nbllm.notebook.jobs.jobs import Job, Jobs, JobState

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Prepared
    from nbllm.notebook.session import NotebookSession

__all__ = ["AnswerJob", "begin_job"]


def begin_job(session: NotebookSession, prepared: Prepared) -> AnswerJob:
    """Ask in the background, and show the answer in the cell that runs now."""
    jobs = session.part(Jobs)
    job = AnswerJob(jobs.next_number, session, prepared)
    jobs.put(job)
    return job


class AnswerJob(Job[GenerationResult]):
    """One answer in the background."""

    def __init__(self, number: int, session: NotebookSession, prepared: Prepared) -> None:
        super().__init__(number, session)
        self.question = prepared.question
        self._live = LiveAnswer(session, prepared, self._view)
        self._begin()

    @property
    def model(self) -> str:  # noqa: D102 - see Job, as all that follow
        return self._live.model

    @property
    def subject(self) -> str:  # noqa: D102
        return self.question.text

    @property
    def text(self) -> str:  # noqa: D102
        return self._live.text

    @property
    def tokens(self) -> int:  # noqa: D102
        return self._live.generation.counted_tokens or 0

    @property
    def _stage(self) -> JobState:
        return self._live.stage

    async def _work(self) -> GenerationResult:
        return await self._live.work()

    def _partial(self) -> GenerationResult:
        return self._live.partial(FinishReason.CANCELLED, "stopped")

    def _look(self) -> None:
        self._live.look()

    def _show_outcome(self, outcome: GenerationResult | Exception) -> None:
        if isinstance(outcome, Exception):
            self._live.fail(outcome, f"{type(outcome).__name__}: {outcome}")
        else:
            self._live.finish(outcome)

    def _show_again(self, *, is_value: bool) -> None:
        self._session.open_view("llm_jobs", is_value=is_value).finish(self._live.ending)
