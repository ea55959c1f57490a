"""GPUs that only a side door leads to: asked where nothing else has found one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nbllm.core.hardware.drm import number_in, text_in
from nbllm.core.hardware.gpu_source import GpuFindings
from nbllm.core.hardware.resources import GpuInfo

__all__ = ["TegraSource", "TorchSource"]

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
