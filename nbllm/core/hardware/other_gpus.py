"""GPUs of Apple's chips, and those of which only a side door tells: Tegra's, PyTorch's.

Of an Apple chip counts how much of the main memory Metal lets it use. Its own figure is
``MTLDevice.recommendedMaxWorkingSetSize``, which only a program that opens the GPU can ask;
llama.cpp tells it when a model is loaded. Without opening it, what is known:

* ``sysctl iogpu.wired_limit_mb`` is the limit where somebody has set one; 0 means the default.
* The default, as llama.cpp has reported it: two thirds of 16 and 32 GiB (10,922.67 MiB in
  abetlen/llama-cpp-python#687, 21,845.34 in ollama/ollama#434), and three quarters of 64 and 96
  GiB (49,152 in ggml-org/llama.cpp#1870, 73,728 in ggml-org/llama.cpp#3213). macOS 26 allows
  more (107.5 of 128 GiB in antirez/ds4#893), so the rule errs on the safe side.
* Load and memory in use: the driver's ``PerformanceStatistics``, which ``ioreg`` prints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nbllm.core.hardware.drm import number_in, text_in
from nbllm.core.hardware.machine import Machine, MachineMemory, output_of
from nbllm.core.hardware.resources import GpuFindings, GpuInfo

__all__ = [
    "AppleSource",
    "TegraSource",
    "TorchSource",
    "apple_findings",
    "working_set_bytes",
]

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


_TEGRA_LOAD = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load")


class TegraSource:
    """NVIDIA's Jetson boards, older ones of which have no NVML. Their GPU has the main memory.

    The device tree names the chip ("nvidia,tegra234"), and the driver writes its load in
    thousandths.
    """

    what = "Jetson GPU"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def find(self) -> GpuFindings:
        """The one GPU of a board."""
        if "nvidia,tegra" not in (text_in(self._root / "proc/device-tree/compatible") or ""):
            return GpuFindings()
        loads = (number_in(self._root / file) for file in _TEGRA_LOAD)
        load = next((load for load in loads if load is not None), None)
        board = (text_in(self._root / "proc/device-tree/model") or "NVIDIA Jetson").rstrip("\0")
        gpu = GpuInfo(
            index=0,
            name=board,
            vendor="nvidia",
            unified_memory=True,
            utilization=None if load is None else min(load, 1000) / 1000,
        )
        return GpuFindings(gpus=(gpu,))

    def live(self) -> tuple[GpuInfo, ...]:
        """The same."""
        return self.find().gpus

    def close(self) -> None:
        """Nothing is open."""


class TorchSource:
    """What PyTorch knows, if this process already computes on a GPU with it.

    Otherwise it is not asked: importing it takes seconds, and so does waking its GPUs up, which
    also keeps processes forked afterwards from using them.
    """

    what = "GPUs that PyTorch uses"

    def __init__(self, modules: Mapping[str, ModuleType] | None = None) -> None:
        self._modules = sys.modules if modules is None else modules

    def find(self) -> GpuFindings:
        """The GPUs of ``torch.cuda`` (NVIDIA's and AMD's) and of ``torch.xpu`` (Intel's)."""
        torch: Any = self._modules.get("torch")
        if torch is None:
            return GpuFindings()
        gpus = tuple(_torch_gpus(torch))
        if gpus:
            return GpuFindings(gpus=gpus)
        return GpuFindings(absence="PyTorch is loaded but uses no GPU.")

    def live(self) -> tuple[GpuInfo, ...]:
        """The same."""
        return self.find().gpus

    def close(self) -> None:
        """Nothing is open."""


def _torch_gpus(torch: Any) -> Iterator[GpuInfo]:
    is_amd = bool(getattr(torch.version, "hip", None))
    for module, vendor in ((torch.cuda, "amd" if is_amd else "nvidia"), (_xpu(torch), "intel")):
        if module is None or not module.is_initialized():
            continue
        for index in range(module.device_count()):
            yield _torch_gpu(module, index, vendor)


def _xpu(torch: Any) -> Any:
    return getattr(torch, "xpu", None)


def _torch_gpu(module: Any, index: int, vendor: str) -> GpuInfo:
    facts = module.get_device_properties(index)
    # Asking for the free memory would open a GPU that is listed, but not used yet.
    is_open = module.memory_reserved(index) > 0
    free = module.mem_get_info(index)[0] if is_open else None
    capability = (facts.major, facts.minor) if vendor == "nvidia" else None
    return GpuInfo(
        index=index,
        name=facts.name,
        vendor=vendor,
        vram_total_bytes=facts.total_memory,
        vram_free_bytes=free,
        vram_used_bytes=None if free is None else facts.total_memory - free,
        unified_memory=bool(getattr(facts, "is_integrated", False)),
        compute_capability=capability,
        architecture=str(facts.gcnArchName).partition(":")[0] if vendor == "amd" else None,
        note="reported by PyTorch only",
    )
