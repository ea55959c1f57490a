"""GPUs of Apple's chips, and those that only a side door leads to, on made-up machines."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nbllm.core.hardware.machine import Machine, MachineMemory
from nbllm.core.hardware.other_gpus import (
    AppleSource,
    TegraSource,
    TorchSource,
    apple_findings,
    working_set_bytes,
)
from nbllm.core.resource_detector import ResourceDetector

GIB, MIB = 2**30, 2**20
IOREG = """\
+-o AGXAcceleratorG13X  <class AGXAcceleratorG13X, id 0x1000004a1, registered, matched, active>
    {
      "gpu-core-count" = 16
      "model" = "Apple M1 Pro"
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=289121894,\
"Device Utilization %"=8,"Renderer Utilization %"=7,"In use system memory"=577814528}
    }
"""
MEMORY = MachineMemory(32 * GIB, 24 * GIB, 0, 0)


@pytest.mark.parametrize(
    ("memory_gib", "reported_mib"),  # llama.cpp's reports; the module names the threads
    [(16, 10_922.67), (32, 21_845.34), (64, 49_152), (96, 73_728)],
)
def test_the_default_limit_is_as_reported(memory_gib: int, reported_mib: float) -> None:
    assert working_set_bytes(memory_gib * GIB, None) / MIB == pytest.approx(reported_mib, abs=0.01)


@pytest.mark.parametrize(
    ("setting", "mib"),
    [("28000", 28_000), ("0", 21_845), ("", 21_845), ("x", 21_845), ("99999999", 32_768)],
)
def test_a_limit_that_was_set_counts(setting: str, mib: int) -> None:
    assert working_set_bytes(32 * GIB, setting) // MIB == mib


def test_an_apple_chip() -> None:
    facts = {"machdep.cpu.brand_string": "Apple M1 Pro", "iogpu.wired_limit_mb": "0"}
    (gpu,) = apple_findings("arm64", facts, IOREG, MEMORY).gpus
    limit = 32 * GIB * 2 // 3
    assert (gpu.name, gpu.vendor) == ("Apple M1 Pro (16 GPU cores)", "apple")
    assert gpu.unified_memory
    assert gpu.utilization == 0.08
    assert (gpu.vram_total_bytes, gpu.vram_used_bytes) == (limit, 577_814_528)
    assert gpu.vram_free_bytes == limit - 577_814_528
    assert "iogpu.wired_limit_mb" in (gpu.note or "")


def test_no_more_is_free_than_the_machine_has_left() -> None:
    (gpu,) = apple_findings("arm64", {}, IOREG, MachineMemory(32 * GIB, 3 * GIB, 0, 0)).gpus
    assert gpu.vram_free_bytes == 3 * GIB


@pytest.mark.parametrize("ioreg", ["", "garbage", '"gpu-core-count" = x', IOREG[:60]])
def test_without_the_drivers_word_the_limit_is_still_known(ioreg: str) -> None:
    (gpu,) = apple_findings("arm64", {"machdep.cpu.brand_string": "Apple M4"}, ioreg, MEMORY).gpus
    assert (gpu.name, gpu.utilization, gpu.vram_used_bytes) == ("Apple M4", None, None)
    assert gpu.vram_total_bytes == 32 * GIB * 2 // 3


def test_python_for_intel_on_an_apple_chip_is_a_problem() -> None:
    found = apple_findings("x86_64", {"sysctl.proc_translated": "1"}, IOREG, MEMORY)
    assert found.gpus == ()
    assert "Rosetta" in found.problems[0]


def test_macs_of_intel_have_no_gpu_to_use() -> None:
    found = apple_findings("x86_64", {"sysctl.proc_translated": "0"}, "", MEMORY)
    assert found.gpus == ()
    assert "Intel" in (found.absence or "")


def test_the_source_asks_the_machine() -> None:
    class Mac(Machine):
        def architecture(self) -> str:
            return "arm64"

        def memory(self) -> MachineMemory:
            return MEMORY

        def sysctl(self, *names: str) -> dict[str, str]:
            assert "iogpu.wired_limit_mb" in names
            return {"iogpu.wired_limit_mb": "30000"}

    source = AppleSource(Mac())
    assert source.find().gpus[0].vram_total_bytes == 30_000 * MIB
    assert source.live() == source.find().gpus


class FakeCuda:
    """``torch.cuda`` with two GPUs, one of which is in use."""

    def __init__(self, *, awake: bool) -> None:
        self.is_initialized = lambda: awake

    def device_count(self) -> int:
        return 2

    def get_device_properties(self, index: int) -> Any:
        return SimpleNamespace(
            name=f"Device {index}",
            total_memory=8 * GIB,
            major=9,
            minor=0,
            gcnArchName="gfx1100:sramecc+",
            is_integrated=index,
        )

    def memory_reserved(self, index: int) -> int:
        return 0 if index else GIB

    def mem_get_info(self, index: int) -> tuple[int, int]:
        assert index == 0, "that would open a GPU that is not in use"
        return 5 * GIB, 8 * GIB


def torch(*, awake: bool, hip: str | None = None, **more: Any) -> dict[str, ModuleType]:
    module = ModuleType("torch")
    vars(module).update(cuda=FakeCuda(awake=awake), version=SimpleNamespace(hip=hip), **more)
    return {"torch": module}


def test_pytorch_is_asked_if_it_uses_a_gpu() -> None:
    first, second = TorchSource(torch(awake=True)).find().gpus
    assert (first.name, first.vendor, first.compute_capability) == ("Device 0", "nvidia", (9, 0))
    assert (first.vram_total_bytes, first.vram_free_bytes) == (8 * GIB, 5 * GIB)
    assert (second.vram_free_bytes, second.unified_memory) == (None, True)
    assert TorchSource(torch(awake=True)).live() == (first, second)


def test_pytorch_for_amd_and_for_intel() -> None:
    first, _ = TorchSource(torch(awake=True, hip="6.2")).find().gpus
    assert (first.vendor, first.architecture, first.compute_capability) == ("amd", "gfx1100", None)
    intel = TorchSource(torch(awake=False, xpu=FakeCuda(awake=True))).find().gpus
    assert [gpu.vendor for gpu in intel] == ["intel", "intel"]


def test_pytorch_is_never_woken_up() -> None:
    found = TorchSource(torch(awake=False)).find()
    assert found.gpus == ()
    assert "uses no GPU" in (found.absence or "")
    assert TorchSource({}).find().absence is None


@pytest.mark.parametrize("place", ["sys/devices/gpu.0", "sys/devices/platform/gpu.0"])
def test_a_jetson(tmp_path: Path, place: str) -> None:
    for name, text in {
        "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        f"{place}/load": "422\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (gpu,) = TegraSource(tmp_path).find().gpus
    assert gpu.name == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (gpu.unified_memory, gpu.utilization) == (True, 0.422)
    assert TegraSource(tmp_path).live() == (gpu,)


def test_other_boards_are_no_jetsons(tmp_path: Path) -> None:
    assert TegraSource(tmp_path).find().gpus == ()


def test_side_doors_are_tried_last() -> None:
    detector = ResourceDetector()
    assert [door.what for door in detector._side_doors] in (
        ["Jetson GPU", "GPUs that PyTorch uses"],
        [],  # macOS
    )
