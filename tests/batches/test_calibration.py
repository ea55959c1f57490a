"""What a model prefers over all rows is taken out of the probabilities of labels."""

from __future__ import annotations

import json

import pytest

from nbllm.batches.batch_rows import BatchRow
from nbllm.batches.calibration import calibrated
from nbllm.core.schemas.answer_schemas import decision_schema
from nbllm.core.types import FinishReason, GenerationResult

SCHEMA = decision_schema({"x": ["a", "b"]})


def row(index: int, *shares: float) -> BatchRow:
    result = GenerationResult(
        text=json.dumps({"x": "a"}),
        model="m",
        finish_reason=FinishReason.STOP,
        schema=SCHEMA,
        label_probabilities=(shares,) if shares else (),
    )
    return BatchRow(index=index, result=result)


def test_a_preference_of_all_rows_decides_nothing() -> None:
    rows = [row(0, 0.9, 0.1), row(1, 0.8, 0.2), row(2, 0.7, 0.3)]
    found = calibrated(rows)
    assert [each.result.value["x"] for each in found if each.result] == ["a", "b", "b"]
    for each in found:
        assert each.result is not None
        assert sum(each.result.label_probabilities[0]) == pytest.approx(1)


def test_what_has_no_probabilities_stays() -> None:
    failed, unknown = BatchRow(index=1, error="x"), row(2)
    assert calibrated([failed, unknown]) == [failed, unknown]
    assert calibrated([row(0, 1.0, 0.0), failed, unknown])[1:] == [failed, unknown]
    assert calibrated([]) == []
