"""How far a quantized model's predictions are from those of its source.

For each token of a text the Kullback-Leibler divergence of the next token's distribution, as
``llama-perplexity --kl-divergence`` computes it (``tools/perplexity/perplexity.cpp`` of llama.cpp):
the sum over the vocabulary of p (log p - log q), p being the source's. The source's distributions
are kept as that program keeps them: in 16 bits, from 16 below the largest logit on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nbllm.core.quantization import Quality

__all__ = ["Comparison", "References", "quality_of"]

Row = npt.NDArray[np.float32]

_DEPTH = 16.0
_STEPS = 65_535


class References:
    """A file of one model's distributions, a row for each token."""

    def __init__(self, path: Path, vocabulary_size: int) -> None:
        self._path = path
        self._kind = np.dtype(
            [("lowest", "<f4"), ("step", "<f4"), ("steps", "<u2", (vocabulary_size,))]
        )

    def write(self, rows: Iterable[Row]) -> None:
        """Keep the log-probabilities of these logits."""
        with self._path.open("wb") as file:
            for logits in rows:
                file.write(self._packed(log_softmax(logits)).tobytes())

    def read(self) -> Iterable[Row]:
        """The log-probabilities again, one row after another."""
        with self._path.open("rb") as file:
            while data := file.read(self._kind.itemsize):
                row = np.frombuffer(data, self._kind)[0]
                yield row["lowest"] + row["step"] * row["steps"].astype(np.float32)

    def _packed(self, logs: Row) -> npt.NDArray[np.void]:
        highest = float(logs.max())
        lowest = max(float(logs.min()), highest - _DEPTH)
        step = (highest - lowest) / _STEPS
        packed = np.zeros(1, self._kind)
        packed["lowest"], packed["step"] = lowest, step
        if step > 0:
            packed["steps"] = np.clip(np.rint((logs - lowest) / step), 0, _STEPS)
        return packed


@dataclass(slots=True)
class Comparison:
    """What one token's two distributions have in common."""

    divergence: float
    same_first: bool


def compare(reference: Row, logits: Row) -> Comparison:
    """The divergence of ``logits`` from the log-probabilities in ``reference``, in nats.

    Probabilities below e^-16, which were not kept exactly, are left out.
    """
    kept = reference > -_DEPTH
    logs, known = log_softmax(logits)[kept], reference[kept]
    divergence = float(np.sum(np.exp(known) * (known - logs)))
    return Comparison(max(0.0, divergence), int(reference.argmax()) == int(logits.argmax()))


def quality_of(comparisons: Iterable[Comparison]) -> Quality:
    """The figures over all tokens. Raises ``ValueError`` where there are none."""
    rows = list(comparisons)
    if not rows:
        raise ValueError("no tokens were compared")
    values = np.array([row.divergence for row in rows])
    spread = float(values.std(ddof=1)) if len(rows) > 1 else 0.0
    return Quality(
        tokens=len(rows),
        mean_divergence=float(values.mean()),
        divergence_error=spread / math.sqrt(len(rows)),
        divergence_999=float(np.quantile(values, 0.999)),
        same_first=sum(row.same_first for row in rows) / len(rows),
    )


def log_softmax(logits: Row) -> Row:
    """Logits as logarithms of probabilities."""
    shifted: Row = logits.astype(np.float32) - logits.max()
    shifted -= np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
    return shifted
