"""What the rest of a run is said to take."""

from __future__ import annotations

from typing import Any

from nbllm.batches.batch_rows import BatchRow
from nbllm.batches.estimate import estimate
from nbllm.core.types import FinishReason, GenerationResult, Timings, Usage


def row(index: int = 0, seconds: float = 2.0, **usage: Any) -> BatchRow:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.01, **usage}
    result = GenerationResult(
        text="x",
        model="m",
        finish_reason=FinishReason.STOP,
        usage=Usage(**usage),
        timings=Timings(total_seconds=seconds),
    )
    return BatchRow(index=index, result=result)


def test_equal_rows_leave_no_doubt() -> None:
    found = estimate([row() for _ in range(5)], 995, seconds=10.0, width=1)
    assert found.words == (
        "The other 995 rows would take about 99,500 tokens of prompts, 9,950 of answers, 33 min; "
        "9.95 US dollars."
    )


def test_rows_that_differ_give_ranges_within_what_was_seen() -> None:
    rows = [row(completion_tokens=n, cost_usd=n / 1000) for n in (10, 20, 30, 40, 50)]
    found = estimate(rows, 100, seconds=4.0, width=5)
    assert found.completion_tokens is not None
    low, high = found.completion_tokens
    assert 1_000 <= low < 3_000 < high <= 5_000
    assert found.seconds == (40.0, 80.0)  # five at a time, or as the sample took
    assert " to " in found.words


def test_prompts_count_by_their_length() -> None:
    found = estimate([row()] * 5, 100, seconds=1.0, width=1, longer=2.5)
    assert found.prompt_tokens == (25_000.0, 25_000.0)


def test_what_was_not_asked_tells_nothing() -> None:
    kept = BatchRow(index=0, result=row().result, resumed=True)
    found = estimate([kept, BatchRow(index=1, error="x")], 10, seconds=1.0, width=1)
    assert "not known" in found.words


def test_free_and_unknown_prices_are_told_apart() -> None:
    free = estimate([row(cost_usd=0.0)], 10, seconds=1.0, width=1)
    unknown = estimate([row(cost_usd=None)], 10, seconds=1.0, width=1)
    assert free.words.endswith("free of charge.")
    assert unknown.words.endswith("the price is not known.")
