"""The limits that Linux control groups put on this process, of versions 1 and 2.

Every function takes the root of the file system, so that recorded trees can stand for a machine,
and reads the process's own group and all groups above it: the tightest limit is what counts.
What cannot be read is no limit. Sources: the kernel's ``admin-guide/cgroup-v2.rst`` and
``admin-guide/cgroup-v1/``, ``proc_pid_mountinfo(5)``, ``cgroups(7)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nbllm.core.hardware.machine import processor_numbers

__all__ = ["CpuQuota", "MemoryLimit", "cpu_quotas", "cpuset", "memory_limits", "swap_limits"]


# Version 1 writes "no limit" as the largest number of bytes in whole pages; pages differ in size.
_V1_UNLIMITED = 2**62


@dataclass(frozen=True, slots=True)
class CpuQuota:
    """So many ``cores``' worth of time, by the file that ``source`` names.

    ``used_seconds`` is the time that the group's processes have had so far, None: not told.
    """

    cores: float
    source: str
    used_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """At most ``limit_bytes``, of which ``used_bytes`` are in use and cannot be dropped."""

    limit_bytes: int
    used_bytes: int
    source: str

    @property
    def available_bytes(self) -> int:
        """What is left of the limit."""
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class _Group:
    """A control group, ``inside`` of its mount.

    ``name`` is its path as a person on this machine would look it up.
    """

    version: int
    folder: Path
    name: str
    inside: PurePosixPath

    def number(self, file: str) -> int | None:
        text = self.text(file)
        return int(text) if text is not None and re.fullmatch("[0-9]{1,20}", text) else None

    def text(self, file: str) -> str | None:
        try:
            return (self.folder / file).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None

    def statistics(self, file: str) -> dict[str, int]:
        pairs = (line.split() for line in (self.text(file) or "").splitlines())
        return {
            pair[0]: int(pair[1])
            for pair in pairs
            if len(pair) == 2 and re.fullmatch("[0-9]{1,20}", pair[1])
        }

    def source(self, file: str) -> str:
        return f"{self.name.rstrip('/')}/{file}"


# ---------------------------------------------------------------- what is limited


def memory_limits(root: Path) -> list[MemoryLimit]:
    """The limits on memory, of the process's own group first.

    Page cache of files is not counted as used, for the kernel drops it when memory is needed.
    Version 1's word for "no limit" is a number above all memory; compare before believing it.
    """
    limits: list[MemoryLimit] = []
    for group in _groups(root, "memory"):
        limits += _memory_v2(group) if group.version == 2 else _memory_v1(group)
    return limits


def _memory_v2(group: _Group) -> Iterator[MemoryLimit]:
    statistics = group.statistics("memory.stat")
    droppable = sum(
        statistics.get(key, 0) for key in ("inactive_file", "active_file", "slab_reclaimable")
    )
    used = max(0, (group.number("memory.current") or 0) - droppable)
    for file in ("memory.max", "memory.high"):  # above "high" the kernel all but stops a process
        limit = group.number(file)  # None for "max"
        if limit is not None:
            yield MemoryLimit(limit, used, group.source(file))


def _memory_v1(group: _Group) -> Iterator[MemoryLimit]:
    statistics = group.statistics("memory.stat")
    droppable = sum(
        statistics.get(f"total_{key}", statistics.get(key, 0))
        for key in ("inactive_file", "active_file")
    )
    used = max(0, (group.number("memory.usage_in_bytes") or 0) - droppable)
    limit = group.number("memory.limit_in_bytes")
    if limit is not None:
        yield MemoryLimit(limit, used, group.source("memory.limit_in_bytes"))
    above = statistics.get("hierarchical_memory_limit")  # known even where the parents are hidden
    if above is not None:
        yield MemoryLimit(above, used, group.source("memory.stat"))


def swap_limits(root: Path) -> list[MemoryLimit]:
    """The limits on swap, of the process's own group first.

    Version 1 limits memory and swap together ("memsw"): what is above the memory's own limit is
    for swap. Its number for "no limit" leaves nothing above itself, or more than there is.
    """
    limits: list[MemoryLimit] = []
    for group in _groups(root, "memory"):
        limits += _swap_v2(group) if group.version == 2 else _swap_v1(group)
    return limits


def _swap_v2(group: _Group) -> Iterator[MemoryLimit]:
    limit = group.number("memory.swap.max")
    if limit is not None:
        used = group.number("memory.swap.current") or 0
        yield MemoryLimit(limit, used, group.source("memory.swap.max"))


def _swap_v1(group: _Group) -> Iterator[MemoryLimit]:
    together = group.number("memory.memsw.limit_in_bytes")
    memory = group.number("memory.limit_in_bytes")
    if together is None or memory is None or together >= _V1_UNLIMITED:
        return
    used = group.statistics("memory.stat")
    swapped = used.get("total_swap", used.get("swap", 0))
    source = group.source("memory.memsw.limit_in_bytes")
    yield MemoryLimit(max(0, together - memory), swapped, source)


def cpu_quotas(root: Path) -> list[CpuQuota]:
    """The limits on processor time, of the process's own group first."""
    return [
        CpuQuota(cores, source, _used_seconds(root, group))
        for group in _groups(root, "cpu")
        for cores, source in _quota(group)
    ]


def _quota(group: _Group) -> Iterator[tuple[float, str]]:
    file = "cpu.max" if group.version == 2 else "cpu.cfs_quota_us"
    words = (group.text(file) or "").split()
    if group.version == 1:
        words += [group.text("cpu.cfs_period_us") or ""]
    if len(words) == 2 and all(re.fullmatch("[0-9]{1,19}", word) for word in words):
        quota, period = map(int, words)  # neither "max" nor -1
        if quota > 0 and period > 0:
            yield quota / period, group.source(file)


def _used_seconds(root: Path, group: _Group) -> float | None:
    """What a group of the controller "cpu" has used; version 1 counts that in another one."""
    if group.version == 2:
        microseconds = group.statistics("cpu.stat").get("usage_usec")
        return None if microseconds is None else microseconds / 1e6
    for counting in _groups(root, "cpuacct"):
        if counting.inside == group.inside:
            nanoseconds = counting.number("cpuacct.usage")
            return None if nanoseconds is None else nanoseconds / 1e9
    return None


def cpuset(root: Path) -> frozenset[int] | None:
    """The processors that the process's own group may use; None where that is not told."""
    for group in _groups(root, "cpuset"):
        files = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
        for text in filter(None, map(group.text, files)):
            return processor_numbers(text)
    return None


# ---------------------------------------------------------------- where the groups are


def _groups(root: Path, controller: str) -> Iterator[_Group]:
    """The process's group under this controller and those above it, as far as they can be seen."""
    version, own = _own_group(root, controller)
    mounts = _mounts(root, "cgroup2" if version == 2 else "cgroup", controller)
    for mounted, point in mounts:
        inside = _inside(own, mounted)
        folder = _below(root, point / inside)
        if not folder.is_dir():  # the namespace hides where the group is: take what it shows
            inside, folder = PurePosixPath(), _below(root, point)
        if folder.is_dir():
            for level in (inside, *inside.parents):
                name = point / level
                yield _Group(version, _below(root, name), str(name), level)
            return


def _own_group(root: Path, controller: str) -> tuple[int, PurePosixPath]:
    """Version and path of the group, as ``/proc/self/cgroup`` has them."""
    unified = PurePosixPath("/")
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return 1, PurePosixPath(path)
        if not controllers:
            unified = PurePosixPath(path)
    return 2, unified


def _mounts(
    root: Path, kind: str, controller: str
) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Which group is mounted, and where."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (found, *more) = before.split(" "), after.split(" ") or [""]
        if found != kind or len(fields) < 5 or not more:
            continue
        if kind == "cgroup2" or controller in more[-1].split(","):
            yield PurePosixPath(_unescaped(fields[3])), PurePosixPath(_unescaped(fields[4]))


def _inside(own: PurePosixPath, mounted: PurePosixPath) -> PurePosixPath:
    """The group's path below the mount; the mount itself where the group is outside of it."""
    if ".." in own.parts or not own.is_relative_to(mounted):
        return PurePosixPath()
    return own.relative_to(mounted)


def _below(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
