"""Cells that lie in order: what a sequence reads is the same before and after they were moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbllm.core.fitting.memory_estimate import PIECE_CELLS
from nbllm.local.llama.native import NativeModel

TEXT = [(7919 * n) % 200 for n in range(1, 3 * PIECE_CELLS)]


@pytest.fixture(scope="module")
def model(native: Callable[..., NativeModel], tiny_models: dict[str, Path]) -> NativeModel:
    path = tiny_models["llama-q8_0"]
    return native(path=path, context_length=512, parallel=4, max_outputs=6, batch_invariant=True)


def read(model: NativeModel, sequence: int, tokens: list[int], start: int = 0) -> Any:
    """The logits behind the last of ``tokens``."""
    while tokens:
        piece, tokens = tokens[:50], tokens[50:]
        model.batch.clear()
        row = model.batch.add(piece, start, sequence, logits=1)
        assert model.decode() == 0
        model.cells.took(len(piece))
        start += len(piece)
    return model.logits(row).copy()


@pytest.fixture(scope="module")
def alone(model: NativeModel) -> Callable[[list[int]], Any]:
    """What a text gives that is read into an empty context."""

    def logits(tokens: list[int]) -> Any:
        model.cells.clear()
        found = read(model, 0, tokens)
        model.cells.clear()
        return found

    return logits


def test_no_number_changes_where_pieces_were_moved(
    model: NativeModel, alone: Callable[[list[int]], Any]
) -> None:
    """With a hole before, in a text shared by two, one that begins alike by itself, and a cut."""
    shared, own, alike = TEXT[:150], TEXT[150:165], TEXT[:40] + TEXT[60:80]
    wanted = [alone([*shared, *own, 5]), alone([*shared[:90], *own, 5]), alone([*alike, 5])]
    cells = model.cells
    read(model, 3, TEXT[100:130])
    read(model, 1, shared)
    read(model, 0, alike)
    cells.copy_prefix(1, 2, 90)
    cells.forget(3, 0)
    read(model, 1, own, 150)
    read(model, 2, TEXT[:30], 90)
    cells.forget(2, 90)
    read(model, 2, own, 90)
    for _ in range(3):
        assert cells.can_defragment
        assert cells.defragment({0: 60, 1: 165, 2: 105}) == []
        assert not cells.can_defragment
        got = [read(model, 1, [5], 165), read(model, 2, [5], 105), read(model, 0, [5], 60)]
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        for sequence, length in ((1, 165), (2, 105), (0, 60)):
            cells.forget(sequence, length)


def test_moved_cells_leave_the_others_free(model: NativeModel) -> None:
    cells = model.cells
    cells.clear()
    read(model, 0, (2 * TEXT)[:200])
    cells.copy_prefix(0, 1, 120)
    read(model, 1, TEXT[:100], 120)
    cells.forget(0, 120)
    assert cells.defragment({0: 120, 1: 220}) == []
    read(model, 2, TEXT[:190])
    read(model, 3, TEXT[:100])
    model.batch.clear()
    model.batch.add(TEXT[:3], 100, 3, logits=1)
    assert model.decode() == 1
    cells.clear()
