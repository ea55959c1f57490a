from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nbllm.core.hardware.other_gpus import TegraSource, TorchSource
from nbllm.core.resource_detector import ResourceDetector

GIB = 2**30


class FakeCuda:
    """``torch.cuda`` with two GPUs, one of which is in use."""

    def __init__(self, *, awake: bool) -> None:
        self.is_initialized = lambda: awake

    def device_count(self) -> int:
        return 2

    def get_device_properties(self, index: int) -> Any:
        return SimpleNamespace(
            name=f"Device {index}",
            total_memory=8 * GIB,
            major=9,
            minor=0,
            gcnArchName="gfx1100:sramecc+",
            is_integrated=index,
        )

    def memory_reserved(self, index: int) -> int:
        return 0 if index else GIB

    def mem_get_info(self, index: int) -> tuple[int, int]:
        assert index == 0, "that would open a GPU that is not in use"
        return 5 * GIB, 8 * GIB


def torch(*, awake: bool, hip: str | None = None, **more: Any) -> dict[str, ModuleType]:
    module = ModuleType("torch")
    vars(module).update(cuda=FakeCuda(awake=awake), version=SimpleNamespace(hip=hip), **more)
    return {"torch": module}


def test_pytorch_is_asked_if_it_uses_a_gpu() -> None:
    first, second = TorchSource(torch(awake=True)).find().gpus
    assert (first.name, first.vendor, first.compute_capability) == ("Device 0", "nvidia", (9, 0))
    assert (first.vram_total_bytes, first.vram_free_bytes) == (8 * GIB, 5 * GIB)
    assert (second.vram_free_bytes, second.unified_memory) == (None, True)
    assert TorchSource(torch(awake=True)).live() == (first, second)


def test_pytorch_for_amd_and_for_intel() -> None:
    first, _ = TorchSource(torch(awake=True, hip="6.2")).find().gpus
    assert (first.vendor, first.architecture, first.compute_capability) == ("amd", "gfx1100", None)
    intel = TorchSource(torch(awake=False, xpu=FakeCuda(awake=True))).find().gpus
    assert [gpu.vendor for gpu in intel] == ["intel", "intel"]


def test_pytorch_is_never_woken_up() -> None:
    found = TorchSource(torch(awake=False)).find()
    assert found.gpus == ()
    assert "uses no GPU" in (found.absence or "")
    assert TorchSource({}).find().absence is None


@pytest.mark.parametrize("place", ["sys/devices/gpu.0", "sys/devices/platform/gpu.0"])
def test_a_jetson(tmp_path: Path, place: str) -> None:
    for name, text in {
        "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        f"{place}/load": "422\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (gpu,) = TegraSource(tmp_path).find().gpus
    assert gpu.name == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (gpu.unified_memory, gpu.utilization) == (True, 0.422)
    assert TegraSource(tmp_path).live() == (gpu,)


def test_other_boards_are_no_jetsons(tmp_path: Path) -> None:
    assert TegraSource(tmp_path).find().gpus == ()


def test_side_doors_are_tried_last() -> None:
    detector = ResourceDetector()
    assert [door.what for door in detector._side_doors] in (
        ["Jetson GPU", "GPUs that PyTorch uses"],
        [],  # macOS
    )
