from __future__ import annotations

import pytest

from nbllm.core.hardware.apple_gpus import AppleSource, apple_findings, working_set_bytes
from nbllm.core.hardware.machine import Machine, MachineMemory

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
