"""What is free for a model on each device, and whether one fits by the size of its files alone.

The size alone counts for models that are not on this disk yet, whose headers nobody has read. What
is added to the weights is on the safe side for the usual shapes; a load computes it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nbllm.core.errors import InvalidOptionError
from nbllm.core.fitting.planned_load import CPU
from nbllm.core.hardware.engine_devices import is_server
from nbllm.core.hardware.resources import GpuInfo, Resources
from nbllm.core.placement import MemoryParts

__all__ = [
    "Room",
    "SizeFit",
    "fit_by_size",
    "room_of",
]

_MIB = 2**20
_TIGHT = 0.75
# Left to the desktop and to other processes: a share of the memory between two bounds.
_RAM_SHARE, _RAM_LEAST, _RAM_MOST = 0.05, 128 * _MIB, 4096 * _MIB
_SYSTEM_SHARE = 0.1
_GPU_SHARE, _GPU_LEAST, _GPU_MOST = 0.03, 256 * _MIB, 2048 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The devices that may be used.

    ``free`` has the bytes of each, headroom left out, ``gpus`` the GPUs with the most free
    first, those of other machines last. ``positions`` are their places in llama.cpp's list of
    devices, ``unified`` those that compute in the main memory. ``no_gpu`` says why there is none,
    where there is none.
    """

    free: Mapping[str, int]
    gpus: tuple[str, ...]
    positions: Mapping[str, int]
    unified: frozenset[str]
    no_gpu: str

    def holds(self, memory: Mapping[str, MemoryParts]) -> bool:
        """Whether there is room for all of it."""
        return self.holds_on([*memory], memory)

    def holds_on(self, devices: Sequence[str], memory: Mapping[str, MemoryParts]) -> bool:
        """Whether there is room for what is on these devices."""
        parts = {device: memory[device].total for device in devices if device in memory}
        if any(size > self.free[device] for device, size in parts.items()):
            return False
        shared = sum(memory[device].total for device in memory if device in {CPU, *self.unified})
        return shared <= self.free[CPU] if self.unified & parts.keys() else True

    def is_tight(self, memory: Mapping[str, MemoryParts]) -> bool:
        """Whether a small error of the arithmetic could matter, or a GPU's may be a large one."""
        return len(memory) > 1 or any(
            parts.total > _TIGHT * self.free[device] for device, parts in memory.items()
        )

    def groups(self) -> list[tuple[str, ...]]:
        """The GPUs to try: the one with the most room, the two with the most, and so on."""
        order = self.positions
        counts = range(1, len(self.gpus) + 1)
        return [tuple(sorted(self.gpus[:n], key=order.__getitem__)) for n in counts]

    def share(self, gpu: str) -> float:
        """Its share of a model that is spread by what is free."""
        return max(self.free[gpu], _MIB) / 2**30


def room_of(resources: Resources, device: str | None) -> Room:
    """The memory available to a model that requests ``device``; see ``LoadOptions``.

    Raises ``InvalidOptionError`` if it names a GPU that does not exist or cannot be used.
    """
    memory = resources.memory
    positions, no_gpu = _usable_gpus(resources)
    gpus = [gpu for gpu in resources.gpus if gpu.label in positions]
    free = {
        CPU: memory.available_bytes
        - _headroom(memory.total_bytes, _RAM_SHARE, _RAM_LEAST, _RAM_MOST)
    }
    for gpu in gpus:
        free[gpu.label] = (resources.gpu_free_bytes(gpu) or 0) - _gpu_headroom(gpu, resources)
    names = _wanted(device, [gpu.label for gpu in gpus], no_gpu)
    return Room(
        free=free,
        gpus=tuple(sorted(names, key=lambda name: (is_server(name), -free[name]))),
        positions=positions,
        unified=frozenset(gpu.label for gpu in resources.gpus if gpu.unified_memory),
        no_gpu=no_gpu,
    )


def _gpu_headroom(gpu: GpuInfo, resources: Resources) -> int:
    """A server that computes on its CPU calls all of its machine's memory free."""
    total, free = resources.gpu_total_bytes(gpu) or 0, resources.gpu_free_bytes(gpu)
    headroom = _headroom(total, _GPU_SHARE, _GPU_LEAST, _GPU_MOST)
    whole = gpu.server is not None and free == total
    return max(headroom, int(_SYSTEM_SHARE * total)) if whole else headroom


def _headroom(total: int, share: float, least: int, most: int) -> int:
    return int(min(max(total * share, least), most))


def _usable_gpus(resources: Resources) -> tuple[dict[str, int], str]:
    """Where in llama.cpp's list the GPUs are that a model can go on, and why there is none."""
    engine = resources.engine
    if not resources.gpus:
        return {}, "there is no GPU"
    if engine is None:
        places = {gpu.label: place for place, gpu in enumerate(resources.gpus)}
    else:
        places = engine.places(resources.gpus)
        if not places:
            return {}, (engine.advice(resources.gpus) or "llama.cpp lists no such GPU").rstrip(".")
    known = [gpu.label for gpu in resources.gpus if resources.gpu_free_bytes(gpu) is not None]
    usable = {label: place for label, place in places.items() if label in known}
    return usable, "" if usable else "the GPU's free memory is unknown"


def _wanted(device: str | None, usable: list[str], no_gpu: str) -> list[str]:
    """The GPUs that are wanted; ``device`` chooses among this machine's, servers are always."""
    if device == CPU:
        return []
    if device is None:
        return usable
    if device == "GPU":
        return _chosen(usable, usable, device, no_gpu)
    own = [label for label in usable if not is_server(label)]
    servers = [label for label in usable if is_server(label)]
    return [*_chosen(device.split(" + "), own, device, no_gpu), *servers]


def _chosen(names: list[str], usable: list[str], device: str, no_gpu: str) -> list[str]:
    """These names. Raises ``InvalidOptionError`` where one is not usable."""
    if not usable:
        problem = no_gpu or "this machine has none that is usable"
        raise InvalidOptionError("device", f"{device} cannot be used: {problem}")
    for name in names:
        if name not in usable:
            known = " and ".join(usable)
            raise InvalidOptionError("device", f"{name} is not available, only {known}")
    return names


_FIXED_BYTES = 300 * _MIB
"""The worker, compute buffers, and the KV cache of a small model."""
_SHARE = 0.12
"""The KV cache of 4,096 tokens and the buffers of larger ones: 8B models in Q4_K_M take about a
tenth of their weights for it."""


class SizeFit(NamedTuple):
    """``memory_bytes`` that are needed; the ``device`` that has them free, None where none has.

    ``tokens_per_second`` is that of a CPU; None elsewhere, and where its speed is unknown.
    """

    memory_bytes: int
    device: str | None
    tokens_per_second: float | None


def fit_by_size(size_bytes: int, room: Room, bandwidth: float | None) -> SizeFit:
    """How a model with ``size_bytes`` of weights does in ``room``.

    ``bandwidth`` is that of the main memory, in bytes per second: each token reads all weights
    once, so it is an upper bound, except for a mixture of experts, which reads some of them.
    """
    memory = size_bytes + _FIXED_BYTES + int(_SHARE * size_bytes)
    for group in room.groups():
        if sum(max(room.free[gpu], 0) for gpu in group) >= memory:
            return SizeFit(memory, " + ".join(group), None)
    speed = bandwidth / size_bytes if bandwidth and size_bytes else None
    free = max(room.free[CPU], 0)
    if memory <= free:
        return SizeFit(memory, CPU, speed)
    if room.gpus and not room.unified:
        gpus = room.groups()[-1]
        if memory <= free + sum(max(room.free[gpu], 0) for gpu in gpus):
            return SizeFit(memory, " + ".join((*gpus, CPU)), speed)
    return SizeFit(memory, None, speed)
