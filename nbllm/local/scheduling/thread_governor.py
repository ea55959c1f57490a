"""How many threads to compute with while other processes want the same cores.

llama.cpp's threads meet at a barrier after each operation, hundreds of times a token. One thread
that lost its core to another process holds up all the others: measured on two cores with one of
them taken, two threads gave a tenth of the tokens that a single thread did. So the number of
threads follows the number of cores that the other processes leave.

Among the others may be workers of nbllm that do the same. Each of them may take its even share of
the cores whatever the rest use; those above theirs see that, and give way.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import psutil

__all__ = [
    "GovernedThreads",
    "Peers",
    "ThreadGovernor",
    "cores_in_use",
    "machine_busy_seconds",
    "process_seconds",
    "worker_seconds",
]

_PERIOD_SECONDS = 0.25
_STALE_SECONDS = 5.0
_GLANCE_SECONDS = 0.03
_NOTED_SECONDS = 1.0  # a note that is older says little about now
_GLANCE_ERROR = 0.4  # cores; the system counts in hundredths of a second
_SPARED_CORES = 0.4  # of other processes' use; less than this costs less than a thread gives
_WEIGHT = 0.6  # of the newest period in the moving average
_PEERS_SECONDS = 2.0  # between two looks at all processes, which take milliseconds
_PEER_USE = 0.3  # of a core; a worker that uses less is not one to share with
WORKER_MODULE = "nbllm.local.worker"


class ThreadGovernor:
    """Chooses the numbers of threads: ``threads`` for single tokens, ``batch_threads`` for more.

    Both start as the most that they may be. ``cores`` are those that this process may use,
    ``busy_seconds`` the processor time spent on them by everybody, ``own_seconds`` that of this
    process, ``asker_seconds`` that of the process whose questions these are, ``peers`` how many
    other workers compute.
    """

    def __init__(
        self,
        threads: int,
        batch_threads: int,
        *,
        cores: int,
        busy_seconds: Callable[[], float],
        own_seconds: Callable[[], float] = time.process_time,
        asker_seconds: Callable[[], float] = lambda: 0.0,
        peers: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most, self._most_in_batch, self._cores = threads, batch_threads, cores
        self._busy, self._own, self._peers, self._clock = busy_seconds, own_seconds, peers, clock
        self._asker, self._sleep = asker_seconds, sleep
        self._looked: Sequence[float] = (clock(), busy_seconds(), own_seconds())
        self._notes: deque[tuple[float, float, float, float]] = deque(maxlen=2)
        self._others = self._crowd = 0.0
        self.threads, self.batch_threads = threads, batch_threads

    def update(self) -> bool:
        """Look at the machine when it is time to; whether a number of threads has changed."""
        elapsed = self._clock() - self._looked[0]
        if elapsed < _PERIOD_SECONDS:
            return False
        others = self._look()
        if elapsed > _STALE_SECONDS:
            return False
        self._others += _WEIGHT * (others - self._others)
        return self._choose()

    def note(self) -> None:
        """Note how much everybody has worked by now; from any one thread, some times a second.

        So after a rest it is known what others did just before.
        """
        self._notes.append((self._clock(), self._busy(), self._own(), self._asker()))

    @property
    def is_crowded(self) -> bool:
        """Whether by the last two notes other processes want cores that threads compute on now."""
        if len(self._notes) < 2:
            return False
        (then, busy_then, own_then, _), (now, busy, own, _) = self._notes
        self._crowd = max(0.0, (busy - busy_then) - (own - own_then)) / max(now - then, 1e-3)
        return self.batch_threads > self._fitting(self._crowd)

    def give_way(self) -> bool:
        """Leave to others the cores that they were found to want; whether a number has changed."""
        self._look()
        self._others = self._crowd
        return self._choose()

    def look_afresh(self) -> bool:
        """Forget what others did before a rest, and see what they do now.

        A long prompt is read in one step: a wrong number of threads costs half of its speed on two
        cores. Where the notes of the last second tell of no neighbour there is none; who asked has
        worked until now and waits from now on. Else it takes a moment, 30 ms, to see whether the
        neighbour is still there.
        """
        now = self._clock()
        fresh = [note for note in self._notes if _GLANCE_SECONDS <= now - note[0] < _NOTED_SECONDS]
        others = _GLANCE_ERROR + 1
        if fresh:
            *self._looked, asker_then = fresh[-1]
            others = self._look() - (self._asker() - asker_then) / (now - fresh[-1][0])
        if others > _GLANCE_ERROR:
            self._look()
            self._sleep(_GLANCE_SECONDS)
            others = self._look()
        self._others = others if others > _GLANCE_ERROR else 0.0
        return self._choose()

    def _look(self) -> float:
        """How many cores other processes have used since the last look."""
        then, busy_then, own_then = self._looked
        self._looked = now, busy, own = self._clock(), self._busy(), self._own()
        return max(0.0, (busy - busy_then) - (own - own_then)) / max(now - then, 1e-3)

    def _choose(self) -> bool:
        before = self.threads, self.batch_threads
        fitting = self._fitting(self._others)
        self.threads = min(self._most, fitting)
        self.batch_threads = min(self._most_in_batch, fitting)
        return (self.threads, self.batch_threads) != before

    def _fitting(self, others: float) -> int:
        left = int(self._cores - others + _SPARED_CORES)
        if others <= _SPARED_CORES:
            return left
        share = self._cores // (1 + self._peers())
        return max(1, left, share if share < self._cores else 0)


class Computing(Protocol):
    """What computes with threads: a model, its draft model."""

    def set_threads(self, threads: int, batch_threads: int) -> None:
        """Compute single tokens and batches with so many."""


class GovernedThreads:
    """The threads of all that compute, as a governor chooses them; without one they stay."""

    def __init__(self, governor: ThreadGovernor | None, computing: Sequence[Computing]) -> None:
        self._governor, self._computing = governor, computing

    def update(self) -> None:
        """Between steps, follow what the others use."""
        if self._governor is not None and self._governor.update():
            self._use(self._governor)

    def look_afresh(self) -> None:
        """After a rest, see what the machine does now."""
        if self._governor is not None and self._governor.look_afresh():
            self._use(self._governor)

    def give_way(self) -> None:
        """Compute with fewer, where others held a step up."""
        if self._governor is not None and self._governor.give_way():
            self._use(self._governor)

    def _use(self, governor: ThreadGovernor) -> None:
        for each in self._computing:
            each.set_threads(governor.threads, governor.batch_threads)


class Peers:
    """Counts the other workers of nbllm on this machine that compute, looked at now and then."""

    def __init__(
        self,
        seconds: Callable[[], Mapping[int, float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._clock = seconds or worker_seconds, clock
        self._looked = -_PEERS_SECONDS
        self._used: Mapping[int, float] = {}
        self._count = 0

    def __call__(self) -> int:
        """How many there were when last looked."""
        elapsed = self._clock() - self._looked
        if elapsed >= _PEERS_SECONDS:
            self._looked = self._clock()
            used = self._seconds()
            self._count = sum(
                seconds - self._used.get(pid, seconds) > _PEER_USE * elapsed
                for pid, seconds in used.items()
            )
            self._used = used
        return self._count


def worker_seconds() -> dict[int, float]:
    """The processor time of each worker of nbllm but this process, by process id."""
    seconds = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended meanwhile, or is not ours to look at
            if process.pid != os.getpid() and WORKER_MODULE in process.cmdline():
                seconds[process.pid] = _worked(process)
    return seconds


def process_seconds(process: psutil.Process) -> float:
    """The processor time of a process; 0 for one that has ended."""
    with suppress(psutil.Error):
        return _worked(process)
    return 0.0


def _worked(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def cores_in_use() -> list[int]:
    """The processors that this process may run on, by the numbers of the system."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def machine_busy_seconds(cores: list[int]) -> float:
    """The time that these processors have worked since the machine started, for anybody.

    Processes that were told to be nice do not count where this one was not: they give way to it.
    """
    kinds = ["user", "system", "irq", "softirq", "steal"]
    if psutil.Process().nice() > 0:
        kinds.append("nice")
    times = psutil.cpu_times(percpu=True)
    return float(
        sum(
            getattr(times[core], kind, 0.0) for core in cores if core < len(times) for kind in kinds
        )
    )
