"""Which programs keep the processors busy right now."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

__all__ = ["BusyProcess", "busy_processes", "busy_words"]

_LOOK_SECONDS = 0.3
_LEAST_CORES = 0.1
_TOLD = 3


@dataclass(frozen=True, slots=True, order=True)
class BusyProcess:
    """A process and how many cores it uses."""

    cores: float
    name: str
    pid: int


def busy_processes(seconds: float = _LOOK_SECONDS) -> list[BusyProcess]:
    """The processes that use a tenth of a core or more, the busiest first; takes ``seconds``.

    This process itself is left out, and so are those that the system does not let it see, and
    what Windows calls the idle process.
    """
    left_out = {0, os.getpid()}
    before = dict(_times())
    time.sleep(seconds)
    used = ((process, now - before.get(process, now)) for process, now in _times())
    busy = [(process, taken / seconds) for process, taken in used]
    return sorted(
        (
            BusyProcess(cores, _name(process), process.pid)
            for process, cores in busy
            if cores >= _LEAST_CORES and process.pid not in left_out
        ),
        reverse=True,
    )


def busy_words(processes: Sequence[BusyProcess]) -> str:
    """Who is busy, as a sentence; "" where nobody is."""
    if not processes:
        return ""
    told = [f"{p.name} (process {p.pid}) using {p.cores:.1f} cores" for p in processes[:_TOLD]]
    more = len(processes) - _TOLD
    rest = f" and {more} more" if more > 0 else ""
    return f"Also busy: {', '.join(told)}{rest}. This makes the result noisy."


def _times() -> Iterator[tuple[psutil.Process, float]]:
    for process in psutil.process_iter(["cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:
            yield process, times.user + times.system


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "a process that has ended"
