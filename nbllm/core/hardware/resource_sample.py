"""The state of the machine from moment to moment, and which programs keep it busy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbllm.core.forks import ChildSafeLock
from nbllm.core.hardware import cgroups
from nbllm.core.hardware.host import usable_processors
from nbllm.core.hardware.machine import Machine
from nbllm.core.hardware.resources import GpuInfo

if TYPE_CHECKING:
    import psutil

__all__ = [
    "BusyProcess",
    "CpuLoad",
    "GpuSample",
    "ResourceSample",
    "busy_processes",
    "busy_words",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """A GPU at a moment; None: not told. ``label`` is that of ``GpuInfo``.

    ``utilization`` is from 0 to 1.
    """

    index: int
    label: str
    name: str
    utilization: float | None = None
    vram_used_bytes: int | None = None
    vram_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None

    @classmethod
    def of(cls, gpu: GpuInfo) -> GpuSample:
        """What changes of a GPU."""
        return cls(
            index=gpu.index,
            label=gpu.label,
            name=gpu.name,
            utilization=gpu.utilization,
            vram_used_bytes=gpu.vram_used_bytes,
            vram_total_bytes=gpu.vram_total_bytes,
            temperature_celsius=gpu.temperature_celsius,
            power_watts=gpu.power_watts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSample:
    """The machine at a moment, as far as this process may use it.

    ``cpu_fraction`` (0 to 1) is how busy the usable cores were since the sample before, with
    whatever processes; None in the first sample. ``time`` is that of ``time.monotonic``.
    """

    time: float
    cpu_fraction: float | None
    memory_used_bytes: int
    memory_total_bytes: int
    gpus: tuple[GpuSample, ...] = ()


class CpuLoad:
    """How busy the usable cores have been since it was asked before. Threads may share it.

    Under a quota it is the share of the quota that its group has used, else the share of the time
    in which the processors that this process may run on did not idle.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = ChildSafeLock()
        self._before: tuple[float, float] | None = None
        self._latest: float | None = None

    def fraction(self) -> float | None:
        """From 0 to 1; None the first time. Where no tick has passed, the answer before."""
        with self._lock:
            before, now = self._before, self._used_and_possible()
            if before is not None and now[1] > before[1]:
                share = (now[0] - before[0]) / (now[1] - before[1])
                self._latest = min(1.0, max(0.0, share))
            self._before = now
            return self._latest

    def _used_and_possible(self) -> tuple[float, float]:
        quota = _tightest(cgroups.cpu_quotas(self._machine.root))
        if quota is not None and quota.cores < self._machine.logical_cores():
            return quota.used_seconds or 0.0, quota.cores * time.monotonic()
        return self._machine.busy_seconds(usable_processors(self._machine))


def _tightest(quotas: Iterable[cgroups.CpuQuota]) -> cgroups.CpuQuota | None:
    counted = [quota for quota in quotas if quota.used_seconds is not None]
    return min(counted, default=None, key=lambda quota: quota.cores)


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
    import psutil  # samples of the processors do without it

    for process in psutil.process_iter(["cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:
            yield process, times.user + times.system


def _name(process: psutil.Process) -> str:
    import psutil

    try:
        return process.name()
    except psutil.Error:
        return "a process that has ended"
