"""GPUs are found in llama.cpp's list by what they are, whatever the order of the two lists."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from nbllm.core.hardware.engine_devices import EngineDevice, EngineDevices
from nbllm.core.hardware.resources import GpuInfo

GIB = 2**30


def gpu(index: int, name: str = "NVIDIA A100", gib: float | None = 40, **facts: Any) -> GpuInfo:
    size = None if gib is None else int(gib * GIB)
    return GpuInfo(
        index=index,
        name=name,
        vendor="nvidia",
        vram_total_bytes=size,
        vram_free_bytes=size,
        **facts,
    )


def listed(description: str = "NVIDIA A100", gib: float = 40, **facts: Any) -> EngineDevice:
    return EngineDevice("CUDA0", description, total_bytes=int(gib * GIB), **facts)


def places(gpus: list[GpuInfo], *devices: EngineDevice) -> dict[str, int]:
    return EngineDevices(devices, supports_gpu=True, build="x").places(gpus)


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_equal_gpus_are_told_apart_by_their_place_on_the_bus(order: tuple[int, ...]) -> None:
    buses = ["0000:01:00.0", "0000:65:00.0", "0000:C1:00.0"]
    gpus = [gpu(i, pci_bus_id=bus) for i, bus in enumerate(buses)]
    devices = [listed(pci_bus_id=buses[i].lower()) for i in order]
    assert places(gpus, *devices) == {f"GPU {i}": order.index(i) for i in range(3)}


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_different_gpus_are_told_apart_by_name_and_memory(order: tuple[int, ...]) -> None:
    kinds = [("NVIDIA A100", 40), ("NVIDIA A100", 80), ("NVIDIA T4", 15)]
    gpus = [gpu(i, *kind) for i, kind in enumerate(kinds)]
    assert places(gpus, *(listed(kinds[i][0], kinds[i][1] * 0.99) for i in order)) == {
        f"GPU {i}": order.index(i) for i in range(3)
    }


def test_a_gpu_that_llama_cpp_does_not_list_takes_no_other_ones_place() -> None:
    buses = ["0000:01:00.0", "0000:65:00.0"]
    gpus = [gpu(i, pci_bus_id=bus) for i, bus in enumerate(buses)]
    assert places(gpus, listed(pci_bus_id=buses[1])) == {"GPU 1": 0}
    assert places([gpu(0, "AMD Radeon Graphics", 4), gpu(1, gib=40)], listed()) == {"GPU 1": 0}
    assert places([gpu(0, gib=80)], listed(gib=40)) == {}
    assert places([], listed()) == {}


def test_instances_of_one_gpu_are_told_apart_by_their_memory() -> None:
    bus = "0000:01:00.0"
    gpus = [gpu(0, gib=size, pci_bus_id=bus, mig_index=i) for i, size in enumerate((10, 20))]
    assert places(gpus, listed(gib=19.8, pci_bus_id=bus)) == {"GPU 0 MIG 1": 0}


def test_names_may_say_more_and_memory_may_be_shared() -> None:
    shared = GpuInfo(index=0, name="Apple M3", vendor="apple", unified_memory=True)
    assert places([shared], listed("Apple M3", 24)) == {"GPU 0": 0}
    more = "NVIDIA GeForce RTX 3060 (NVK GA106)"
    assert places([gpu(0, "NVIDIA GeForce RTX 3060", 12)], listed(more, 11.8)) == {"GPU 0": 0}


def test_what_tells_nothing_of_itself_is_taken_in_its_order() -> None:
    silent = (EngineDevice("CUDA0"), EngineDevice("CUDA1"))
    assert places([gpu(0), gpu(1), gpu(2)], *silent) == {"GPU 0": 0, "GPU 1": 1}


def test_devices_of_servers_are_never_mistaken_for_gpus() -> None:
    there = [gpu(i, server="10.0.0.5:50052", name=f"RPC{i}") for i in range(2)]
    devices = [
        listed(server="10.0.0.6:50052"),
        listed(server="10.0.0.5:50052"),
        listed(),
        listed(server="10.0.0.5:50052"),
    ]
    assert places([gpu(0), *there], *devices) == {
        "GPU 0": 2,
        "RPC 10.0.0.5:50052": 1,
        "RPC 10.0.0.5:50052 #1": 3,
    }
