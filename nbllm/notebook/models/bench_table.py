"""What ``%llm_bench`` measured, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nbllm.core.measurements import Benchmark, Measurement
from nbllm.notebook.tables import Table, make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bench_figure", "bench_table"]

_COLUMNS = {
    "phase": "string",
    "threads": "Int64",
    "batch (tokens)": "Int64",
    "sequences": "Int64",
    "speed (tokens/s)": "Float64",
    "of the best (%)": "Float64",
    "noisy": "boolean",
}
_BLUE, _ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito: told apart by colour-blind readers too


def bench_table(found: Benchmark) -> Table:
    """One row for each measurement; "of the best" compares it with the best of its phase.

    Where other processes disturbed it, each row is marked as "noisy", and a note says by whom.
    """
    rows = found.measured
    best = {
        kind: max(row.tokens_per_second for row in rows if row.kind == kind)
        for kind in {row.kind for row in rows}
    }
    lines = [
        {
            "phase": row.kind,
            "threads": row.threads,
            "batch (tokens)": row.batch,
            "sequences": row.sequences,
            "speed (tokens/s)": row.tokens_per_second,
            "of the best (%)": 100 * row.tokens_per_second / best[row.kind],
            "noisy": found.noisy,
        }
        for row in rows
    ]
    notes = [_noise_words(found)] if found.noisy else []
    return make_table(lines, _COLUMNS, notes, where_any=("noisy",))


def bench_figure(model: str, found: Benchmark) -> Figure:
    """Speed over threads, and over sequences; dashed where it is noisy."""
    from matplotlib.figure import Figure

    measured, style = found.measured, "--" if found.noisy else "-"
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    by_threads, by_sequences = figure.subplots(1, 2)
    alone = [row for row in measured if row.sequences == 1]
    whole = max(row.batch for row in alone)
    _line(by_threads, "prefill", _ORANGE, style, _points(alone, "prefill", "threads", batch=whole))
    _line(by_threads, "decode", _BLUE, style, _points(alone, "decode", "threads"))
    threads = max((row for row in measured if row.kind == "decode"), key=lambda row: row.sequences)
    together = [row for row in measured if row.threads == threads.threads]
    _line(by_sequences, "decode", _BLUE, style, _points(together, "decode", "sequences"))
    by_threads.set_xlabel("CPU threads")
    by_threads.legend(frameon=False)
    by_sequences.set_xlabel("sequences decoded at the same time")
    by_threads.set_ylabel("tokens/s")
    by_sequences.set_ylabel("tokens/s, all together")
    for axes in (by_threads, by_sequences):
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.suptitle(
        f"{model} on this machine{chr(10) + _noise_words(found) if found.noisy else ''}"
    )
    return figure


def _noise_words(found: Benchmark) -> str:
    return f"Noisy: other processes kept {found.other_cores:.1f} cores busy."


def _points(
    rows: Iterable[Measurement], kind: str, by: str, batch: int | None = None
) -> list[tuple[int, float]]:
    return sorted(
        (getattr(row, by), row.tokens_per_second)
        for row in rows
        if row.kind == kind and batch in (None, row.batch)
    )


def _line(
    axes: Axes, label: str, colour: str, style: str, points: Sequence[tuple[int, float]]
) -> None:
    counts, speeds = zip(*points, strict=True)
    axes.plot(counts, speeds, marker="o", linestyle=style, color=colour, label=label)
    axes.set_xticks(sorted({*map(int, axes.get_xticks()), *counts} & set(counts)))
