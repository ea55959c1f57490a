"""What ``%llm_devices`` shows: processors, memory and GPUs, and what each is good for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbllm.core.fitting.machine_room import Room, room_of
from nbllm.core.fitting.planned_load import CPU
from nbllm.core.hardware.resources import CpuInfo, GpuInfo, MemoryInfo, Resources
from nbllm.core.words import size_words
from nbllm.notebook.tables import Table, make_table, mib

__all__ = ["devices_table"]

_COLUMNS = {
    "device": "string",
    "type": "string",
    "name": "string",
    "usable cores": "Float64",
    "memory (MiB)": "Float64",
    "free (MiB)": "Float64",
    "load (%)": "Float64",
    "temperature (°C)": "Float64",
    "power (W)": "Float64",
    "good for": "string",
    "details": "string",
}
_FIRST_TO_GO = (
    "power (W)",
    "temperature (°C)",
    "details",
    "load (%)",
    "usable cores",
    "type",
    "memory (MiB)",
    "name",
)


def devices_table(resources: Resources) -> Table:
    """The processors, the main memory, the GPUs; below it, what is absent and why.

    ``attrs["notes"]`` holds those sentences.
    """
    room = room_of(resources, None)
    rows = [
        _cpu_row(resources.cpu),
        _memory_row(resources.memory, room.free[CPU]),
        *(_gpu_row(gpu, resources, _use(gpu, resources, room)) for gpu in resources.gpus),
        *(_gpu_row(gpu, resources, "nothing in this process") for gpu in resources.hidden_gpus),
    ]
    advice = resources.engine.advice(resources.gpus) if resources.engine else None
    notes = (*([advice] if advice else []), *resources.absences)
    return make_table(rows, _COLUMNS, notes, first_to_go=_FIRST_TO_GO)


def _cpu_row(cpu: CpuInfo) -> dict[str, Any]:
    return {
        "device": "CPU",
        "type": "processor",
        "name": cpu.model or cpu.architecture,
        "usable cores": cpu.usable_cores,
        "good for": "any model that fits the RAM",
        "details": _joined(
            [
                f"{cpu.sockets} sockets" if cpu.sockets and cpu.sockets > 1 else None,
                f"{cpu.logical_cores} logical cores",
                cpu.limit,
                _newest(cpu.features),
            ]
        ),
    }


def _newest(features: Iterable[str]) -> str | None:
    """The widest instruction sets: the others come with them."""
    names = set(features)
    groups = (("amx_int8", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"))
    arm = (("sme", "SME"), ("sve", "SVE"), ("i8mm", "I8MM"), ("dotprod", "DotProd"))
    found = [name for feature, name in (*groups, *arm) if feature in names]
    return " ".join(found[:2]) or None


def _memory_row(memory: MemoryInfo, for_models: int) -> dict[str, Any]:
    swap = memory.swap_total_bytes
    return {
        "device": "RAM",
        "type": "main memory",
        "memory (MiB)": mib(memory.total_bytes),
        "free (MiB)": mib(memory.available_bytes),
        "good for": _up_to(for_models),
        "details": _joined(
            [
                memory.limit
                and f"{memory.limit}; the machine has {size_words(memory.machine_bytes)}",
                f"swap: {size_words(memory.swap_free_bytes)} of {size_words(swap)} free"
                if swap
                else None,
            ]
        ),
    }


def _gpu_row(gpu: GpuInfo, resources: Resources, use: str) -> dict[str, Any]:
    return {
        "device": gpu.label,
        "type": _type(gpu),
        "name": gpu.name,
        "memory (MiB)": mib(resources.gpu_total_bytes(gpu)),
        "free (MiB)": mib(resources.gpu_free_bytes(gpu)),
        "load (%)": None if gpu.utilization is None else gpu.utilization * 100,
        "temperature (°C)": gpu.temperature_celsius,
        "power (W)": gpu.power_watts,
        "good for": use,
        "details": _joined(_gpu_details(gpu)),
    }


def _type(gpu: GpuInfo) -> str:
    if gpu.mig_index is not None:
        return "MIG instance"
    if gpu.server is not None:
        return "RPC server"
    return "GPU, unified memory" if gpu.unified_memory else "GPU"


def _use(gpu: GpuInfo, resources: Resources, room: Room) -> str:
    if resources.engine is not None and gpu.label not in resources.engine.places(resources.gpus):
        return "not usable by this llama.cpp"
    for_models = room.free.get(gpu.label)
    return "models" if for_models is None else _up_to(for_models)


def _up_to(free: int) -> str:
    """``free`` is without headroom, as a load counts it."""
    return f"models that need up to {size_words(max(free, 0))}"


def _gpu_details(gpu: GpuInfo) -> Iterable[str | None]:
    capability = gpu.compute_capability
    yield gpu.hidden
    yield gpu.note
    if gpu.gtt_total_bytes is not None:
        yield f"{size_words(gpu.gtt_total_bytes)} of system memory (GTT)"
    yield f"compute capability {capability[0]}.{capability[1]}" if capability else None
    yield gpu.architecture
    yield f"driver {gpu.driver_version}" if gpu.driver_version else None
    yield f"at most {gpu.power_limit_watts:.0f} W" if gpu.power_limit_watts else None
    if gpu.processes:
        count = len(gpu.processes)
        yield f"{count} processes on it" if count > 1 else f"process {gpu.processes[0].pid} on it"


def _joined(parts: Iterable[str | None]) -> str | None:
    return "; ".join(filter(None, parts)) or None
