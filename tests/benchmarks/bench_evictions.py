"""Loads that alternate over four models on a machine that holds two of them.

Run it with ``python tests/benchmarks/bench_evictions.py [LOADS]`` (100) on a machine that does
nothing else. The four models are the bundled one under four names; the machine's memory is
invented, and what the workers take of it is real. Each model writes one token after its load.
Beside it, the same model opened and closed without a manager.

It fails where a load does, where the workers together take more than the machine has, and where
a worker is left at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import psutil

from nbllm import ModelManager, ResourceDetector
from nbllm.core.catalogue.listing import bundled_models
from nbllm.core.hardware.resources import Resources
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.openers import LoadControl, open_model, plan_model
from nbllm.core.types import LoadOptions, ModelInfo

NAMES = ("north", "east", "south", "west")
HEADROOM = 128 * 2**20
ROUND = 5


def workers() -> list[psutil.Process]:
    """The workers of this process."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def resident_bytes() -> int:
    """What all workers have in memory, the mapped files included."""
    return sum(worker.memory_info().rss for worker in workers())


def small_machine(total: int) -> Callable[[], Resources]:
    """This machine, with so little memory that the workers of this process take a part of."""
    real = ResourceDetector().detect()

    def detect() -> Resources:
        memory = [worker.memory_info() for worker in workers()]
        # As a system does: a mapped file is memory that can be had.
        used = sum(each.rss - getattr(each, "shared", 0) for each in memory)
        there_is = replace(
            real.memory, total_bytes=total, available_bytes=max(0, total - used), limit="invented"
        )
        return replace(real, memory=there_is, gpus=())

    return detect


async def alternate(infos: list[ModelInfo], loads: int, total: int) -> dict[str, float]:
    """Load them in turn and write a token with each; what was measured, by name."""
    told: list[ManagerEvent] = []
    seconds: list[float] = []
    most = 0
    me = psutil.Process()
    async with ModelManager(infos, resources=small_machine(total)) as manager:
        manager.subscribe(told.append)
        # Allocators and thread pools grow at first, so the last round is compared to the second.
        rss: list[int] = []
        for number, info in enumerate(itertools.islice(itertools.cycle(infos), loads)):
            began = time.perf_counter()
            model, _ = await manager.load_model(info.name)
            seconds.append(time.perf_counter() - began)
            await model.generate("Hi", max_tokens=1)
            most = max(most, resident_bytes())
            if number % len(infos) == len(infos) - 1:
                rss.append(me.memory_info().rss)
    return {
        "loads": loads,
        "evictions": sum(event.kind == "evicted" for event in told),
        "failures": sum(event.kind == "failed" for event in told),
        "seconds a load": statistics.median(seconds),
        "most memory of the workers (MiB)": most / 2**20,
        "machine's memory (MiB)": total / 2**20,
        "RSS of this process after the second round (MiB)": rss[min(1, len(rss) - 1)] / 2**20,
        "RSS of this process after the last round (MiB)": rss[-1] / 2**20,
        "workers left": len(workers()),
    }


def bare_seconds(info: ModelInfo, resources: Resources) -> float:
    """The median time to close a worker and start another, without a manager."""
    seconds = []
    placed = replace(info, placement=plan_model(info, resources))
    model = open_model(placed, LoadControl())
    for _ in range(ROUND):
        began = time.perf_counter()
        asyncio.run(model.aclose())
        model = open_model(placed, LoadControl())
        seconds.append(time.perf_counter() - began)
    asyncio.run(model.aclose())
    return statistics.median(seconds)


def main(loads: int) -> None:
    """Measure and print."""
    bundled = next(iter(bundled_models()))
    options = LoadOptions(context_length=512, parallel=1)
    infos = [replace(bundled, name=name, load=options) for name in NAMES]
    real = replace(ResourceDetector().detect(), gpus=())
    placement = plan_model(infos[0], real)
    assert placement is not None
    total = int(2.5 * placement.total_bytes) + HEADROOM
    bare = bare_seconds(infos[0], real)
    measured = asyncio.run(alternate(infos, loads, total))
    for name, value in measured.items():
        print(f"{name:<50} {value:10,.3f}" if value % 1 else f"{name:<50} {value:10,.0f}")
    print(f"{'seconds for a bare worker':<50} {bare:10,.3f}")
    print(f"{'ratio':<50} {measured['seconds a load'] / bare:10,.2f}")
    assert measured["failures"] == 0
    assert measured["workers left"] == 0
    assert measured["most memory of the workers (MiB)"] <= measured["machine's memory (MiB)"]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
