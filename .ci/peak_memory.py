"""Runs a command and measures the memory of all its processes: peak_memory.py MIB COMMAND...

Prints the peak, and fails where it is above MIB or where the command fails. What several processes
share is counted once (the proportional set size of Linux), and the system's page cache not at all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import psutil

SECONDS = 0.1
MIB = 2**20


def used_bytes(root: psutil.Process) -> int:
    """Of a process and all that it started."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):  # it has just ended
            total += process.memory_full_info().pss
    return total


def main(limit_mib: int, command: list[str]) -> int:
    """The command's exit status, or 1 where it took more than it may."""
    peak, running = 0, subprocess.Popen(command)
    with suppress(psutil.NoSuchProcess):
        while running.poll() is None:
            peak = max(peak, used_bytes(psutil.Process(running.pid)))
            time.sleep(SECONDS)
    print(f"peak of memory: {peak / MIB:,.0f} MiB of {limit_mib:,} MiB")
    return running.wait() or int(peak > limit_mib * MIB)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
