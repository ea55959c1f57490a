"""The GPU of a Mac with an Apple chip: how much of the main memory Metal lets it use.

Metal's own figure is ``MTLDevice.recommendedMaxWorkingSetSize``, which only a program that opens
the GPU can ask; llama.cpp tells it when a model is loaded. Without opening it, what is known:

* ``sysctl iogpu.wired_limit_mb`` is the limit where somebody has set one; 0 means the default.
* The default, as llama.cpp has reported it: two thirds of 16 and 32 GiB (10,922.67 MiB in
  abetlen/llama-cpp-python#687, 21,845.34 in ollama/ollama#434), and three quarters of 64 and 96
  GiB (49,152 in ggml-org/llama.cpp#1870, 73,728 in ggml-org/llama.cpp#3213). macOS 26 allows
  more (107.5 of 128 GiB in antirez/ds4#893), so the rule errs on the safe side.
* Load and memory in use: the driver's ``PerformanceStatistics``, which ``ioreg`` prints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nbllm.core.hardware.gpu_source import GpuFindings
from nbllm.core.hardware.machine import Machine, MachineMemory, output_of
from nbllm.core.hardware.resources import GpuInfo

__all__ = ["AppleSource", "apple_findings", "working_set_bytes"]

_GIB = 2**30
_IOREG = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
_BRAND, _LIMIT = "machdep.cpu.brand_string", "iogpu.wired_limit_mb"
_TRANSLATED = "sysctl.proc_translated"


class AppleSource:
    """Asks ``sysctl`` and ``ioreg``, which takes some 30 ms."""

    what = "Apple GPU"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def find(self) -> GpuFindings:
        """The one GPU, or why it cannot be used."""
        facts = self._machine.sysctl(_BRAND, _LIMIT, _TRANSLATED)
        return apple_findings(
            self._machine.architecture(), facts, output_of(_IOREG) or "", self._machine.memory()
        )

    def live(self) -> tuple[GpuInfo, ...]:
        """The same; there is nothing quicker to ask."""
        return self.find().gpus

    def close(self) -> None:
        """Nothing is open."""


def apple_findings(
    architecture: str, facts: Mapping[str, str], ioreg: str, memory: MachineMemory
) -> GpuFindings:
    """The GPU, from the output of both commands and the machine's memory."""
    if facts.get(_TRANSLATED) == "1":
        problem = (
            "No GPU: this Python was built for Intel and runs under Rosetta. Install one for "
            "Apple silicon (arm64) to use the GPU."
        )
        return GpuFindings(problems=(problem,))
    if architecture != "arm64":
        return GpuFindings(absence="No GPU: the GPUs of Intel Macs are not supported.")
    name = _text(ioreg, "model") or facts.get(_BRAND) or "Apple GPU"
    cores = _number(ioreg, "gpu-core-count")
    busy = _number(ioreg, "Device Utilization %")
    limit = working_set_bytes(memory.total, facts.get(_LIMIT))
    used = _number(ioreg, "In use system memory")
    gpu = GpuInfo(
        index=0,
        name=f"{name} ({cores} GPU cores)" if cores else name,
        vendor="apple",
        unified_memory=True,
        vram_total_bytes=limit,
        vram_used_bytes=used,
        vram_free_bytes=max(0, min(limit - (used or 0), memory.available)),
        utilization=None if busy is None else min(busy, 100) / 100,
        note="may use part of the main memory; for more: sudo sysctl iogpu.wired_limit_mb=MIB",
    )
    return GpuFindings(gpus=(gpu,))


def working_set_bytes(memory_bytes: int, wired_limit_mib: str | None) -> int:
    """How much the GPU may hold at a time; ``wired_limit_mib`` is the value of the sysctl."""
    if wired_limit_mib and wired_limit_mib.isdecimal() and int(wired_limit_mib) > 0:
        return min(int(wired_limit_mib) * 2**20, memory_bytes)
    return memory_bytes * 2 // 3 if memory_bytes <= 32 * _GIB else memory_bytes * 3 // 4


def _number(ioreg: str, key: str) -> int | None:
    found = re.search(rf'"{re.escape(key)}"\s*=\s*([0-9]{{1,20}})', ioreg)
    return int(found[1]) if found else None


def _text(ioreg: str, key: str) -> str | None:
    found = re.search(rf'"{re.escape(key)}"\s*=\s*"([^"]+)"', ioreg)
    return found[1] if found else None
