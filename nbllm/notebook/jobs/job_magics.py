"""``%llm_jobs``: the answers in the background."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.running_cell import Stopped, brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.jobs.jobs import Job, Jobs
    from nbllm.notebook.tables import Table

__all__ = ["JobMagics"]

JOBS = Help(
    """
    %llm_jobs                             all jobs, as a DataFrame
    %llm_jobs wait 2                      show job 2 here, until it ends
    %llm_jobs wait                        wait for all of them
    %llm_jobs stop 2                      stop it; the text so far is kept
    %llm_jobs stop                        stop all
""",
    (
        flag(
            "action",
            nargs="?",
            choices=("list", "wait", "stop"),
            default="list",
            help="What to do (default: list).",
        ),
        flag("number", nargs="?", type=int, help="The job's number (default: all running jobs)."),
    ),
)


class JobsFlags(Flags):
    """What ``JOBS`` explains."""

    action: Literal["list", "wait", "stop"]
    number: int | None


_STOP_SECONDS = 1.0
"""So long the table waits for a job that was stopped, so that it shows it as stopped."""


@magics_class
class JobMagics(SessionMagics):
    """The magic for what ``%%llm --bg`` began."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        session.completions.words["llm_jobs.number"] = lambda: map(str, self._jobs)

    @no_var_expand
    @with_help(JOBS)
    @line_magic
    def llm_jobs(self, line: str) -> pd.DataFrame | None:
        """List background jobs as a DataFrame, wait for them, or stop them.

        An interrupt while waiting ends the wait; the job goes on.
        """
        args = parse(parser_of(self, "llm_jobs"), line, JobsFlags())
        if args.action == "wait":
            with brief_errors():
                for job in self._chosen(args.number):
                    self._wait(job)
            return None
        if args.action == "stop":
            stopped = self._chosen(args.number)
            for job in stopped:
                job.stop()
            for job in stopped:
                job.settle(_STOP_SECONDS)
        return _table(self._jobs.values())

    @property
    def _jobs(self) -> Jobs:
        from nbllm.notebook.jobs.jobs import Jobs

        return self.session.part(Jobs)

    def _chosen(self, number: int | None) -> list[Job[Any]]:
        jobs = self._jobs
        if number is None:
            return [job for job in jobs.values() if not job.done]
        if number not in jobs:
            known = f"jobs: {', '.join(map(str, jobs))}" if jobs else "%%llm --bg starts one"
            raise UsageError(f"there is no job {number}; {known}")
        return [jobs[number]]

    def _wait(self, job: Job[Any]) -> None:
        try:
            job.wait()
        except KeyboardInterrupt:
            stop = f"%{self.session.magic_name('llm_jobs')} stop {job.number}"
            raise Stopped(f"Job {job.number} keeps running; {stop} stops it.") from None


_COLUMNS = {
    "job": "Int64",
    "model": "string",
    "state": "string",
    "tokens": "Int64",
    "text (characters)": "Int64",
    "time (s)": "Float64",
    "question": "string",
}
_NOTHING_YET = "No background jobs yet: %%llm --bg starts one."
_QUESTION_CHARACTERS = 60


def _table(jobs: Iterable[Job[Any]]) -> Table:
    """One row a job, the oldest first; what is not counted yet is missing."""
    from nbllm.notebook.tables import make_table

    rows = [
        {
            "job": job.number,
            "model": job.model or None,
            "state": job.state,
            "tokens": job.tokens or None,
            "text (characters)": len(job.text),
            "time (s)": job.seconds,
            "question": _shortened(job.subject),
        }
        for job in jobs
    ]
    return make_table(rows, _COLUMNS, [] if rows else [_NOTHING_YET])


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUESTION_CHARACTERS else f"{line[: _QUESTION_CHARACTERS - 1]}…"
