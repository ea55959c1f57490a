"""The quantization of a model that suits this machine, and how later loads come to use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbllm.core.hardware.resources import CpuInfo
from nbllm.core.measurements import Benchmark, read_tuned
from nbllm.core.quantization import Quality
from nbllm.core.types import ModelInfo

__all__ = [
    "ANSWER_TOKENS",
    "PROMPT_TOKENS",
    "TunedType",
    "Tuning",
    "best_type",
    "pareto",
    "tuned_entry",
]

PROMPT_TOKENS, ANSWER_TOKENS = 256, 256
"""The request by whose time types are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedType:
    """One quantization as it was measured; of the source itself ``quality`` is None.

    Speeds are in tokens a second: prefill of one prompt, decode of one answer.
    """

    label: str
    size_bytes: int
    bits_per_weight: float
    quality: Quality | None
    benchmark: Benchmark

    @property
    def prefill(self) -> float:
        """The fastest of the thread counts."""
        return self._fastest("prefill")

    @property
    def decode(self) -> float:
        """The fastest of the thread counts."""
        return self._fastest("decode")

    @property
    def request_seconds(self) -> float:
        """The time of a request of ``PROMPT_TOKENS`` and ``ANSWER_TOKENS``."""
        return PROMPT_TOKENS / self.prefill + ANSWER_TOKENS / self.decode

    @property
    def changed(self) -> float:
        """The share of tokens whose likeliest successor is another than the source's."""
        return 1 - self.quality.same_first if self.quality else 0.0

    @property
    def divergence(self) -> float:
        """The mean divergence from the source, in nats."""
        return self.quality.mean_divergence if self.quality else 0.0

    def _fastest(self, kind: str) -> float:
        rows = self.benchmark.measured
        return max(row.tokens_per_second for row in rows if row.kind == kind and row.sequences == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was measured of a model's quantizations, the source first, and what was chosen.

    ``best`` is the fastest type that changes at most the share ``max_changed`` of the likeliest
    tokens, the source where none is faster. ``path`` is the file that later loads use; where the
    measurement was ``noisy`` nothing was kept, and it is the model's own.
    """

    info: ModelInfo
    types: tuple[TunedType, ...]
    max_changed: float
    best: TunedType
    path: Path
    noisy: bool

    @property
    def source(self) -> TunedType:
        """The model as it was."""
        return self.types[0]

    def __repr__(self) -> str:
        return f"<Tuning of {self.info.name!r}: {self.best.label} of {len(self.types)} types>"


def best_type(types: Sequence[TunedType], max_changed: float) -> TunedType:
    """The fastest within the rule; the first, the source, is always within it."""
    able = [row for row in types if row.changed <= max_changed]
    return min(able, key=lambda row: row.request_seconds)


def pareto(types: Sequence[TunedType]) -> list[TunedType]:
    """Those that no other one is both faster and nearer to the source than."""
    return [
        row
        for row in types
        if not any(
            other.request_seconds < row.request_seconds and other.divergence < row.divergence
            for other in types
        )
    ]


def tuned_entry(info: ModelInfo, cpu: CpuInfo) -> ModelInfo:
    """The entry with the file that ``%llm_tune`` chose for it on this machine, if it did."""
    if info.path is None:
        return info
    tuned = read_tuned(info.path, cpu)
    if tuned is None:
        return info
    return replace(
        info,
        path=tuned.path,
        quantization=tuned.label.lower(),
        size_bytes=tuned.size_bytes,
        tuned_from=info.path,
    )
