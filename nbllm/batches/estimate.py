"""What the rest of a run would take, by the rows that were asked first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nbllm.batches.batch_rows import BatchRow
from nbllm.core.words import duration_words

__all__ = ["Estimate", "estimate"]

_QUANTILE = 2.8
"""Student's t for five values, so that 19 of 20 means lie within so many standard errors."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Ranges for ``rows`` rows, None where nothing is known.

    Tokens of prompts and answers, seconds, and US dollars.
    """

    rows: int
    prompt_tokens: Range | None
    completion_tokens: Range | None
    seconds: Range | None
    cost_usd: Range | None

    def by_batch_api(self) -> Estimate:
        """The same by a vendor's batch API: for half the price, after a time that nobody knows."""
        halves = self.cost_usd and (self.cost_usd[0] / 2, self.cost_usd[1] / 2)
        return replace(self, cost_usd=halves, seconds=None)

    @property
    def words(self) -> str:
        """All of it, as a sentence."""
        if self.prompt_tokens is None and self.seconds is None:
            return f"What the other {self.rows:,} rows would take is not known: none was asked now."
        answers = self.completion_tokens
        parts = [
            f"{_counted(self.prompt_tokens)} tokens of prompts" if self.prompt_tokens else "",
            f"{_counted(answers)} of answers"
            if (answers := self.completion_tokens) and any(answers)
            else "",
            _between(*(duration_words(each) for each in self.seconds)) if self.seconds else "",
        ]
        told = ", ".join(part for part in parts if part)
        return f"The other {self.rows:,} rows would take about {told}; {self._price}."

    @property
    def _price(self) -> str:
        if self.cost_usd is None:
            return "the price is not known"
        if not any(self.cost_usd):
            return "free of charge"
        return f"{_between(*(f'{each:.2f}' for each in self.cost_usd))} US dollars"


def estimate(
    sample: Sequence[BatchRow],
    rows: int,
    *,
    seconds: float,
    width: int,
    longer: float = 1.0,
) -> Estimate:
    """For ``rows`` more rows, by a ``sample`` that took ``seconds`` with ``width`` at a time.

    Rows that were not asked, or failed, say nothing. ``longer`` is how many times as long as the
    sample's the prompts of the rest are, on average.
    """
    results = [
        row.result for row in sample if row.result is not None and not (row.resumed or row.repeated)
    ]
    usages = [result.usage for result in results]
    prompts = _range((usage.prompt_tokens for usage in usages), rows)
    each = [result.timings.total_seconds for result in results]
    alone = _range(each, rows)
    if results and alone is not None:
        whole = rows * seconds / len(results)
        fastest = alone[0] / max(1, min(width, rows))
        times: Range | None = (min(fastest, whole), max(fastest, whole))
    else:
        times = (rows * seconds / len(results),) * 2 if results else None
    return Estimate(
        rows=rows,
        prompt_tokens=None if prompts is None else (prompts[0] * longer, prompts[1] * longer),
        completion_tokens=_range((usage.completion_tokens for usage in usages), rows),
        seconds=times,
        cost_usd=_range((usage.cost_usd for usage in usages), rows),
    )


def _range(values: Iterable[float | None], times: int) -> Range | None:
    """Where the sum of ``times`` such values probably is; None where one is not known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    spread = math.sqrt(sum((each - mean) ** 2 for each in known) / max(1, len(known) - 1))
    error = _QUANTILE * spread / math.sqrt(len(known))
    low, high = max(mean - error, min(known)), min(mean + error, max(known))
    return times * low, times * high


def _counted(limits: Range) -> str:
    return _between(*(f"{_rounded(each):,}" for each in limits))


def _rounded(number: float) -> int:
    """Three digits are all that an estimate knows."""
    digits = max(0, len(str(int(number))) - 3)
    return round(round(number, -digits))


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
