"""The processors and the memory, under all limits of this process, and how fast memory is read.

Decoding with one request reads every weight once for each token, so the bandwidth divided by the
model's size is the most tokens per second that a processor can reach.
"""

from __future__ import annotations

import functools
import os
import platform
import threading
import time
from pathlib import Path

from nbllm.core.hardware import cgroups
from nbllm.core.hardware.drm import text_in
from nbllm.core.hardware.machine import Machine
from nbllm.core.hardware.resources import CpuInfo, MemoryInfo

__all__ = [
    "buffer_bytes",
    "cpu_of",
    "last_cache_bytes",
    "measured_bandwidth",
    "memory_of",
    "unknown_cpu",
    "unknown_memory",
    "usable_processors",
]

_WORKER_ADDRESSES = 512 * 2**20
"""What Python, llama.cpp and their threads reserve: 450 MiB on Linux, little of it in memory."""


def cpu_of(machine: Machine) -> CpuInfo:
    """The processors, and how many of them this process may use."""
    processors, logical = machine.processors(), machine.logical_cores()
    affinity, cpuset = machine.affinity(), cgroups.cpuset(machine.root)
    chosen = _both(affinity, cpuset)
    physical = machine.physical_cores()
    usable, limit = _usable_cores(machine, logical, cpuset, chosen)
    return CpuInfo(
        model=processors.model,
        architecture=machine.architecture(),
        sockets=processors.sockets,
        physical_cores=physical,
        logical_cores=logical,
        usable_cores=usable,
        limit=limit,
        usable_physical_cores=machine.cores_behind(chosen) if chosen else physical,
        performance_cores=processors.performance_cores,
        features=processors.features,
    )


def usable_processors(machine: Machine) -> frozenset[int] | None:
    """The processors that affinity and cpuset leave; None where neither is told."""
    return _both(machine.affinity(), cgroups.cpuset(machine.root))


def _both(affinity: frozenset[int] | None, cpuset: frozenset[int] | None) -> frozenset[int] | None:
    if affinity and cpuset and affinity & cpuset:
        return affinity & cpuset
    return affinity or cpuset


def _usable_cores(
    machine: Machine,
    logical: int,
    cpuset: frozenset[int] | None,
    chosen: frozenset[int] | None,
) -> tuple[float, str | None]:
    """The least of what affinity, cpuset and quotas allow, and which of them it is."""
    limits: list[tuple[float, str]] = [
        (quota.cores, f"limited to {quota.cores:.3g} cores by {quota.source}")
        for quota in cgroups.cpu_quotas(machine.root)
    ]
    if cpuset:
        limits.append((len(cpuset), f"limited to {len(cpuset)} cores by its cpuset"))
    if chosen:
        limits.append((len(chosen), f"limited to {len(chosen)} cores by its affinity"))
    cores, reason = min(limits, default=(logical, ""), key=lambda limit: limit[0])
    return (cores, reason) if cores < logical else (logical, None)


def memory_of(machine: Machine) -> MemoryInfo:
    """The memory, and how much of it this process may use."""
    whole = machine.memory()
    limits = [
        limit
        for limit in (*cgroups.memory_limits(machine.root), *_address_space(machine))
        if limit.limit_bytes < whole.total  # version 1 says "unlimited" with a huge number
    ]
    tightest = min(limits, default=None, key=lambda limit: limit.limit_bytes)
    swap = cgroups.swap_limits(machine.root)
    return MemoryInfo(
        total_bytes=tightest.limit_bytes if tightest else whole.total,
        available_bytes=min([whole.available, *(limit.available_bytes for limit in limits)]),
        machine_bytes=whole.total,
        limit=f"limited by {tightest.source}" if tightest else None,
        swap_total_bytes=min([whole.swap_total, *(limit.limit_bytes for limit in swap)]),
        swap_free_bytes=min([whole.swap_free, *(limit.available_bytes for limit in swap)]),
    )


def _address_space(machine: Machine) -> list[cgroups.MemoryLimit]:
    """The limit on addresses, of which a model's process takes some before it has the model."""
    limit = machine.address_space()
    if limit is None:
        return []
    return [cgroups.MemoryLimit(limit, _WORKER_ADDRESSES, "a limit on address space (ulimit -v)")]


def unknown_cpu() -> CpuInfo:
    """What can be said without the operating system's files."""
    cores = os.cpu_count() or 1
    return CpuInfo(
        model=None,
        architecture=platform.machine(),
        sockets=None,
        physical_cores=None,
        logical_cores=cores,
        usable_cores=cores,
    )


def unknown_memory() -> MemoryInfo:
    """From the system call, which needs no file system; it counts all page cache as used."""
    known = getattr(os, "sysconf_names", {})  # Windows has none, macOS lacks the second
    if "SC_PHYS_PAGES" not in known or "SC_AVPHYS_PAGES" not in known:
        return MemoryInfo(total_bytes=0, available_bytes=0, machine_bytes=0)
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (page * os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    return MemoryInfo(total_bytes=total, available_bytes=free, machine_bytes=total)


_MIB = 2**20
_STEP = 4 * _MIB  # bytes between two looks at the clock
_SECONDS = 0.2
_LEAST, _MOST = 64 * _MIB, 256 * _MIB


def buffer_bytes(available_bytes: int, cache_bytes: int) -> int:
    """How much to read in turn: four times the last cache, if the memory allows.

    At most 256 MiB and an eighth of what is available. A power of two, so that the answer stays
    the same while the available memory changes a little.
    """
    size = min(max(4 * cache_bytes, _LEAST), _MOST, max(available_bytes // 8, _STEP))
    return int(1 << (size.bit_length() - 1))


@functools.cache
def measured_bandwidth(threads: int, size: int) -> float:
    """Bytes per second, read by ``threads`` at once; the answer is kept for this process.

    Each thread runs again and again through a part of its own of ``size`` bytes, and combines
    their words with "or", which costs next to nothing beside the reading and needs no lock of
    Python's. All start together; the bytes read within 0.2 s count. Filling the memory takes
    about as long again. Where the last cache is larger than the memory read, the result is the
    cache's speed in part, and other processes' reading lowers it.
    """
    import numpy as np

    barrier = threading.Barrier(threads + 1, timeout=10)
    spans: list[tuple[int, float, float]] = []

    def read() -> None:
        words = np.ones(max(size // threads, _STEP) // 8, dtype=np.uint64)  # touches every page
        barrier.wait()
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            for start in range(0, len(words), _STEP // 8):
                part = words[start : start + _STEP // 8]
                np.bitwise_or.reduce(part)
                done += part.nbytes
                if time.perf_counter() - began >= _SECONDS:
                    break
        spans.append((done, began, time.perf_counter()))

    readers = [threading.Thread(target=read, daemon=True) for _ in range(threads)]
    for reader in readers:
        reader.start()
    barrier.wait()
    for reader in readers:
        reader.join()
    seconds = max(end for _, _, end in spans) - min(began for _, began, _ in spans)
    return sum(done for done, _, _ in spans) / seconds


def last_cache_bytes(root: Path) -> int:
    """The size of the largest cache of the first processor; 0 where that is not told."""
    texts = (
        text_in(file) or "" for file in root.glob("sys/devices/system/cpu/cpu0/cache/index*/size")
    )
    units = {"K": 2**10, "M": 2**20}
    sizes = (
        int(text[:-1]) * units[text[-1]]
        for text in texts
        if text[:-1].isdecimal() and text[-1] in units
    )
    return max(sizes, default=0)
