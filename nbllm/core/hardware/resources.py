"""What a machine has to run models with, as far as this process may use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from nbllm.core.hardware.engine_devices import EngineDevices, server_label
from nbllm.core.rendering.cards import card_html

__all__ = [
    "CpuInfo",
    "GpuFindings",
    "GpuInfo",
    "GpuProcess",
    "GpuSource",
    "MemoryInfo",
    "Resources",
    "renumbered",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CpuInfo:
    """The processors.

    ``usable_cores`` is what this process may use under its affinity and the quotas of its
    control groups, so 1.5 is possible; ``limit`` says in words what makes it less than
    ``logical_cores``, None where nothing does. ``usable_physical_cores`` counts the cores behind
    the processors it may run on, hyper-threads not counted and quotas aside, and
    ``performance_cores`` the fast ones of the machine where there are two kinds. ``features``
    names the instruction sets that matter to llama.cpp, where the system lists them.
    None: unknown.
    """

    model: str | None
    architecture: str
    sockets: int | None
    physical_cores: int | None
    logical_cores: int
    usable_cores: float
    limit: str | None = None
    usable_physical_cores: int | None = None
    performance_cores: int | None = None
    features: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.model or self.architecture]
        if self.sockets and self.sockets > 1:
            parts.append(f"{self.sockets} sockets")
        if self.physical_cores:
            parts.append(f"{self.physical_cores} physical cores")
        parts.append(f"{self.logical_cores} logical cores")
        parts.append(f"{self.usable_cores:.3g} usable" + (f" ({self.limit})" if self.limit else ""))
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<CpuInfo {self}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MemoryInfo:
    """Main memory, in bytes.

    ``total_bytes`` is what this process may use under the limits of its control groups, and
    ``available_bytes`` how much of it can be had now without swapping; page cache that the
    kernel can drop counts as available. ``limit`` says in words what makes the total less than
    ``machine_bytes``, None where nothing does.
    """

    total_bytes: int
    available_bytes: int
    machine_bytes: int
    limit: str | None = None
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """What cannot be had."""
        return self.total_bytes - self.available_bytes

    def __str__(self) -> str:
        text = f"{_gib(self.available_bytes)} of {_gib(self.total_bytes)} available"
        if self.limit:
            text += f" ({self.limit})"
        if self.swap_total_bytes:
            swap = f"{_gib(self.swap_free_bytes)} of {_gib(self.swap_total_bytes)}"
            text += f", swap {swap} free"
        return text

    def __repr__(self) -> str:
        return f"<MemoryInfo {self}>"


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes or draws on a GPU; its ``memory_bytes`` there, None: unknown."""

    pid: int
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GpuInfo:
    """A graphics processor, an instance (MIG) of a divided one, or a device of an RPC server.

    None: unknown.

    ``index`` is the number in the order of NVIDIA's driver, which is that of the PCI bus; GPUs of
    other makers are numbered after those. An instance has the index of the whole GPU and a
    ``mig_index`` of its own. Where ``server`` is the "host:port" of an RPC server, it is the
    number on that server. ``label``, such as "GPU 0", "GPU 0 MIG 1" or "RPC host:port", is unique.

    ``unified_memory`` says that it computes in the main memory, in which case the ``vram`` fields
    may be None (``Resources.gpu_total_bytes`` knows what to say then). The ``gtt`` fields are
    main memory that AMD's driver lends to the GPU beside its VRAM. ``utilization`` is the share
    of the last moments (0 to 1) in which it computed. ``compute_capability`` is CUDA's,
    ``architecture`` AMD's name such as "gfx1100". ``pci_bus_id`` is written as in sysfs and in
    llama.cpp's list of devices: "0000:65:00.0".

    ``hidden`` says in words why this process cannot use it although it is there; ``note`` is what
    else there is to know of it.
    """

    index: int
    name: str
    vendor: str
    uuid: str | None = None
    vram_total_bytes: int | None = None
    vram_free_bytes: int | None = None
    vram_used_bytes: int | None = None
    gtt_total_bytes: int | None = None
    gtt_used_bytes: int | None = None
    unified_memory: bool = False
    utilization: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    pci_bus_id: str | None = None
    mig_index: int | None = None
    server: str | None = None
    compute_capability: tuple[int, int] | None = None
    architecture: str | None = None
    driver_version: str | None = None
    hidden: str | None = None
    note: str | None = None

    @property
    def label(self) -> str:
        """How it is called in tables and placements."""
        if self.server is not None:
            return server_label(self.server, self.index)
        instance = "" if self.mig_index is None else f" MIG {self.mig_index}"
        return f"GPU {self.index}{instance}"

    def __str__(self) -> str:
        parts = [self.name, self._memory()]
        if self.compute_capability:
            parts.append("compute capability {}.{}".format(*self.compute_capability))
        if self.architecture:
            parts.append(self.architecture)
        if self.utilization is not None:
            parts.append(f"{self.utilization:.0%} busy")
        if self.temperature_celsius is not None:
            parts.append(f"{self.temperature_celsius:.0f} °C")
        if self.power_watts is not None:
            parts.append(f"{self.power_watts:.0f} W")
        if self.driver_version:
            parts.append(f"driver {self.driver_version}")
        return ", ".join(parts) + (f" ({self.hidden})" if self.hidden else "")

    def _memory(self) -> str:
        if self.vram_free_bytes is not None and self.vram_total_bytes is not None:
            return f"{_gib(self.vram_free_bytes)} of {_gib(self.vram_total_bytes)} free"
        return "shares the main memory" if self.unified_memory else "memory unknown"

    def __repr__(self) -> str:
        return f"<GpuInfo {self.label}: {self}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Resources:
    """All of it; ``absences`` holds a sentence for each thing that is absent and says why.

    ``gpus`` are those that a model of this process can use, in the order in which the driver's
    computing library numbers them; ``hidden_gpus`` are there, but out of reach, each for the
    reason in its ``hidden``. ``engine`` is what llama.cpp makes of them, None where it has not
    been asked.
    """

    cpu: CpuInfo
    memory: MemoryInfo
    gpus: tuple[GpuInfo, ...] = ()
    hidden_gpus: tuple[GpuInfo, ...] = ()
    absences: tuple[str, ...] = ()
    engine: EngineDevices | None = None

    def gpu_total_bytes(self, gpu: GpuInfo) -> int | None:
        """The memory that the GPU can use; a part or all of it is main memory where it is unified.

        None: not known.
        """
        if not gpu.unified_memory:
            return gpu.vram_total_bytes
        if gpu.gtt_total_bytes is not None:
            return (gpu.vram_total_bytes or 0) + min(gpu.gtt_total_bytes, self.memory.total_bytes)
        return self.memory.total_bytes if gpu.vram_total_bytes is None else gpu.vram_total_bytes

    def gpu_free_bytes(self, gpu: GpuInfo) -> int | None:
        """How much of that is free; of the main memory, never more than is available."""
        available = self.memory.available_bytes
        if not gpu.unified_memory:
            return gpu.vram_free_bytes
        if gpu.gtt_total_bytes is not None:
            lent = max(0, gpu.gtt_total_bytes - (gpu.gtt_used_bytes or 0))
            return (gpu.vram_free_bytes or 0) + min(lent, available)
        return available if gpu.vram_free_bytes is None else min(gpu.vram_free_bytes, available)

    def __str__(self) -> str:
        gpus = [f"{gpu.label}: {gpu}" for gpu in (*self.gpus, *self.hidden_gpus)]
        advice = self.engine.advice(self.gpus) if self.engine else None
        return "\n".join(
            [
                f"CPU: {self.cpu}",
                f"Memory: {self.memory}",
                *gpus,
                *([advice] if advice else []),
                *self.absences,
            ]
        )

    def __repr__(self) -> str:
        return f"<Resources\n{self}>"

    def _repr_html_(self) -> str:
        gpus = [(gpu.label, str(gpu)) for gpu in (*self.gpus, *self.hidden_gpus)]
        facts = [("CPU", str(self.cpu)), ("memory", str(self.memory)), *gpus]
        advice = self.engine.advice(self.gpus) if self.engine else None
        notes = [("note", note) for note in (advice, *self.absences) if note]
        return card_html("This machine", [*facts, *notes])


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


@dataclass(frozen=True, slots=True)
class GpuFindings:
    """The GPUs that one source knows.

    ``gpus`` can be used, ``hidden`` cannot, for the reason in each. ``problems`` are sentences on
    single GPUs and settings. ``absence`` says why there is none of this kind; it is told where no
    other source has found one either.
    """

    gpus: tuple[GpuInfo, ...] = ()
    hidden: tuple[GpuInfo, ...] = ()
    problems: tuple[str, ...] = ()
    absence: str | None = None


class GpuSource(Protocol):
    """One way to learn of GPUs. Both questions may raise anything and may hang.

    ``what`` names the GPUs in sentences: "NVIDIA GPUs".
    """

    what: str

    def find(self) -> GpuFindings:
        """Everything that is known; nothing stays open."""
        ...

    def live(self) -> tuple[GpuInfo, ...]:
        """The GPUs that can be used, for views that ask again and again.

        Memory, utilization, temperature and power are of now; the rest may be left out. What is
        costly to open stays open until ``close``.
        """
        ...

    def close(self) -> None:
        """Give back what ``live`` holds. Never waits for one that hangs."""
        ...


def renumbered(gpus: Iterable[GpuInfo], offset: int) -> tuple[GpuInfo, ...]:
    """The GPUs with ``offset`` added to their indices, so that sources do not share numbers."""
    return tuple(replace(gpu, index=gpu.index + offset) if offset else gpu for gpu in gpus)
