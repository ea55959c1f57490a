from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from nbllm.local.scheduling.thread_governor import (
    WORKER_MODULE,
    Peers,
    ThreadGovernor,
    cores_in_use,
    machine_busy_seconds,
    worker_seconds,
)


class Machine:
    """Two cores, ``others`` of which are used by other processes; this one computes always."""

    def __init__(self, cores: int = 2, others: float = 0.0) -> None:
        self.now = self.busy = self.own = self.asker = 0.0
        self.cores, self.others = cores, others
        self.pace = ThreadGovernor(
            cores,
            cores,
            cores=cores,
            busy_seconds=lambda: self.busy,
            own_seconds=lambda: self.own,
            asker_seconds=lambda: self.asker,
            clock=lambda: self.now,
            sleep=self._rest,
        )

    def _rest(self, seconds: float) -> None:
        self.now += seconds
        self.busy += self.others * seconds

    def run(self, seconds: float, step: float = 0.05) -> int:
        for _ in range(round(seconds / step)):
            used = min(self.pace.threads, self.cores - min(self.others, self.cores - 0.5))
            self.now += step
            self.own += used * step
            self.busy += (used + self.others) * step
            self.pace.update()
        return self.pace.threads


def test_a_quiet_machine_gives_all_threads() -> None:
    assert Machine(cores=4).run(3) == 4


def test_a_core_that_another_process_takes_is_left_to_it_within_a_second() -> None:
    machine = Machine()
    machine.run(1)
    machine.others = 1.0
    assert machine.run(0.8) == 1
    machine.others = 0.0
    assert machine.run(1.2) == 2


def test_after_a_rest_only_what_others_do_now_counts() -> None:
    machine = Machine()
    machine.others = 1.0
    assert machine.run(2) == 1
    machine.others = 0.0
    assert machine.pace.look_afresh()
    assert (machine.pace.threads, machine.pace.batch_threads) == (2, 2)
    machine.others = 1.0
    assert machine.pace.look_afresh()
    assert machine.pace.batch_threads == 1


class Rested(Machine):
    """A machine whose engine has rested, while notes were taken every quarter of a second."""

    def rest(self, *others: float) -> float:
        """Others use so much in each of these quarters; how long looking afresh takes then."""
        for use in others:
            self.pace.note()
            self.now += 0.25
            self.busy += 0.25 * use
        began = self.now
        self.others = others[-1]
        self.pace.look_afresh()
        return self.now - began


def test_a_rest_without_neighbours_costs_no_moment() -> None:
    machine = Rested()
    assert machine.rest(1.0, 0.0, 0.1) == 0
    assert machine.pace.batch_threads == 2


def test_a_neighbour_that_was_noted_is_looked_at_once_more() -> None:
    machine = Rested()
    assert machine.rest(0.0, 0.0, 1.0) == pytest.approx(0.03)
    assert machine.pace.batch_threads == 1
    machine = Rested()
    machine.pace.note()
    machine.now, machine.busy = 0.1, 0.1  # busy until just now
    machine.pace.look_afresh()
    assert machine.now == pytest.approx(0.13)
    assert machine.pace.batch_threads == 2


def test_who_asked_is_no_neighbour_for_he_waits_now() -> None:
    machine = Rested()
    machine.pace.note()
    machine.now, machine.busy, machine.asker = 0.2, 0.2, 0.2
    machine.pace.look_afresh()
    assert machine.now == pytest.approx(0.2)
    assert machine.pace.batch_threads == 2


def crowd(machine: Machine, others: float, seconds: float = 0.25) -> bool:
    """Between two notes both threads compute as far as others let them."""
    machine.pace.note()
    used = min(machine.pace.batch_threads, machine.cores - others / 2)
    machine.now += seconds
    machine.own += used * seconds
    machine.busy += (used + others) * seconds
    machine.pace.note()
    return machine.pace.is_crowded


def test_a_neighbour_that_comes_while_a_prompt_is_read_is_noticed_and_given_way_to() -> None:
    machine = Machine()
    assert not machine.pace.is_crowded, "there are no notes yet"
    assert not crowd(machine, 0.1)
    assert crowd(machine, 1.0)
    assert machine.pace.give_way()
    assert machine.pace.batch_threads == 1
    assert not crowd(machine, 1.0), "no step is broken off twice for one neighbour"


def test_old_notes_are_not_trusted() -> None:
    machine = Rested()
    machine.pace.note()
    machine.now += 5
    machine.pace.look_afresh()
    assert machine.now == pytest.approx(5.03)


def test_a_little_use_by_others_costs_no_thread() -> None:
    assert Machine(others=0.3).run(3) == 2


def test_at_least_one_thread_computes() -> None:
    assert Machine(cores=4, others=9.0).run(3) == 1


class Worker:
    """One of the workers on a machine of ``Shared`` cores."""

    def __init__(self, shared: Shared, threads: int) -> None:
        self.used = 0.0
        self.pace = ThreadGovernor(
            shared.cores,
            shared.cores,
            cores=shared.cores,
            busy_seconds=lambda: shared.busy,
            own_seconds=lambda: self.used,
            peers=lambda: len(shared.workers) - 1,
            clock=lambda: shared.now,
        )
        self.pace.threads = threads


class Shared:
    """Workers that compute always on the same cores, which the system deals out by threads."""

    def __init__(self, cores: int, *threads: int) -> None:
        self.cores, self.now, self.busy = cores, 0.0, 0.0
        self.workers: list[Worker] = []
        self.workers += [Worker(self, count) for count in threads]

    def run(self, seconds: float, step: float = 0.05) -> list[int]:
        for _ in range(round(seconds / step)):
            threads = [worker.pace.threads for worker in self.workers]
            factor = min(1.0, self.cores / sum(threads)) * step
            self.now += step
            for worker, count in zip(self.workers, threads, strict=True):
                worker.used += count * factor
                self.busy += count * factor
            for worker in self.workers:
                worker.pace.update()
        return [worker.pace.threads for worker in self.workers]


@pytest.mark.parametrize(
    ("cores", "threads", "shares"),
    [
        (2, (2, 2), [1, 1]),
        (8, (8, 8), [4, 4]),
        (8, (6, 2), [4, 4]),
        (8, (8, 1), [4, 4]),
        (9, (9, 9, 1), [3, 3, 3]),
    ],
)
def test_models_that_compute_at_once_share_the_cores_evenly(
    cores: int, threads: tuple[int, ...], shares: list[int]
) -> None:
    assert Shared(cores, *threads).run(5) == shares


def test_a_model_that_computes_alone_again_gets_all_cores() -> None:
    machine = Shared(8, 8, 8)
    machine.run(5)
    machine.workers.pop()
    assert machine.run(3) == [8]


def test_each_number_of_threads_has_its_own_bound() -> None:
    machine = Machine(cores=8)
    machine.pace = ThreadGovernor(
        2, 6, cores=8, busy_seconds=lambda: machine.busy, clock=lambda: machine.now
    )
    machine.run(1)
    assert (machine.pace.threads, machine.pace.batch_threads) == (2, 6)


def test_workers_that_compute_are_counted_and_idle_ones_are_not() -> None:
    now, used = 0.0, {7: 50.0, 8: 10.0}
    peers = Peers(lambda: dict(used), lambda: now)
    assert peers() == 0, "nothing is known of before"
    now, used = 3.0, {7: 50.1, 8: 12.5, 9: 0.2}
    assert peers() == 1
    now += 0.1
    used[7] = 99.0
    assert peers() == 1, "it looks again after two seconds"
    now += 3
    assert peers() == 1
    now, used = now + 3, {7: 99.1}
    assert peers() == 0


def test_workers_are_found_by_their_module() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", WORKER_MODULE]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert worker_seconds()[process.pid] >= 0


def test_what_was_long_ago_does_not_count() -> None:
    machine = Machine(others=1.0)
    machine.run(2)
    machine.now += 60
    machine.busy += 120
    machine.others = 0.0
    assert machine.run(1.5) == 2


@pytest.mark.parametrize(("own_niceness", "seconds"), [(0, 3.0), (10, 103.0)])
def test_processes_that_give_way_to_this_one_do_not_count(
    own_niceness: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = SimpleNamespace(user=2.0, nice=100.0, system=1.0, idle=50.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [times])
    monkeypatch.setattr(psutil.Process, "nice", lambda self: own_niceness)
    assert machine_busy_seconds([0, 7]) == seconds


def test_the_machine_tells_how_busy_it_was() -> None:
    cores = cores_in_use()
    before = machine_busy_seconds(cores)
    total = sum(number * number for number in range(3_000_000))
    assert total
    assert 0 < before <= machine_busy_seconds(cores)
