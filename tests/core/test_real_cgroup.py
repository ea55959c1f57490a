"""A control group of the kernel's own, where this user may make one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

GIB, MIB = 2**30, 2**20
INSIDE = """
import json, os, sys, tempfile
for file in sys.argv[1:]:
    with open(file, "w") as tasks:
        tasks.write(str(os.getpid()))
from nbllm.core.resource_detector import ResourceDetector
detector = ResourceDetector()
def free():
    return detector.memory().available_bytes
def total():
    return detector.memory().total_bytes
before = free()
with tempfile.NamedTemporaryFile(dir='/var/tmp') as file:  # /tmp may be memory itself
    file.write(os.urandom(1 << 20) * 128)
    file.flush()
    os.fsync(file.fileno())
    cached = free()
block = bytearray(os.urandom(1 << 20)) * 128
held = free()
print(json.dumps([total(), before, cached, held, detector.cpu().usable_cores]))
"""


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    """A new group with a limit of 1 GiB and half a core, of version 2 or, as two, of version 1."""
    top, name = Path("/sys/fs/cgroup"), f"nbllm-test-{os.getpid()}"
    limits = {
        top / "memory" / name / "memory.limit_in_bytes": f"{GIB}",
        top / "cpu" / name / "cpu.cfs_quota_us": "50000",
    }
    if (top / "cgroup.controllers").exists():
        limits = {top / name / "memory.max": f"{GIB}", top / name / "cpu.max": "50000 100000"}
    folders = list(dict.fromkeys(file.parent for file in limits))
    try:
        for file, text in limits.items():
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        yield folders
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    finally:
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()


def test_the_kernels_limits_are_seen_and_its_page_cache_is_not_counted(
    groups: list[Path],
) -> None:
    command = [sys.executable, "-c", INSIDE, *(str(group / "cgroup.procs") for group in groups)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    total, before, cached, held, cores = json.loads(done.stdout)
    assert (total, cores) == (GIB, 0.5)
    assert 0 < before < GIB
    assert abs(before - cached) < 40 * MIB, "128 MiB of a file are in the page cache"
    assert cached - held == pytest.approx(128 * MIB, abs=40 * MIB), "memory in use counts"
