"""Who keeps the processors busy."""

from __future__ import annotations

import subprocess
import sys

from nbllm.core.hardware.busy import BusyProcess, busy_processes, busy_words


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
