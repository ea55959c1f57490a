"""A batch's rows as they end, how far it is, and what an earlier run has left of a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from nbllm.batches.journal import Journal
from nbllm.core.results import GenerationResult
from nbllm.core.types import GenerationRequest

__all__ = [
    "BatchProgress",
    "BatchRow",
    "BatchTick",
    "error_words",
    "grouped_reasons",
    "kept_row",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One row that is finished: its ``result``, or why there is none.

    ``resumed`` says that an earlier run had asked it, ``repeated`` that an equal row of this run
    had; neither cost anything now.
    """

    index: int
    result: GenerationResult | None = None
    error: str = ""
    resumed: bool = False
    repeated: bool = False

    @property
    def text(self) -> str:
        """The answer's text, empty where there is none."""
        return self.result.text if self.result else ""


@dataclass(slots=True)
class BatchProgress:
    """How far a run is; ``cost_usd`` is None while no price is known.

    ``vendor_state`` is what the vendor says of the batches that it works on, "" for other runs.
    """

    total: int | None = None
    done: int = 0
    failed: int = 0
    resumed: int = 0
    repeated: int = 0
    asked: int = 0
    running: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    vendor_state: str = ""
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, row: BatchRow) -> None:
        """Count a finished row."""
        self.done += 1
        self.resumed += row.resumed
        self.repeated += row.repeated
        if row.error:
            self.failed += 1
            self.reasons[_kind(row.error)] += 1
        elif row.result is not None and not row.resumed and not row.repeated:
            usage = row.result.usage
            self.prompt_tokens += usage.prompt_tokens or 0
            self.completion_tokens += usage.completion_tokens or 0
            if usage.cost_usd is not None:
                self.cost_usd = (self.cost_usd or 0.0) + usage.cost_usd


BatchTick: TypeAlias = Callable[[BatchProgress, BatchRow | None], None]
"""Takes how far a run is, and the row that has ended last."""


def kept_row(
    journal: Journal, key: str, request: GenerationRequest, *, retry_failed: bool
) -> BatchRow | None:
    """The row as an earlier run left it, None where it is to be asked. Its index is not set."""
    entry = journal.entries.get(key)
    if entry is None or (entry.error and retry_failed):
        return None
    if entry.error:
        return BatchRow(index=0, error=entry.error, resumed=True)
    return BatchRow(index=0, result=replace(entry.result(), schema=request.schema), resumed=True)


def error_words(error: Exception) -> str:
    """The error of a row."""
    return f"{type(error).__name__}: {error}"


def _kind(words: str) -> str:
    """What errors have in common: the kind, and the first line without its numbers."""
    first = words.splitlines()[0] if words else ""
    return re.sub(r"\d+", "#", first)[:160]


def grouped_reasons(reasons: Counter[str]) -> str:
    """The reasons that are met most, with how often."""
    return "; ".join(f"{count:,} times {kind}" for kind, count in reasons.most_common(3))
