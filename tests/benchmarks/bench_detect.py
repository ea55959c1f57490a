"""What it costs to look at the machine: all of it once, and its state again and again.

Run it with ``python tests/benchmarks/bench_detect.py [ROUNDS]``. The peer does what a monitor
written with psutil (and pynvml, where there is a driver) does for the same answers, in the same
process and round by round in turn. psutil knows nothing of control groups, instruction sets or
CUDA's variables. Figures are medians; the first call, with its imports, is shown by itself.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from nbllm.core.resource_detector import ResourceDetector

FIRST = """
import time
began = time.perf_counter()
from nbllm.core.resource_detector import ResourceDetector
imported = time.perf_counter()
ResourceDetector().detect()
print(imported - began, time.perf_counter() - imported)
"""


def first_call() -> tuple[float, float]:
    """Seconds of the import and of the first detection, in a process of their own."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    imported, detected = map(float, done.stdout.split())
    return imported, detected


def peer_detect() -> None:
    """The same facts from psutil."""
    psutil.cpu_count(logical=False)
    psutil.cpu_count()
    psutil.cpu_freq()
    psutil.Process().cpu_affinity()
    psutil.virtual_memory()
    psutil.swap_memory()
    peer_gpus()


def peer_sample() -> None:
    """The same state from psutil."""
    psutil.cpu_percent(percpu=True)
    psutil.virtual_memory()
    peer_gpus()


def peer_gpus() -> None:
    """The memory and the load of each GPU, opened and closed as a short script does."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceGetMemoryInfo(handle)
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    pynvml.nvmlShutdown()


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    imported, first = (
        statistics.median(times) for times in zip(*(first_call() for _ in range(5)), strict=True)
    )
    print(
        f"import {imported * 1e3:.1f} ms, first detection {first * 1e3:.1f} ms (≤ 50 without a GPU)"
    )
    detector = ResourceDetector()
    found = detector.detect()
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object], str]] = {
        "detect": (detector.detect, peer_detect, ""),
        "sample": (detector.sample, peer_sample, " (≤ 5)"),
    }
    for name, (ours, peers, goal) in pairs.items():
        ours(), peers()
        runs = [(milliseconds(ours), milliseconds(peers)) for _ in range(rounds)]
        mine, theirs = (statistics.median(side) for side in zip(*runs, strict=True))
        print(
            f"{name}: {mine:.2f} ms{goal}, psutil {theirs:.2f} ms, "
            f"ratio {statistics.median(a / b for a, b in runs):.2f}"
        )
    bandwidth = detector.memory_bandwidth()
    taken = milliseconds(detector.memory_bandwidth)
    print(f"memory bandwidth {(bandwidth or 0) / 1e9:.1f} GB/s; asked again {taken:.2f} ms")
    print(found)


if __name__ == "__main__":
    main()
