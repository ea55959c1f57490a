from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nbllm.local.scheduling.slots import Slots
from nbllm.local.scheduling.tasks import Task
from nbllm.local.token_text import TextAssembler


class NotedCells:
    """Notes what becomes of the cells."""

    is_ordered = False
    are_shared = True

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def forget(self, sequence: int, start: int) -> bool:
        self.done.append(("forget", sequence, start))
        return True

    def drop(self, sequence: int, start: int, end: int) -> None:
        self.done.append(("drop", sequence, start, end))


def test_a_slot_at_rest_gives_up_what_would_move_with_a_shift() -> None:
    cells = NotedCells()
    model: Any = SimpleNamespace(settings=SimpleNamespace(parallel=2), cells=cells)
    slots = Slots(model)
    sampler: Any = None
    task = Task(0, list(range(100)), 99, sampler, TextAssembler(()), shifts=True, keep=4)
    shifting, resting = slots._slots
    task.slot, shifting.task, shifting.tokens = shifting, task, list(range(99))
    resting.tokens = list(range(60))  # of a request that was given up when its prompt was read
    slots.shift(task, shifting)
    assert cells.done == [("forget", 1, 4), ("drop", 0, 4, 51)]
    assert resting.tokens == [0, 1, 2, 3]
    assert task.tokens == [0, 1, 2, 3, *range(51, 100)]
    assert shifting.tokens == task.tokens[:-1]
