"""What one GPU, or one instance (MIG) of a divided GPU, answers to NVML's questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from nbllm.core.hardware.resources import GpuInfo, GpuProcess
from nbllm.core.hardware.visible_devices import CudaDevice

__all__ = ["NvmlDevice", "devices_of", "live_values", "reading", "value_or_none"]

_Value = TypeVar("_Value")

# After these a handle is worth nothing: the GPU or the instance has gone, or the driver restarted.
_GONE = ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_INVALID_ARGUMENT", "NVML_ERROR_UNINITIALIZED")


@dataclass(frozen=True, slots=True)
class NvmlDevice:
    """A GPU's handle or, for an instance, its own and that of the ``whole`` GPU."""

    handle: Any
    whole: Any
    identity: CudaDevice


def value_or_none(pynvml: Any, question: Callable[[], _Value]) -> _Value | None:
    """The answer; None where this GPU or this driver cannot tell."""
    try:
        return question()
    except pynvml.NVMLError:
        return None


# ---------------------------------------------------------------- which there are


def devices_of(pynvml: Any) -> tuple[list[NvmlDevice], tuple[str, ...]]:
    """All whole GPUs and all instances of divided ones, and a sentence for each that is neither."""
    devices: list[NvmlDevice] = []
    problems: list[str] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            identity = CudaDevice(
                index=index,
                name=pynvml.nvmlDeviceGetName(handle),  # every GPU that works has one
                uuid=value_or_none(pynvml, partial(pynvml.nvmlDeviceGetUUID, handle)),
            )
        except pynvml.NVMLError as error:
            problems.append(f"GPU {index} cannot be used: the driver reported: {error}.")
            continue
        if not _is_divided(pynvml, handle):
            devices.append(NvmlDevice(handle, handle, identity))
            continue
        instances = list(_instances(pynvml, handle, identity))
        devices += instances
        if not instances:
            problems.append(
                f"GPU {index} ({identity.name}) cannot be used: MIG mode is on and there are no "
                "instances. Create some (nvidia-smi mig -cgi …), or turn MIG off "
                f"(nvidia-smi -i {index} -mig 0)."
            )
    return devices, tuple(problems)


def _is_divided(pynvml: Any, handle: Any) -> bool:
    mode: Any = value_or_none(pynvml, lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _instances(pynvml: Any, whole: Any, parent: CudaDevice) -> Iterator[NvmlDevice]:
    places = value_or_none(pynvml, lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(whole)) or 0
    for place in range(places):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, place)
        except pynvml.NVMLError:  # no instance has this number
            continue
        yield NvmlDevice(handle, whole, _instance(pynvml, handle, place, parent))


def _instance(pynvml: Any, handle: Any, place: int, parent: CudaDevice) -> CudaDevice:
    def ask(question: Callable[[Any], Any]) -> Any:
        return value_or_none(pynvml, lambda: question(handle))

    ids = ask(pynvml.nvmlDeviceGetGpuInstanceId), ask(pynvml.nvmlDeviceGetComputeInstanceId)
    return CudaDevice(
        index=parent.index,
        name=ask(pynvml.nvmlDeviceGetName) or f"{parent.name} MIG {place}",
        uuid=ask(pynvml.nvmlDeviceGetUUID),
        mig_index=place,
        parent_uuid=parent.uuid,
        instance_path=None if None in ids else "{}/{}".format(*ids),
    )


# ---------------------------------------------------------------- what they tell


def reading(
    pynvml: Any, device: NvmlDevice, driver: str | None, hidden: str | None = None
) -> GpuInfo:
    """Everything. What belongs to the chip as a whole is asked of the whole GPU."""

    def ask(question: Callable[[Any], _Value]) -> _Value | None:
        return value_or_none(pynvml, lambda: question(device.whole))

    identity = device.identity
    limit = None if identity.is_instance else ask(pynvml.nvmlDeviceGetEnforcedPowerLimit)
    bus = ask(pynvml.nvmlDeviceGetPciInfo)
    return GpuInfo(
        index=identity.index,
        mig_index=identity.mig_index,
        name=identity.name,
        vendor="nvidia",
        uuid=identity.uuid,
        compute_capability=ask(pynvml.nvmlDeviceGetCudaComputeCapability),
        driver_version=driver,
        power_limit_watts=_watts(limit),
        processes=_processes(pynvml, device.handle),
        pci_bus_id=None if bus is None else _as_in_sysfs(bus.busId),
        hidden=hidden,
        **_memory(pynvml, device.handle),
        **_moment(pynvml, device),
    )


def live_values(pynvml: Any, device: NvmlDevice) -> GpuInfo:
    """Memory, utilization, temperature and power of now. Raises ``NVMLError`` when it has gone."""
    identity = device.identity
    return GpuInfo(
        index=identity.index,
        mig_index=identity.mig_index,
        name=identity.name,
        vendor="nvidia",
        uuid=identity.uuid,
        **_memory(pynvml, device.handle, gone=_GONE),
        **_moment(pynvml, device),
    )


def _moment(pynvml: Any, device: NvmlDevice) -> dict[str, Any]:
    """An instance shares the chip's temperature; its part of the power and load is not known."""
    sensor = pynvml.NVML_TEMPERATURE_GPU
    fields = {
        "temperature_celsius": value_or_none(
            pynvml, lambda: float(pynvml.nvmlDeviceGetTemperature(device.whole, sensor))
        )
    }
    if device.identity.is_instance:
        return fields
    rates = value_or_none(pynvml, lambda: pynvml.nvmlDeviceGetUtilizationRates(device.handle))
    power = value_or_none(pynvml, lambda: pynvml.nvmlDeviceGetPowerUsage(device.handle))
    fields["utilization"] = None if rates is None else rates.gpu / 100
    fields["power_watts"] = _watts(power)
    return fields


def _memory(pynvml: Any, handle: Any, gone: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields about memory; none where the driver does not answer.

    A GPU without memory of its own (Jetson, GB10) says "not supported", or zero. Errors named in
    ``gone`` are raised.
    """
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        if error.value in [getattr(pynvml, name) for name in gone]:
            raise
        is_shared = error.value == pynvml.NVML_ERROR_NOT_SUPPORTED
        return {"unified_memory": True} if is_shared else {}
    if not memory.total:
        return {"unified_memory": True}
    return {
        "vram_total_bytes": memory.total,
        "vram_free_bytes": memory.free,
        "vram_used_bytes": memory.used,
    }


def _processes(pynvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    """Those that compute and those that draw, the one with most memory first."""
    questions = (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    )
    found: dict[int, int | None] = {}
    answers = [value_or_none(pynvml, partial(question, handle)) for question in questions]
    for process in (process for answer in answers for process in answer or ()):
        found[process.pid] = process.usedGpuMemory or found.get(process.pid)
    if answers == [None, None]:
        return None
    processes = (GpuProcess(pid, size) for pid, size in found.items())
    return tuple(sorted(processes, key=lambda process: (-(process.memory_bytes or 0), process.pid)))


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _as_in_sysfs(bus_id: str | bytes) -> str:
    """NVML's "00000000:65:00.0" as "0000:65:00.0"."""
    text = bus_id.decode(errors="replace") if isinstance(bus_id, bytes) else bus_id
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]}:{rest}"
