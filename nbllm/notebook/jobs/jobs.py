"""Work in the background, while other cells run: how it is listed, followed and stopped."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for_futures
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from nbllm.core.forks import ChildSafeLock
from nbllm.core.types import FinishReason, GenerationResult
from nbllm.notebook.asking.live_answer import LiveAnswer
from nbllm.notebook.asking.waiting import StopButton
from nbllm.notebook.loop import LoopJob, interruptible
from nbllm.notebook.views.bundles import note
from nbllm.notebook.views.display import TICK_SECONDS, open_background_view
from nbllm.notebook.views.markdown_view import BackgroundView

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Prepared
    from nbllm.notebook.session import NotebookSession

__all__ = ["AnswerJob", "Job", "JobState", "Jobs", "begin_job"]

T = TypeVar("T")

JobState: TypeAlias = Literal["loading", "waiting", "writing", "done", "stopped", "failed"]

JOBS_KEPT = 100
"""So many stay listed; of those that have ended the oldest go first."""


class Jobs(dict[int, "Job[Any]"]):
    """The jobs of a session by their numbers, the oldest first."""

    @property
    def next_number(self) -> int:
        """The number of the next job."""
        return max(self, default=0) + 1

    def put(self, job: Job[Any]) -> None:
        """Keep ``job``; of those that have ended the oldest go where there are too many."""
        self[job.number] = job
        ended = [number for number, known in self.items() if known.done]
        for number in ended[: max(len(self) - JOBS_KEPT, 0)]:
            del self[number]


class Job(ABC, Generic[T]):
    """Something that is done in the background; ``await job`` or ``job.result()`` gives its result.

    Any thread may use it, and any event loop may await it. A kind of job says what is done, by
    ``_work``, and how that is shown; ``_begin`` begins it.
    """

    def __init__(self, number: int, session: NotebookSession) -> None:
        self.number = number
        self._session = session
        self._cell = session.shell.execution_count
        self._view = open_background_view(session.shell)
        self._future: Future[T] = Future()
        self._showing = ChildSafeLock()  # the loop's thread and a cell's may both show it
        self._began, self._ended = time.monotonic(), 0.0
        self._button = StopButton(session, self.stop)
        self._was_stopped = False

    def _begin(self) -> None:
        self._open()
        self._task: LoopJob[None] = self._session.loop.submit(self._run())

    # ------------------------------------------------------------ what a kind of job says

    @property
    @abstractmethod
    def model(self) -> str:
        """The name of the model that answers; "" as long as it is not known."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What is asked, or of what."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The text so far."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """The tokens so far; 0 where the model does not count them while it writes."""

    @property
    @abstractmethod
    def _stage(self) -> JobState:
        """How far it is while it runs."""

    @abstractmethod
    async def _work(self) -> T:
        """Do it, on the loop."""

    @abstractmethod
    def _partial(self) -> T:
        """The result of a job that was stopped."""

    @abstractmethod
    def _look(self) -> None:
        """Show what is new."""

    @abstractmethod
    def _show_outcome(self, outcome: T | Exception) -> None:
        """Show in the view what came of it."""

    @abstractmethod
    def _show_again(self, *, is_value: bool) -> None:
        """Show what came of it in the cell that runs now."""

    # ------------------------------------------------------------ what all jobs have

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    @property
    def state(self) -> JobState:
        """How far it is."""
        if not self._future.done():
            return self._stage
        if self._future.exception() is not None:
            return "failed"
        return "stopped" if self._was_stopped else "done"

    @property
    def seconds(self) -> float:
        """How long it has run, or ran."""
        return (self._ended or time.monotonic()) - self._began

    def result(self, timeout: float | None = None) -> T:
        """The result, once it is there; the partial one of a job that was stopped.

        Raises what the job failed with, and ``TimeoutError`` after ``timeout`` seconds. An
        interrupt ends the wait; the job goes on.
        """
        with interruptible():
            try:
                return self._future.result(timeout)
            except FutureTimeoutError:  # a type of its own before Python 3.11
                if self._future.done():
                    raise
                raise TimeoutError(f"job {self.number} still runs after {timeout} s") from None

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def stop(self) -> None:
        """Stop it and keep what has come, from any thread; after its end this is harmless."""
        self._task.stop()

    def settle(self, seconds: float) -> None:
        """Wait for its end for so long at most, however it ends."""
        wait_for_futures([self._future], seconds)

    def show(self) -> None:
        """Show it in the cell that runs now too, where it goes on."""
        self._show(is_value=False)

    def _show(self, *, is_value: bool) -> None:
        with self._showing:
            if isinstance(self._view, BackgroundView):
                self._view.republish()
            elif self.done:
                self._show_again(is_value=is_value)

    def wait(self) -> T:
        """Show it, and return or raise what ``result`` does."""
        was_done = self.done
        self.show()
        try:
            return self.result()
        finally:
            if self.done and not was_done:
                self._show_end()

    def _show_end(self) -> None:
        if isinstance(self._view, BackgroundView):
            # Who follows this cell alone, as nbclient does, has missed updates of the loop's.
            self._view.republish(update=True)
        else:
            self.show()

    def __repr__(self) -> str:
        model = f", {self.model}" if self.model else ""
        return f"<Job {self.number}{model}: {self.state}, {self.seconds:.1f} s>"

    def _ipython_display_(self) -> None:
        """As the value of a cell it is shown; where it began, that is there already.

        Where nothing can be updated it tells how far it is, as long as it runs.
        """
        is_updated = isinstance(self._view, BackgroundView)
        if not is_updated and not self.done:
            print(self)  # noqa: T201 - it is the cell's value
        elif not is_updated or self._session.shell.execution_count != self._cell:
            self._show(is_value=True)

    def _open(self) -> None:
        """Put all places that it will fill: later ones could land in another cell."""
        self._view.note(f"Job {self.number} has started.")
        bundle = self._button.bundle() if self._button.is_wanted else note("")
        self._view.control(bundle)

    # ------------------------------------------------------------ on the loop

    async def _run(self) -> None:
        looks = asyncio.create_task(self._follow())
        outcome: T | Exception
        try:
            outcome = await self._work()
        except asyncio.CancelledError:
            self._was_stopped = True
            outcome = self._partial()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where one waits
            outcome = error
        looks.cancel()
        self._end(outcome)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            with self._showing:
                self._look()

    def _end(self, outcome: T | Exception) -> None:
        self._ended = time.monotonic()
        try:
            with self._showing:
                self._show_outcome(outcome)
        except Exception as error:  # noqa: BLE001 - a step after the result failed
            outcome = error
        self._button.close()
        if isinstance(outcome, Exception):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)


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
