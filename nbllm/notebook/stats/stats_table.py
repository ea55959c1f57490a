"""The generations of a manager as tables: one row each, or one row a model and device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pandas as pd

from nbllm.core.history import GenerationRecord
from nbllm.core.saved_files import write
from nbllm.core.types import FinishReason
from nbllm.notebook.stats.beside import side_by_side
from nbllm.notebook.tables import Table, make_table

__all__ = ["SAVE_SUFFIXES", "save_stats", "stats_summary", "stats_table"]

SAVE_SUFFIXES = (".csv", ".json")
SHOWN_ROWS = 30
NOTHING_YET = "Nothing has been generated yet: ask a model with %%llm or await model.generate(…)."
_MIXED = (
    "Some answers were written side by side, which makes each of them slower: %llm_stats tells "
    "which, and %llm_plot shows them apart."
)

_COLUMNS = {
    "started": "object",
    "model": "string",
    "device": "string",
    "prompt (tokens)": "Int64",
    "cached (tokens)": "Int64",
    "answer (tokens)": "Int64",
    "queue (s)": "Float64",
    "prompt (s)": "Float64",
    "first token (s)": "Float64",
    "decode (s)": "Float64",
    "total (s)": "Float64",
    "speed (tokens/s)": "Float64",
    "side by side": "boolean",
    "from cache": "boolean",
    "cost (USD)": "Float64",
    "finish": "string",
    "error": "string",
}
_PARTS = ("queue (s)", "prompt (s)", "decode (s)")
"""What the time to the first token and the total are made of."""
_SUMMARY_COLUMNS = {
    "model": "string",
    "device": "string",
    "generations": "Int64",
    "from cache": "Int64",
    "stopped": "Int64",
    "failed": "Int64",
    "prompt (tokens)": "Int64",
    "cached (%)": "Float64",
    "answer (tokens)": "Int64",
    "first token, median (s)": "Float64",
    "first token, 95 % (s)": "Float64",
    "speed, median (tokens/s)": "Float64",
    "speed, 95 % (tokens/s)": "Float64",
    "total (s)": "Float64",
    "cost (USD)": "Float64",
}
_WHERE_ANY = ("from cache", "stopped", "failed", "cost (USD)")


def stats_table(records: Sequence[GenerationRecord], notes: Iterable[str] = ()) -> Table:
    """One row for each generation, the oldest first; times in seconds.

    "first token" counts from the request, "speed" is that of decoding after the first token;
    "side by side" says that others ran on the device at the same time, which makes it slower.
    """
    hidden = len(records) - SHOWN_ROWS
    shown = (
        f"Showing the last {SHOWN_ROWS} of {len(records):,} rows; the DataFrame has all of them."
    )
    told = [*notes, *([shown] if hidden > 0 else []), *([] if records else [NOTHING_YET])]
    beside = side_by_side(records)
    rows = [
        {**_row(each), "side by side": with_others}
        for each, with_others in zip(records, beside, strict=True)
    ]
    table = make_table(
        rows,
        _COLUMNS,
        told,
        last_rows=SHOWN_ROWS,
        more=_PARTS,
        where_any=("side by side", "from cache", "cost (USD)"),
        first_to_go=(
            "cached (tokens)",
            "prompt (tokens)",
            "finish",
            "device",
            "total (s)",
            "started",
            "answer (tokens)",
        ),
    )
    table["started"] = pd.to_datetime(table["started"], utc=True)
    if records:
        table["started"] = table["started"].dt.tz_convert(records[-1].started.tzinfo)
    return table


def stats_summary(records: Sequence[GenerationRecord], notes: Iterable[str] = ()) -> Table:
    """One row for each model and device: counts, totals, medians and 95th percentiles."""
    groups: dict[tuple[str, str], list[GenerationRecord]] = defaultdict(list)
    for record in records:
        groups[record.model, record.device].append(record)
    rows = [_summary_row(*key, group) for key, group in sorted(groups.items())]
    mixed = [_MIXED] if any(side_by_side(records)) else []
    told = [*notes, *mixed, *([] if records else [NOTHING_YET])]
    more, where_any = ("speed, 95 % (tokens/s)", "total (s)"), _WHERE_ANY
    going = (
        "cached (%)",
        "first token, 95 % (s)",
        "prompt (tokens)",
        "answer (tokens)",
        "device",
        "generations",
        "stopped",
    )
    return make_table(
        rows, _SUMMARY_COLUMNS, told, more=more, where_any=where_any, first_to_go=going
    )


def save_stats(table: Table, path: Path) -> None:
    """Write all rows to a ``.csv`` or ``.json`` file; one that is there is replaced.

    Raises ``OSError``.
    """
    frame = pd.DataFrame(table)
    if path.suffix == ".csv":
        write(path, frame.to_csv(index=False))
    else:
        write(path, frame.to_json(orient="records", date_format="iso", indent=2))


def _row(record: GenerationRecord) -> dict[str, Any]:
    usage, timings = record.usage, record.timings
    return {
        "started": record.started,
        "model": record.model,
        "device": record.device,
        "prompt (tokens)": usage.prompt_tokens,
        "cached (tokens)": None if usage.prompt_tokens is None else usage.cached_tokens,
        "answer (tokens)": usage.completion_tokens,
        "queue (s)": timings.queue_seconds,
        "prompt (s)": timings.prompt_seconds,
        "first token (s)": timings.first_token_seconds,
        "decode (s)": timings.decode_seconds,
        "total (s)": timings.total_seconds,
        "speed (tokens/s)": record.tokens_per_second,
        "from cache": record.from_cache,
        "cost (USD)": usage.cost_usd,
        "finish": str(record.finish_reason),
        "error": record.error,
    }


def _summary_row(model: str, device: str, group: Sequence[GenerationRecord]) -> dict[str, Any]:
    first = [t for each in group if (t := each.timings.first_token_seconds) is not None]
    speeds = [speed for each in group if (speed := each.tokens_per_second) is not None]
    costs = [cost for each in group if (cost := each.usage.cost_usd) is not None]
    prompt = _known_sum(each.usage.prompt_tokens for each in group)
    cached = sum(each.usage.cached_tokens for each in group)
    return {
        "model": model,
        "device": device,
        "generations": len(group),
        "from cache": sum(each.from_cache for each in group),
        "stopped": sum(each.stopped for each in group),
        "failed": sum(each.finish_reason is FinishReason.FAILED for each in group),
        "prompt (tokens)": prompt,
        "cached (%)": 100 * cached / prompt if prompt else None,
        "answer (tokens)": _known_sum(each.usage.completion_tokens for each in group),
        "first token, median (s)": median(first) if first else None,
        "first token, 95 % (s)": _p95(first),
        "speed, median (tokens/s)": median(speeds) if speeds else None,
        "speed, 95 % (tokens/s)": _p95(speeds),
        "total (s)": sum(each.timings.total_seconds or 0.0 for each in group),
        "cost (USD)": sum(costs) if costs else None,
    }


def _known_sum(counts: Iterable[int | None]) -> int | None:
    """The sum of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _p95(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return values[0] if values else None
    return quantiles(values, n=20, method="inclusive")[-1]
