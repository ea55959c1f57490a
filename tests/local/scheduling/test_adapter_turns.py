from __future__ import annotations

from typing import Any

import pytest

from nbllm.local.scheduling.steps import AdapterTurns
from nbllm.local.scheduling.tasks import Slot, Task
from nbllm.local.token_text import TextAssembler

NO_SAMPLER: Any = None
Pair = tuple[Task, Slot]


def request(number: int, *scales: float, background: bool = False) -> Pair:
    task = Task(number, [1, 2], 9, NO_SAMPLER, TextAssembler(()), scales, background)
    return task, Slot(number)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def shares(clock: Clock, running: list[Pair], steps: int = 400) -> dict[tuple[float, ...], float]:
    """Of the steps, each of 10 ms, the share that each set of scales got."""
    rotation, counts = AdapterTurns(clock), dict[tuple[float, ...], int]()
    for _ in range(steps):
        chosen = rotation.choose(running)
        (scales,) = {task.scales for task, _ in chosen}
        counts[scales] = counts.get(scales, 0) + 1
        clock.now += 0.01
    return {scales: count / steps for scales, count in counts.items()}


def test_nobody_runs_where_nobody_asks(clock: Clock) -> None:
    assert AdapterTurns(clock).choose([]) == []


def test_requests_with_the_same_scales_run_together(clock: Clock) -> None:
    running = [request(n, 1.0) for n in range(3)]
    assert AdapterTurns(clock).choose(running) == running


def test_a_turn_lasts_several_steps_and_all_get_theirs(clock: Clock) -> None:
    running = [request(0, 1.0, 0.0), request(1, 0.0, 1.0), request(2, 1.0, 0.0), request(3)]
    rotation = AdapterTurns(clock)
    chosen = rotation.choose(running)
    clock.now += 0.05
    assert rotation.choose(running) == chosen
    found = shares(clock, running)
    assert all(share == pytest.approx(1 / 3, abs=0.03) for share in found.values())


def test_one_whose_requests_have_ended_is_not_waited_for(clock: Clock) -> None:
    first, second = request(0, 1.0), request(1, 0.0)
    rotation = AdapterTurns(clock)
    assert rotation.choose([first, second]) == [first]
    assert rotation.choose([second]) == [second]
    clock.now += 0.02
    assert rotation.choose([first, second]) == [second], "its turn has only begun"


def test_background_requests_get_a_smaller_share(clock: Clock) -> None:
    running = [request(0, 1.0), request(1, 0.0, background=True)]
    assert 0.1 < shares(clock, running)[(0.0,)] < 0.3


def test_among_background_requests_turns_are_whole(clock: Clock) -> None:
    running = [request(0, 1.0, background=True), request(1, 0.0, background=True)]
    assert shares(clock, running)[(0.0,)] == pytest.approx(0.5, abs=0.03)
