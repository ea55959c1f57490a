"""What ``%llm_bench`` and ``%llm_tune`` measured, as tables and as figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.core.measurements import (
    ANSWER_TOKENS,
    PROMPT_TOKENS,
    Benchmark,
    ContextMeasurement,
    Measurement,
    MeasurementKind,
)
from nbllm.core.quantization import TunedType, Tuning, pareto
from nbllm.notebook.tables import Table, make_table, mib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbllm.notebook.stats.figure import LlmFigure

__all__ = ["bench_figure", "bench_table", "tune_figure", "tune_table"]

_BENCH_COLUMNS = {
    "phase": "string",
    "threads": "Int64",
    "batch (tokens)": "Int64",
    "sequences": "Int64",
    "prompt (tokens)": "Int64",
    "flash attention": "boolean",
    "speed (tokens/s)": "Float64",
    "of the best (%)": "Float64",
    "noisy": "boolean",
}


def bench_table(found: Benchmark) -> Table:
    """One row for each measurement; "of the best" compares it with the best of its phase.

    The settings of a context were measured with a prompt, and are compared among themselves. Where
    other processes disturbed it, each row is marked as "noisy", and a note says by whom.
    """
    rows = [*_ranked(_thread_rows(found)), *_ranked(_context_rows(found))]
    lines = [{**row, "noisy": found.noisy} for row in rows]
    notes = [_noise_words(found)] if found.noisy else []
    seldom = ("noisy", "prompt (tokens)", "flash attention")
    return make_table(lines, _BENCH_COLUMNS, notes, where_any=seldom)


def _thread_rows(found: Benchmark) -> list[dict[str, Any]]:
    return [
        {
            "phase": row.kind,
            "threads": row.threads,
            "batch (tokens)": row.batch,
            "sequences": row.sequences,
            "speed (tokens/s)": row.tokens_per_second,
        }
        for row in found.measured
    ]


def _context_rows(found: Benchmark) -> list[dict[str, Any]]:
    """The prefill with each settings, and the decode with each kind of attention."""
    prefills = [
        _context_row(row, "prefill", found.threads.batch, row.settings.batch_tokens)
        for row in found.contexts
    ]
    decodes = {
        row.settings.flash_attention: _context_row(row, "decode", found.threads.decode, 1)
        for row in found.contexts
    }
    return [*prefills, *decodes.values()]


def _context_row(
    row: ContextMeasurement, phase: MeasurementKind, threads: int, batch: int
) -> dict[str, Any]:
    return {
        "phase": phase,
        "threads": threads,
        "batch (tokens)": batch,
        "sequences": 1,
        "prompt (tokens)": row.behind,
        "flash attention": row.settings.flash_attention,
        "speed (tokens/s)": row.prefill if phase == "prefill" else row.decode,
    }


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their speed as a share of the best of their phase."""
    best = dict[str, float]()
    for row in rows:
        best[row["phase"]] = max(best.get(row["phase"], 0.0), row["speed (tokens/s)"])
    return [
        {**row, "of the best (%)": 100 * row["speed (tokens/s)"] / best[row["phase"]]}
        for row in rows
    ]


def bench_figure(model: str, found: Benchmark) -> LlmFigure:
    """Speed over threads, and over sequences; dashed where it is noisy."""
    from nbllm.notebook.stats.figure import THEMES, LlmFigure

    measured, style = found.measured, "--" if found.noisy else "-"
    figure = LlmFigure(8.0, 3.4, THEMES["auto"])
    by_threads, by_sequences = figure.subplots(1, 2)
    figure.style(by_threads, f"{model} on this machine", x="CPU threads", y="tokens/s")
    figure.style(
        by_sequences, "", x="sequences decoded at the same time", y="tokens/s, all together"
    )
    if found.noisy:
        figure.suptitle(_noise_words(found), fontsize=10, color=figure.palette.text)
    blue, orange = figure.palette.of(0), figure.palette.of(1)
    alone = [row for row in measured if row.sequences == 1]
    whole = max(row.batch for row in alone)
    _line(by_threads, "prefill", orange, style, _points(alone, "prefill", "threads", batch=whole))
    _line(by_threads, "decode", blue, style, _points(alone, "decode", "threads"))
    threads = max((row for row in measured if row.kind == "decode"), key=lambda row: row.sequences)
    together = [row for row in measured if row.threads == threads.threads]
    _line(by_sequences, "decode", blue, style, _points(together, "decode", "sequences"))
    figure.legend_of(by_threads)
    for axes in (by_threads, by_sequences):
        axes.set_ylim(bottom=0)
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
_LABEL = (0.1, 0.06)
"""How close two points are whose labels would touch, as shares of the axes."""


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


def tune_figure(tuning: Tuning) -> LlmFigure:
    """Divergence over the speed of a whole request, with the Pareto front as a line."""
    from nbllm.notebook.stats.figure import THEMES, LlmFigure

    figure = LlmFigure(8.0, 4.0, THEMES["auto"])
    axes = figure.subplots()
    figure.style(
        axes,
        f"{tuning.info.name}: fidelity and speed by quantization type",
        x=f"tokens/s of a request ({PROMPT_TOKENS} tokens of prompt, {ANSWER_TOKENS} of answer)",
        y="mean KL divergence (nats)",
    )
    front, palette = pareto(tuning.types), figure.palette
    line = sorted((_request_speed(row), row.divergence) for row in front)
    axes.plot(*zip(*line, strict=True), color=palette.of(0), alpha=0.5, linewidth=1)
    groups = {
        "chosen": (palette.of(1), "D", [tuning.best]),
        "Pareto front": (palette.of(0), "o", [row for row in front if row is not tuning.best]),
        "others": (
            palette.muted,
            "s",
            [row for row in tuning.types if row not in front and row is not tuning.best],
        ),
    }
    for label, (colour, marker, rows) in groups.items():
        points = [(_request_speed(row), row.divergence) for row in rows]
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(xs, ys, color=colour, marker=marker, label=label, zorder=3)
    axes.margins(x=0.12, y=0.15)
    figure.legend_of(axes)
    _name_points(axes, tuning.types, palette.text)
    return figure


def _request_speed(row: TunedType) -> float:
    return (PROMPT_TOKENS + ANSWER_TOKENS) / row.request_seconds


def _name_points(axes: Axes, rows: Sequence[TunedType], colour: str) -> None:
    """Write a label beside each point, those of points that lie close alternately on both sides."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (row.divergence, _request_speed(row))):
        point = _request_speed(row), row.divergence
        x, y = (point[0] - left) / (right - left), (point[1] - low) / (high - low)
        near = sum(abs(x - a) < _LABEL[0] and abs(y - b) < _LABEL[1] for a, b in taken)
        taken.append((x, y))
        offset, side = ((6, 4), "left") if near % 2 == 0 else ((-6, 4), "right")
        axes.annotate(
            row.label,
            point,
            xytext=(offset[0], offset[1] - 11 * (near // 2)),
            textcoords="offset points",
            ha=side,
            fontsize=9,
            color=colour,
        )
