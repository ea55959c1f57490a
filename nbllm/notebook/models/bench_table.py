"""What ``%llm_bench`` measured, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from nbllm.core.measurements import Measurement
from nbllm.notebook.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bench_figure", "bench_table"]

_COLUMNS = {
    "work": "string",
    "threads": "Int64",
    "tokens at a time": "Int64",
    "answers at a time": "Int64",
    "speed (tokens/s)": "Float64",
    "of the best (%)": "Float64",
}
_WORDS = {"prefill": "reading a prompt", "decode": "writing"}
_BLUE, _ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito: told apart by colour-blind readers too


def bench_table(measured: Iterable[Measurement]) -> Table:
    """One row for each measurement; the last column compares it with the best of its kind."""
    rows = list(measured)
    best = {
        kind: max(row.tokens_per_second for row in rows if row.kind == kind)
        for kind in {row.kind for row in rows}
    }
    lines = [
        {
            "work": _WORDS[row.kind],
            "threads": row.threads,
            "tokens at a time": row.batch,
            "answers at a time": row.sequences,
            "speed (tokens/s)": row.tokens_per_second,
            "of the best (%)": 100 * row.tokens_per_second / best[row.kind],
        }
        for row in rows
    ]
    return Table(pd.DataFrame(lines, columns=list(_COLUMNS), dtype=object).astype(_COLUMNS))


def bench_figure(model: str, measured: Sequence[Measurement]) -> Figure:
    """Speed over threads, and over answers written at the same time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    by_threads, by_answers = figure.subplots(1, 2)
    alone = [row for row in measured if row.sequences == 1]
    whole = max(row.batch for row in alone)
    _line(by_threads, "reading", _ORANGE, _points(alone, "prefill", "threads", batch=whole))
    _line(by_threads, "writing", _BLUE, _points(alone, "decode", "threads"))
    threads = max((row for row in measured if row.kind == "decode"), key=lambda row: row.sequences)
    together = [row for row in measured if row.threads == threads.threads]
    _line(by_answers, "writing", _BLUE, _points(together, "decode", "sequences"))
    by_threads.set_xlabel("CPU threads")
    by_threads.legend(frameon=False)
    by_answers.set_xlabel("answers at the same time")
    by_threads.set_ylabel("tokens/s")
    by_answers.set_ylabel("tokens/s, all together")
    for axes in (by_threads, by_answers):
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.suptitle(f"{model} on this machine")
    return figure


def _points(
    rows: Iterable[Measurement], kind: str, by: str, batch: int | None = None
) -> list[tuple[int, float]]:
    return sorted(
        (getattr(row, by), row.tokens_per_second)
        for row in rows
        if row.kind == kind and batch in (None, row.batch)
    )


def _line(axes: Axes, label: str, colour: str, points: Sequence[tuple[int, float]]) -> None:
    counts, speeds = zip(*points, strict=True)
    axes.plot(counts, speeds, marker="o", color=colour, label=label)
    axes.set_xticks(sorted({*map(int, axes.get_xticks()), *counts} & set(counts)))
