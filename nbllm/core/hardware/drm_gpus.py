"""AMD's and Intel's GPUs on Linux, from what their drivers write under ``/sys``.

Sources: the kernel's ``gpu/amdgpu/driver-misc.rst`` (memory, load, ``gpu_metrics``) and
``gpu/amdgpu/thermal.rst``; ROCm's topology under ``/sys/class/kfd`` for the order in which ROCm
counts, and LLVM's AMDGPU guide for the names of architectures.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbllm.core.hardware.drm import DrmCard, cards_of, number_in, product_name, text_in
from nbllm.core.hardware.resources import GpuFindings, GpuInfo
from nbllm.core.hardware.visible_devices import choose_rocm_devices

__all__ = ["DrmSource"]

_AMD, _INTEL, _NVIDIA = "1002", "8086", "10de"
_INTEL_NOTE = "the system does not report its free memory or its load"


class DrmSource:
    """The cards of AMD and Intel; NVIDIA's only where they run with a driver that is of no use."""

    what = "AMD and Intel GPUs"

    def __init__(self, root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._environ = os.environ if environ is None else environ
        self._seen: list[tuple[DrmCard, GpuInfo]] | None = None

    def find(self) -> GpuFindings:
        """All cards. ROCm's variables hide AMD's; they are numbered as ROCm counts."""
        if sys.platform != "linux":
            return GpuFindings(absence="AMD and Intel GPUs are detected on Linux only.")
        cards = list(cards_of(self._root))
        amd = [card for card in cards if card.vendor_id == _AMD]
        intel = [card for card in cards if card.vendor_id == _INTEL]
        gpus = [*self._amd(amd), *self._intel(intel, first=len(amd))]
        return GpuFindings(
            gpus=tuple(gpu for gpu in gpus if not gpu.hidden),
            hidden=tuple(gpu for gpu in gpus if gpu.hidden),
            problems=tuple(_problems(self._root, cards)),
            absence=None if gpus else "No AMD or Intel GPU: the kernel lists none.",
        )

    def live(self) -> tuple[GpuInfo, ...]:
        """The cards with the memory, load, temperature and power of now."""
        if self._seen is None:
            cards = {card.pci_bus_id: card for card in cards_of(self._root)}
            self._seen = [(cards[gpu.pci_bus_id or ""], gpu) for gpu in self.find().gpus]
        return tuple(replace(gpu, **_moment(card)) for card, gpu in self._seen)

    def close(self) -> None:
        """Nothing is open."""

    def _amd(self, cards: list[DrmCard]) -> list[GpuInfo]:
        """In the order in which HIP offers those that it may; the others at the end."""
        nodes = {node.pci_bus_id: node for node in _rocm_nodes(self._root)}
        order = list(nodes)
        cards.sort(key=lambda card: _place(card, order))
        gpus = [
            _amd_gpu(self._root, place, card, nodes.get(card.pci_bus_id))
            for place, card in enumerate(cards)
        ]
        within_reach = [gpu for gpu in gpus if not gpu.hidden]
        choice = choose_rocm_devices([gpu.uuid for gpu in within_reach], self._environ)
        return [
            *(within_reach[place] for place in choice.positions),
            *(replace(within_reach[place], hidden=why) for place, why in choice.hidden.items()),
            *(gpu for gpu in gpus if gpu.hidden),
        ]

    def _intel(self, cards: list[DrmCard], first: int) -> list[GpuInfo]:
        return [_intel_gpu(self._root, first + place, card) for place, card in enumerate(cards)]


def _place(card: DrmCard, order: list[str]) -> int:
    return order.index(card.pci_bus_id) if card.pci_bus_id in order else len(order)


def _problems(root: Path, cards: list[DrmCard]) -> Iterator[str]:
    for card in cards:
        if card.vendor_id == _NVIDIA and card.driver == "nouveau":
            name = product_name(root, card) or "NVIDIA GPU"
            yield (
                f"The {name} at {card.pci_bus_id} uses the driver nouveau, which does not support "
                "compute. Install NVIDIA's driver."
            )
    gate = root / "dev/kfd"
    if gate.exists() and not os.access(gate, os.R_OK | os.W_OK):
        yield (
            "ROCm cannot be used: no permission to open /dev/kfd. Join the group that has it "
            "(often: sudo usermod -aG render,video $USER), and log in again."
        )


def _obstacle(root: Path, card: DrmCard) -> str | None:
    """Why this process cannot compute on a card that the kernel lists.

    A container sees every card of the machine under ``/sys``, but has only the devices in
    ``/dev/dri`` that it was given.
    """
    if card.driver == "radeon":
        return "its driver, radeon, does not support compute"
    node = next(iter(sorted(card.device.glob("drm/renderD*"))), None)
    if node is None:
        return None
    if not (root / "dev/dri" / node.name).exists():
        more = " --device /dev/kfd" if card.vendor_id == _AMD else ""
        return f"/dev/dri/{node.name} is missing; a container needs --device /dev/dri{more}"
    if not os.access(root / "dev/dri" / node.name, os.R_OK | os.W_OK):
        return (
            f"no permission to open /dev/dri/{node.name}; join the group that has it (often: sudo "
            "usermod -aG render $USER)"
        )
    return None


# ---------------------------------------------------------------- AMD


@dataclass(frozen=True, slots=True)
class _RocmNode:
    pci_bus_id: str
    architecture: str | None


def _rocm_nodes(root: Path) -> Iterator[_RocmNode]:
    """The GPUs in ROCm's order; none where its part of the kernel is not there."""
    folders = (root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*")
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        lines = [line.split() for line in (text_in(folder / "properties") or "").splitlines()]
        facts = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
        if facts.get("simd_count"):  # a node without such is a processor
            bus, rest = divmod(facts.get("location_id", 0) & 0xFFFF, 256)
            address = f"{facts.get('domain', 0):04x}:{bus:02x}:{rest >> 3:02x}.{rest & 7}"
            yield _RocmNode(address, _architecture(facts.get("gfx_target_version", 0)))


def _architecture(version: int) -> str | None:
    """The name for ROCm's number: "gfx90a" for 90010, "gfx1100" for 110000."""
    major, rest = divmod(version, 10_000)
    minor, stepping = divmod(rest, 100)
    return f"gfx{major}{minor:x}{stepping:x}" if version else None


def _amd_gpu(root: Path, index: int, card: DrmCard, node: _RocmNode | None) -> GpuInfo:
    unique = text_in(card.device / "unique_id")
    is_integrated = _is_integrated(card)
    return GpuInfo(
        index=index,
        name=product_name(root, card) or f"AMD GPU [{card.vendor_id}:{card.device_id}]",
        vendor="amd",
        uuid=f"GPU-{unique}" if unique else None,
        unified_memory=is_integrated,
        power_limit_watts=card.power_limit_watts,
        pci_bus_id=card.pci_bus_id,
        architecture=node.architecture if node else None,
        hidden=_obstacle(root, card),
        note="integrated: its VRAM is part of the main memory" if is_integrated else None,
        **_moment(card),
    )


def _is_integrated(card: DrmCard) -> bool:
    """By the kind of its metrics (version 2 and 3 are of processors with graphics).

    Older kernels have none; there, the sensor "vddnb" is one that only such processors have.
    """
    try:
        header = (card.device / "gpu_metrics").read_bytes()[:4]
    except OSError:
        header = b""
    if len(header) == 4:
        return header[2] in (2, 3)
    return any(text_in(file) == "vddnb" for file in card.device.glob("hwmon/hwmon*/in1_label"))


def _moment(card: DrmCard) -> dict[str, Any]:
    fields = {"temperature_celsius": card.temperature_celsius, "power_watts": card.power_watts}
    if card.vendor_id != _AMD:
        return fields
    total, used = card.number("mem_info_vram_total"), card.number("mem_info_vram_used")
    busy = card.number("gpu_busy_percent")
    return {
        **fields,
        "vram_total_bytes": total,
        "vram_used_bytes": used,
        "vram_free_bytes": None if total is None or used is None else max(0, total - used),
        "gtt_total_bytes": card.number("mem_info_gtt_total"),
        "gtt_used_bytes": card.number("mem_info_gtt_used"),
        "utilization": None if busy is None else min(busy, 100) / 100,
    }


# ---------------------------------------------------------------- Intel


def _intel_gpu(root: Path, index: int, card: DrmCard) -> GpuInfo:
    # The driver xe tells the size of a card's own memory beside the device, i915 beside the card.
    beside = number_in(card.device.parent / "lmem_total_bytes")
    size = card.number("tile0/physical_vram_size_bytes") or beside
    return GpuInfo(
        index=index,
        name=product_name(root, card) or f"Intel GPU [{card.vendor_id}:{card.device_id}]",
        vendor="intel",
        vram_total_bytes=size,
        unified_memory=card.pci_bus_id.startswith("0000:00:"),  # on the processor itself
        pci_bus_id=card.pci_bus_id,
        hidden=_obstacle(root, card),
        note=_INTEL_NOTE,
        **_moment(card),
    )
