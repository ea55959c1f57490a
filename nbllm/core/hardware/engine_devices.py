"""What llama.cpp itself can compute on, and which of the machine's GPUs each of it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from nbllm.core.hardware.resources import GpuInfo

__all__ = ["EngineDevice", "EngineDevices", "is_server", "server_label", "server_of"]

_SERVER = "RPC "
_CLOSE = 0.05  # what a driver keeps back is missing in one of two totals of the same memory


def server_label(server: str, index: int) -> str:
    """What device number ``index`` of an RPC server is called: "RPC 10.0.0.5:50052"."""
    return f"{_SERVER}{server}" + (f" #{index}" if index else "")


def server_of(label: str) -> str | None:
    """The "address:port" of a device that ``server_label`` made a label for."""
    return label.removeprefix(_SERVER).partition(" ")[0] if is_server(label) else None


def is_server(label: str) -> bool:
    """Whether a device's label is one of ``server_label``."""
    return label.startswith(_SERVER)


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """A device in llama.cpp's list: a GPU, or one of the RPC server ``server`` ("address:port").

    ``name`` is such as "CUDA0", ``buffer_name`` what its log calls memory there. Empty, None and
    0 stand for what llama.cpp does not tell.
    """

    name: str
    description: str = ""
    pci_bus_id: str | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    buffer_name: str = ""
    server: str | None = None


@dataclass(frozen=True, slots=True)
class EngineDevices:
    """What the installed llama.cpp itself can compute on, besides the CPU.

    ``devices`` are the GPUs that it lists, then those of RPC servers, ``supports_gpu`` is whether
    it was built for any kind of GPU, ``build`` names it, such as "llama-cpp-python 0.3.36".
    """

    devices: tuple[EngineDevice, ...]
    supports_gpu: bool
    build: str

    def places(self, gpus: Sequence[GpuInfo]) -> dict[str, int]:
        """Where in the list each GPU is that is in it, by the GPU's label.

        Found by what is the same of both: the PCI bus, the name, the memory. The two lists need not
        have one order, nor the same members. What tells nothing of itself is taken in its order.
        """
        places: dict[str, int] = {}
        for agree in _RULES:
            for gpu in gpus:
                fitting = (
                    place
                    for place, device in enumerate(self.devices)
                    if place not in places.values()
                    and not _contradict(gpu, device)
                    and agree(gpu, device)
                )
                place = None if gpu.label in places else next(fitting, None)
                if place is not None:
                    places[gpu.label] = place
        return places

    def advice(self, gpus: Iterable[GpuInfo]) -> str | None:
        """What to do so that it uses these GPUs; None where it does, or there are none.

        Intel's graphics on the processor are not worth it: they read the memory no faster.
        """
        own = (gpu for gpu in gpus if gpu.server is None)
        worthy = (gpu for gpu in own if not (gpu.vendor == "intel" and gpu.unified_memory))
        idle = next(worthy, None)
        if idle is None or any(device.server is None for device in self.devices):
            return None
        if self.supports_gpu:
            return (
                f"{self.build} is built for GPUs but finds no usable one, so models run on "
                f"the CPU despite the {idle.name}. Its driver may be too old for this build."
            )
        option, needs = _BUILDS.get(idle.vendor, _BUILD_ELSEWHERE)
        return (
            f"{self.build} is built for the CPU only, so models do not use the {idle.name}. "
            f"Install a build for it ({needs}): "
            f'CMAKE_ARGS="-D{option}=on" pip install --force-reinstall --no-cache-dir '
            "llama-cpp-python"
        )


_BUILDS = {
    "nvidia": ("GGML_CUDA", "needs NVIDIA's CUDA toolkit"),
    "amd": ("GGML_HIP", "needs AMD's ROCm"),
    "apple": ("GGML_METAL", "needs Xcode's command line tools"),
}
_BUILD_ELSEWHERE = ("GGML_VULKAN", "needs the Vulkan SDK")


# ---------------------------------------------------------------- which GPU is which device


def _contradict(gpu: GpuInfo, device: EngineDevice) -> bool:
    """Whether they cannot be one: another server, another place on the bus, another memory."""
    if gpu.server != device.server:
        return True
    if gpu.pci_bus_id and device.pci_bus_id and not _same_bus(gpu, device):
        return True
    known = not gpu.unified_memory and gpu.vram_total_bytes and device.total_bytes
    return bool(known) and not _same_memory(gpu, device)


def _same_bus(gpu: GpuInfo, device: EngineDevice) -> bool:
    if not gpu.pci_bus_id or not device.pci_bus_id:
        return False
    return gpu.pci_bus_id.lower() == device.pci_bus_id.lower()


def _same_name(gpu: GpuInfo, device: EngineDevice) -> bool:
    """Vulkan and Metal add to the names: "NVIDIA GeForce RTX 3060 (NVK)"."""
    one, other = (
        "".join(filter(str.isalnum, name.lower())) for name in (gpu.name, device.description)
    )
    return bool(one and other) and (one in other or other in one)


def _same_memory(gpu: GpuInfo, device: EngineDevice) -> bool:
    total = gpu.vram_total_bytes or 0
    return abs(total - device.total_bytes) <= _CLOSE * max(total, device.total_bytes)


def _tells_nothing(gpu: GpuInfo, device: EngineDevice) -> bool:
    return not (device.description or device.pci_bus_id)


_Rule: TypeAlias = Callable[["GpuInfo", EngineDevice], bool]
_RULES: tuple[_Rule, ...] = (
    lambda gpu, device: gpu.server is not None,
    _same_bus,
    lambda gpu, device: _same_name(gpu, device) and _same_memory(gpu, device),
    _same_name,
    lambda gpu, device: bool(gpu.vram_total_bytes) and _same_memory(gpu, device),
    _tells_nothing,
)
