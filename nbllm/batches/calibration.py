"""Probabilities of labels without what the model prefers whatever the text is.

Source: Zhou et al., Batch Calibration (https://arxiv.org/abs/2309.17249). The mean over all rows is
taken for the preference; so it needs many rows, and labels that are not all of one kind.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from nbllm.batches.batch_rows import BatchRow

__all__ = ["calibrated"]

_LEAST = 1e-6
"""What a probability is rounded to."""

Shares = tuple[float, ...]


def calibrated(rows: Sequence[BatchRow]) -> list[BatchRow]:
    """The rows with other probabilities, and the labels that are most probable then.

    Rows without probabilities stay as they are.
    """
    known = [row.result.label_probabilities for row in rows if row.result]
    known = [each for each in known if each]
    if not known:
        return [*rows]
    means = [_means(column) for column in zip(*known, strict=True)]
    return [_calibrated(row, means) for row in rows]


def _means(column: Sequence[Shares]) -> Shares:
    """Of each label the mean logarithm of its probability."""
    logs = [[math.log(max(share, _LEAST)) for share in shares] for shares in column]
    return tuple(sum(each) / len(logs) for each in zip(*logs, strict=True))


def _calibrated(row: BatchRow, means: Sequence[Shares]) -> BatchRow:
    result = row.result
    if result is None or not result.label_probabilities or result.schema is None:
        return row
    shares = tuple(map(_shifted, result.label_probabilities, means))
    best = {
        question.name: question.labels[each.index(max(each))]
        for question, each in zip(result.schema.questions, shares, strict=True)
    }
    return replace(
        row,
        result=replace(
            result, text=json.dumps(best, ensure_ascii=False), label_probabilities=shares
        ),
    )


def _shifted(shares: Shares, means: Shares) -> Shares:
    logs = [math.log(max(share, _LEAST)) - mean for share, mean in zip(shares, means, strict=True)]
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    whole = sum(weights)
    return tuple(weight / whole for weight in weights)
