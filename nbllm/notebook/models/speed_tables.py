"""What ``%llm_bench`` and ``%llm_tune`` measured, as tables and as figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.core.measurements import Benchmark, Measurement
from nbllm.core.quantization import ANSWER_TOKENS, PROMPT_TOKENS, Tuning, pareto
from nbllm.notebook.tables import Table, make_table, mib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bench_figure", "bench_table", "tune_figure", "tune_table"]

_BENCH_COLUMNS = {
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
    return make_table(lines, _BENCH_COLUMNS, notes, where_any=("noisy",))


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


_TUNE_COLUMNS = {
    "type": "string",
    "chosen": "boolean",
    "file size (MiB)": "Float64",
    "bits per weight": "Float64",
    "changed (%)": "Float64",
    "KL divergence (nats)": "Float64",
    "KL error (nats)": "Float64",
    "KL 99.9% (nats)": "Float64",
    "prefill (tokens/s)": "Float64",
    "decode (tokens/s)": "Float64",
    "request (s)": "Float64",
    "Pareto": "boolean",
}
_GREY = "#999999"


def tune_table(tuning: Tuning) -> Table:
    """A row for each type, the model as it was first; notes explain the columns."""
    best_ones = pareto(tuning.types)
    rows = [
        {
            "type": row.label,
            "chosen": row is tuning.best,
            "file size (MiB)": mib(row.size_bytes),
            "bits per weight": row.bits_per_weight,
            "changed (%)": 100 * row.changed,
            "KL divergence (nats)": row.divergence,
            "KL error (nats)": row.quality.divergence_error if row.quality else 0.0,
            "KL 99.9% (nats)": row.quality.divergence_999 if row.quality else 0.0,
            "prefill (tokens/s)": row.prefill,
            "decode (tokens/s)": row.decode,
            "request (s)": row.request_seconds,
            "Pareto": row in best_ones,
        }
        for row in tuning.types
    ]
    tokens = max((row.quality.tokens for row in tuning.types if row.quality), default=0)
    notes = [
        f"Compared with {tuning.source.label}, the model as it is, over {tokens:,} tokens of "
        "conversations: changed, the share whose likeliest successor is another; KL divergence, "
        "its mean, standard error and 99.9th percentile.",
        f"Request: {PROMPT_TOKENS} tokens of prompt and {ANSWER_TOKENS} of answer. Pareto: no "
        "other type is both faster and nearer to the source.",
    ]
    going = ("KL error (nats)", "KL 99.9% (nats)", "bits per weight", "Pareto")
    return make_table(rows, _TUNE_COLUMNS, notes, first_to_go=going)


def tune_figure(tuning: Tuning) -> Figure:
    """Divergence over the speed of a whole request, with the Pareto front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    front = pareto(tuning.types)
    groups = {
        "chosen": (_ORANGE, [tuning.best]),
        "Pareto front": (_BLUE, [row for row in front if row is not tuning.best]),
        "others": (_GREY, [r for r in tuning.types if r not in front and r is not tuning.best]),
    }
    for label, (colour, rows) in groups.items():
        if not rows:
            continue
        speeds = [(PROMPT_TOKENS + ANSWER_TOKENS) / row.request_seconds for row in rows]
        axes.scatter(speeds, [r.divergence for r in rows], color=colour, label=label, zorder=3)
        for row, speed in zip(rows, speeds, strict=True):
            place: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
            axes.annotate(row.label, (speed, row.divergence), color=colour, **place)
    axes.set_xlabel(f"tokens/s over {PROMPT_TOKENS} of prompt and {ANSWER_TOKENS} of answer")
    axes.set_ylabel("mean KL divergence (nats)")
    axes.margins(x=0.12, y=0.15)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_title(f"{tuning.info.name}: fidelity and speed by quantization type", fontsize=10)
    return figure
