"""The answers in the background as a table."""

from __future__ import annotations

from collections.abc import Iterable

from nbllm.notebook.jobs.jobs import Job
from nbllm.notebook.tables import Table, make_table

__all__ = ["jobs_table"]

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


def jobs_table(jobs: Iterable[Job]) -> Table:
    """One row a job, the oldest first; what is not counted yet is missing."""
    rows = [
        {
            "job": job.number,
            "model": job.model or None,
            "state": job.state,
            "tokens": job.tokens or None,
            "text (characters)": len(job.text),
            "time (s)": job.seconds,
            "question": _shortened(job.question.text),
        }
        for job in jobs
    ]
    return make_table(rows, _COLUMNS, [] if rows else [_NOTHING_YET])


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUESTION_CHARACTERS else f"{line[: _QUESTION_CHARACTERS - 1]}…"
