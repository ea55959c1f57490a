"""The generations of a manager as tables: one row each, or one row a model and device."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pandas as pd

from nbllm.core.history import GenerationRecord
from nbllm.core.routing.route import Route, failure_words
from nbllm.core.saved_files import write
from nbllm.core.types import FinishReason
from nbllm.notebook.tables import Table, make_table

__all__ = ["SAVE_SUFFIXES", "save_stats", "side_by_side", "stats_summary", "stats_table"]

_ALONE = 0.1
"""What was beside others for less than this share of its time counts as alone."""


def side_by_side(records: Sequence[GenerationRecord]) -> list[bool]:
    """For each record whether another one ran on its device at the same time."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        spans[record.device].append(_span(record))
    shared = {device: _Shared(each) for device, each in spans.items()}
    return [_is_beside(_span(record), shared[record.device]) for record in records]


def _span(record: GenerationRecord) -> tuple[float, float]:
    began, timings = record.started.timestamp(), record.timings
    writing = len(record.token_counts) * record.interval_seconds
    whole = timings.total_seconds or (timings.first_token_seconds or 0.0) + writing
    return began, began + whole


def _is_beside(span: tuple[float, float], shared: _Shared) -> bool:
    began, ended = span
    return shared.until(ended) - shared.until(began) > _ALONE * (ended - began)


class _Shared:
    """The seconds at which two or more spans were under way, added up from the beginning."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        changes = sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])
        self._times = [time for time, _ in changes]
        self._running = list(accumulate(change for _, change in changes))
        steps = zip(self._times, self._times[1:], self._running, strict=False)
        lengths = (end - begin if count > 1 else 0.0 for begin, end, count in steps)
        self._before = list(accumulate(lengths, initial=0.0))

    def until(self, time: float) -> float:
        """The sum up to ``time``, which is that of a change."""
        return self._before[bisect_right(self._times, time) - 1]


SAVE_SUFFIXES = (".csv", ".json")
SHOWN_ROWS = 30
NOTHING_YET = "Nothing has been generated yet: ask a model with %%llm or await model.generate(…)."
_MIXED = (
    "Some answers were written side by side, which makes each of them slower: %llm_stats tells "
    "which, and %llm_plot shows them apart."
)

_COLUMNS = {
    "started": "object",
    "run": "string",
    "rows": "Int64",
    "model": "string",
    "router": "string",
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
    A run over many prompts is one row, from its first request to the end of its last one.
    "model" is the one that answered, "router" the one that was asked for it and what was tried.
    """
    groups = _by_run(records)
    hidden = len(groups) - SHOWN_ROWS
    shown = f"Showing the last {SHOWN_ROWS} of {len(groups):,} rows; the DataFrame has all of them."
    hiding = [shown] if hidden > 0 else []
    told = [*notes, *_routed(records), *hiding, *([] if records else [NOTHING_YET])]
    beside = dict(zip(map(id, records), side_by_side(records), strict=True))
    rows = [
        _run_row(group)
        if group[0].run
        else {**_row(group[0]), "side by side": beside[id(group[0])]}
        for group in groups
    ]
    table = make_table(
        rows,
        _COLUMNS,
        told,
        last_rows=SHOWN_ROWS,
        more=_PARTS,
        where_any=("rows", "side by side", "from cache", "cost (USD)"),
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
    told = [*notes, *_routed(records), *mixed, *([] if records else [NOTHING_YET])]
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


def _by_run(records: Sequence[GenerationRecord]) -> list[list[GenerationRecord]]:
    """Each alone, but those of a run together, at the place of the first."""
    groups: dict[int, list[GenerationRecord]] = {}
    for record in records:
        key = -record.run.number if record.run else len(groups)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _run_row(group: Sequence[GenerationRecord]) -> dict[str, Any]:
    """A run: its sums, and the speed of all that was written in its time."""
    run, first = group[0].run, min(group, key=lambda each: each.started)
    assert run is not None  # noqa: S101 - for the type checker: they were grouped by it
    seconds = max(_end(each) for each in group) - first.started.timestamp()
    answers = _known_sum(each.usage.completion_tokens for each in group)
    costs = [cost for each in group if (cost := each.usage.cost_usd) is not None]
    failed = Counter(each.error for each in group if each.error)
    return {
        "started": first.started,
        "run": run.title,
        "rows": sum(each.finish_reason is not FinishReason.CANCELLED for each in group),
        "model": first.route.router if first.route else first.model,
        "device": first.device,
        "prompt (tokens)": _known_sum(each.usage.prompt_tokens for each in group),
        "cached (tokens)": sum(each.usage.cached_tokens for each in group),
        "answer (tokens)": answers,
        "total (s)": seconds,
        "speed (tokens/s)": answers / seconds if answers and seconds > 0 else None,
        "cost (USD)": sum(costs) if costs else None,
        "error": ", ".join(f"{kind} ({count:,})" for kind, count in failed.most_common()) or None,
    }


def _end(record: GenerationRecord) -> float:
    return record.started.timestamp() + (record.timings.total_seconds or 0.0)


def _row(record: GenerationRecord) -> dict[str, Any]:
    usage, timings = record.usage, record.timings
    return {
        "started": record.started,
        "model": record.model,
        "router": str(record.route).removeprefix("via ") if record.route else None,
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


def _routed(records: Sequence[GenerationRecord]) -> list[str]:
    """A sentence for each router: who answered how often, and who failed by what."""
    routes = [record.route for record in records if record.route and not record.error]
    return [
        _router_words(name, [route for route in routes if route.router == name])
        for name in dict.fromkeys(route.router for route in routes)
    ]


def _router_words(name: str, routes: Sequence[Route]) -> str:
    answers = Counter(route.member for route in routes)
    failures = Counter(
        f"{each.member}: {failure_words(each.failure)}"
        for route in routes
        for each in route.failures
    )
    answered = ", ".join(f"{member} {count:,}" for member, count in answers.most_common())
    failed = ", ".join(f"{words} ({count:,})" for words, count in failures.most_common())
    return f"Answers of {name} by {answered}." + (f" Passed over: {failed}." if failed else "")


def _known_sum(counts: Iterable[int | None]) -> int | None:
    """The sum of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _p95(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return values[0] if values else None
    return quantiles(values, n=20, method="inclusive")[-1]
