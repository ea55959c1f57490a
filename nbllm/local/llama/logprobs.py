"""Log-probabilities of the tokens of an answer."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nbllm.local.ipc.events import LogprobRecord
from nbllm.local.llama.vocabulary import Vocabulary

__all__ = ["Logprobs"]


class Logprobs:
    """Collects a record for each token: itself and the ``top`` likeliest, each with its bytes.

    The probabilities are the model's own: the softmax of the logits before any sampler, bias or
    grammar changes them, as in llama.cpp's server. ``records`` is sent with the answer's end.
    """

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary = vocabulary
        self._top = min(top, vocabulary.size)
        self.records: list[LogprobRecord] = []

    def add(self, logits: NDArray[np.float32], token: int) -> None:
        """Note that ``token`` was chosen where the model said ``logits``."""
        highest = logits.max()
        total = float(highest) + float(np.log(np.exp(logits - highest, dtype=np.float64).sum()))
        likeliest = np.argpartition(logits, -self._top)[-self._top :] if self._top else ()
        ranked = sorted(map(int, likeliest), key=lambda other: (-logits[other], other))
        top = [self._entry(other, float(logits[other]) - total) for other in ranked]
        self.records.append(LogprobRecord(*self._entry(token, float(logits[token]) - total), top))

    def _entry(self, token: int, logprob: float) -> tuple[bytes, float | None]:
        return self._vocabulary.text(token), logprob if math.isfinite(logprob) else None
