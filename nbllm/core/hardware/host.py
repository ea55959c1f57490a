"""The processors and the memory, under all limits that this process is held to."""

from __future__ import annotations

import os
import platform

from nbllm.core.hardware import cgroups
from nbllm.core.hardware.machine import Machine
from nbllm.core.hardware.resources import CpuInfo, MemoryInfo

__all__ = ["cpu_of", "memory_of", "unknown_cpu", "unknown_memory", "usable_processors"]

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
