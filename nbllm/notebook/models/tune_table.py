"""What ``%llm_tune`` measured, as a table and as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.core.quantization import ANSWER_TOKENS, PROMPT_TOKENS, Tuning, pareto
from nbllm.notebook.tables import Table, make_table, mib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["tune_figure", "tune_table"]

_COLUMNS = {
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
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"


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
    return make_table(rows, _COLUMNS, notes, first_to_go=going)


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
