"""None"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbllm.core.hardware import resource_sample
from nbllm.core.hardware.machine import Machine, linux_cpu_times
from nbllm.core.hardware.resource_sample import BusyProcess, CpuLoad, busy_processes, busy_words
from nbllm.core.resource_detector import ResourceDetector

STAT = """\
cpu  900 0 100 9000 0 0 0 0 0 0
cpu0 {busy} 0 0 {idle} {waiting} 0 0 0 0 0
cpu1 100 0 0 100 0 0 0 0 0 0
cpu5 0 0 0 {other} 0 0 0 0 0 0
intr 1 2 3
"""


class Recorded(Machine):
    """Four processors, of which the process may run on 0 and 5."""

    def logical_cores(self) -> int:
        return 4

    def affinity(self) -> frozenset[int] | None:
        return frozenset({0, 5})


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def stat(root: Path, busy: int, idle: int, waiting: int = 0, other: int = 0) -> None:
    text = STAT.format(busy=busy, idle=idle, waiting=waiting, other=other)
    write(root, "proc/stat", text)


def test_the_load_is_that_of_the_usable_processors(tmp_path: Path) -> None:
    load = CpuLoad(Recorded(tmp_path))
    stat(tmp_path, busy=1000, idle=1000)
    assert load.fraction() is None, "there is nothing to compare with"
    stat(tmp_path, busy=1060, idle=1020, waiting=20, other=100)
    assert load.fraction() == pytest.approx(60 / 200)
    assert load.fraction() == pytest.approx(60 / 200), "no tick has passed"
    stat(tmp_path, busy=1160, idle=1020, waiting=20, other=100)
    assert load.fraction() == 1
    stat(tmp_path, busy=1160, idle=1520, waiting=20, other=100)
    assert load.fraction() == 0


V2_FILES = {
    "proc/self/cgroup": "0::/app\n",
    "proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/app/cpu.max": "150000 100000\n",
}
V1_FILES = {
    "proc/self/cgroup": "4:cpuacct:/app\n2:cpu:/app\n0::/\n",
    "proc/self/mountinfo": (
        "33 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "34 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
    ),
    "sys/fs/cgroup/cpu/app/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/app/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpuacct/cpuacct.usage": "99000000000\n",
}
COUNTERS = [
    (V2_FILES, "sys/fs/cgroup/app/cpu.stat", "usage_usec {}\nuser_usec 1\n", 1e6),
    (V1_FILES, "sys/fs/cgroup/cpuacct/app/cpuacct.usage", "{}\n", 1e9),
]


@pytest.mark.parametrize(("files", "counter", "text", "unit"), COUNTERS)
def test_under_a_quota_the_load_is_the_share_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    counter: str,
    text: str,
    unit: float,
) -> None:
    clock = 100.0
    monkeypatch.setattr(resource_sample.time, "monotonic", lambda: clock)
    for name, content in files.items():
        write(tmp_path, name, content)
    load = CpuLoad(Recorded(tmp_path))
    write(tmp_path, counter, text.format(int(7.0 * unit)))
    assert load.fraction() is None
    clock = 102.0
    write(tmp_path, counter, text.format(int(8.5 * unit)))
    assert load.fraction() == pytest.approx(1.5 / (2 * 1.5))


def test_a_quota_without_a_counter_leaves_the_processors(tmp_path: Path) -> None:
    for name, content in V2_FILES.items():
        write(tmp_path, name, content)
    load = CpuLoad(Recorded(tmp_path))
    stat(tmp_path, busy=0, idle=0)
    load.fraction()
    stat(tmp_path, busy=50, idle=50)
    assert load.fraction() == 0.5


@pytest.mark.parametrize("text", ["", "cpu0 1 2", "cpu0 x", "cpu 1 2 3 4 5", "\u00b2" * 99])
def test_odd_counters_are_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, "proc/stat", text)
    assert linux_cpu_times(tmp_path) is None
    busy, total = Machine(tmp_path).busy_seconds(None)  # psutil's, of this machine
    assert 0 <= busy <= total


def test_this_machine_at_work() -> None:
    detector = ResourceDetector()
    first = detector.sample()
    assert first.cpu_fraction is None
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        sum(range(1000))
    second = detector.sample()
    assert second.time > first.time
    assert second.cpu_fraction is not None
    assert 0 < second.cpu_fraction <= 1
    assert 0 < second.memory_used_bytes < second.memory_total_bytes


def test_a_process_that_computes_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            found = {each.pid: each for each in busy_processes(1.0)}
        finally:
            busy.kill()
    assert "python" in found[busy.pid].name.lower()
    assert found[busy.pid].cores >= 0.1


def test_who_is_told() -> None:
    assert busy_words([]) == ""
    busy = [BusyProcess(1.0 - n / 10, "python", n) for n in range(5)]
    assert busy_words(busy).startswith("Also busy: python (process 0) using 1.0 cores, ")
    assert "and 2 more" in busy_words(busy)
