"""AMD's and Intel's cards, from trees as the kernel writes them."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbllm.core.hardware.drm_gpus import DrmSource
from nbllm.core.hardware.resources import GpuInfo

GIB = 2**30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such trees")

RADEON = {
    "uevent": "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0\n",
    "revision": "0xc8\n",
    "unique_id": "a1b2c3d4e5f60718\n",
    "mem_info_vram_total": f"{24 * GIB}\n",
    "mem_info_vram_used": f"{2 * GIB}\n",
    "mem_info_gtt_total": f"{16 * GIB}\n",
    "mem_info_gtt_used": f"{GIB // 4}\n",
    "gpu_busy_percent": "63\n",
    "hwmon/hwmon3/temp1_input": "54000\n",
    "hwmon/hwmon3/power1_average": "87500000\n",
    "hwmon/hwmon3/power1_cap": "339000000\n",
}
INSTINCT = {
    "uevent": "DRIVER=amdgpu\nPCI_ID=1002:740F\nPCI_SLOT_NAME=0000:83:00.0\n",
    "product_name": "AMD Instinct MI210\n",
    "unique_id": "0123456789abcdef\n",
    "mem_info_vram_total": f"{64 * GIB}\n",
    "mem_info_vram_used": "0\n",
    "hwmon/hwmon5/power1_input": "41000000\n",
}
APU = {
    "uevent": "DRIVER=amdgpu\nPCI_ID=1002:15BF\nPCI_SLOT_NAME=0000:c4:00.0\n",
    "mem_info_vram_total": f"{GIB // 2}\n",
    "mem_info_vram_used": f"{GIB // 4}\n",
    "mem_info_gtt_total": f"{14 * GIB}\n",
    "mem_info_gtt_used": f"{GIB}\n",
    "hwmon/hwmon1/in1_label": "vddnb\n",
}
ARC = {
    "uevent": "DRIVER=xe\nPCI_ID=8086:56A0\nPCI_SLOT_NAME=0000:0b:00.0\n",
    "tile0/physical_vram_size_bytes": f"{16 * GIB}\n",
}
IRIS = {"uevent": "DRIVER=i915\nPCI_ID=8086:A780\nPCI_SLOT_NAME=0000:00:02.0\n"}
NOUVEAU = {"uevent": "DRIVER=nouveau\nPCI_ID=10DE:1E84\nPCI_SLOT_NAME=0000:01:00.0\n"}
SERVER_VGA = {"uevent": "DRIVER=ast\nPCI_ID=1A03:2000\nPCI_SLOT_NAME=0000:02:00.0\n"}
AMD_IDS = "# List of AMD IDs\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tRX 7900 XT\n"
PCI_IDS = """\
# pci.ids
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t15bf  Phoenix1
\t\t1043 1f1f  A laptop
10de  NVIDIA Corporation
\t1e84  TU104 [GeForce RTX 2070 SUPER]
8086  Intel Corporation
\t56a0  DG2 [Arc A770]
\ta780  Raptor Lake-S GT1 [UHD Graphics 770]
ffff  Illegal Vendor ID
"""


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., DrmSource]:
    """A machine with these cards; further variables are its environment."""

    def with_cards(*cards: dict[str, str], **environ: str) -> DrmSource:
        for number, files in enumerate(cards):
            for name, text in files.items():
                write(tmp_path, f"sys/class/drm/card{number}/device/{name}", text)
            (tmp_path / f"sys/class/drm/card{number}-DP-1").mkdir(exist_ok=True)
        write(tmp_path, "usr/share/libdrm/amdgpu.ids", AMD_IDS)
        write(tmp_path, "usr/share/misc/pci.ids", PCI_IDS)
        return DrmSource(tmp_path, environ)

    return with_cards


Cards = Callable[..., DrmSource]


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def node(root: Path, number: int, **facts: int) -> None:
    text = "".join(f"{key} {value}\n" for key, value in facts.items())
    write(root, f"sys/class/kfd/kfd/topology/nodes/{number}/properties", text)


def test_a_card_with_all_that_it_tells(machine: Cards) -> None:
    found = machine(RADEON).find()
    assert found.gpus == (
        GpuInfo(
            index=0,
            name="AMD Radeon RX 7900 XTX",
            vendor="amd",
            uuid="GPU-a1b2c3d4e5f60718",
            vram_total_bytes=24 * GIB,
            vram_used_bytes=2 * GIB,
            vram_free_bytes=22 * GIB,
            gtt_total_bytes=16 * GIB,
            gtt_used_bytes=GIB // 4,
            utilization=0.63,
            temperature_celsius=54,
            power_watts=87.5,
            power_limit_watts=339,
            pci_bus_id="0000:03:00.0",
        ),
    )
    assert (found.absence, found.problems, found.hidden) == (None, (), ())


def test_what_a_card_does_not_tell_is_none(machine: Cards) -> None:
    (gpu,) = machine({"uevent": RADEON["uevent"]}).find().gpus
    assert gpu == GpuInfo(
        index=0, name="AMD GPU [1002:744c]", vendor="amd", pci_bus_id="0000:03:00.0"
    )


def test_graphics_on_the_processor_share_its_memory(machine: Cards) -> None:
    (gpu,) = machine(APU).find().gpus
    assert gpu.unified_memory
    assert gpu.name == "Phoenix1"
    assert (gpu.vram_total_bytes, gpu.gtt_total_bytes) == (GIB // 2, 14 * GIB)
    assert "integrated" in (gpu.note or "")


@pytest.mark.parametrize(("version", "shared"), [(1, False), (2, True), (3, True)])
def test_the_metrics_tell_a_processors_graphics(
    machine: Cards, tmp_path: Path, version: int, *, shared: bool
) -> None:
    source = machine(RADEON)
    file = tmp_path / "sys/class/drm/card0/device/gpu_metrics"
    file.write_bytes(struct.pack("<HBB", 120, version, 3) + bytes(116))
    assert source.find().gpus[0].unified_memory is shared


def test_cards_are_numbered_as_rocm_counts(machine: Cards, tmp_path: Path) -> None:
    source = machine(RADEON, INSTINCT)
    assert source.find().gpus[0].name == "AMD Radeon RX 7900 XTX"
    node(tmp_path, 0, cpu_cores_count=32, simd_count=0)
    node(tmp_path, 1, simd_count=416, gfx_target_version=90010, location_id=0x8300, domain=0)
    node(tmp_path, 2, simd_count=192, gfx_target_version=110000, location_id=0x300, domain=0)
    found = [(gpu.index, gpu.name, gpu.architecture) for gpu in source.find().gpus]
    assert found == [(0, "AMD Instinct MI210", "gfx90a"), (1, "AMD Radeon RX 7900 XTX", "gfx1100")]


def test_rocms_variables_hide_cards(machine: Cards) -> None:
    found = machine(RADEON, INSTINCT, ROCR_VISIBLE_DEVICES="GPU-0123456789abcdef").find()
    assert [gpu.index for gpu in found.gpus] == [1]
    (hidden,) = found.hidden
    assert hidden.index == 0
    assert "ROCR_VISIBLE_DEVICES" in (hidden.hidden or "")


def test_intels_cards_are_named_and_the_unknown_is_said(machine: Cards) -> None:
    iris, arc = machine(ARC, IRIS).find().gpus
    assert (iris.name, iris.unified_memory) == ("UHD Graphics 770", True)
    assert (arc.name, arc.unified_memory, arc.vram_total_bytes) == ("Arc A770", False, 16 * GIB)
    assert arc.vram_free_bytes is arc.utilization is None
    assert "does not report" in (arc.note or "")


def test_amds_and_intels_cards_do_not_share_numbers(machine: Cards) -> None:
    found = machine(IRIS, RADEON, INSTINCT, HIP_VISIBLE_DEVICES="0").find()
    assert [(gpu.index, gpu.vendor) for gpu in (*found.gpus, *found.hidden)] == [
        (0, "amd"),
        (2, "intel"),
        (1, "amd"),
    ]


def test_a_driver_that_cannot_compute_is_a_problem(machine: Cards) -> None:
    found = machine(NOUVEAU, SERVER_VGA).find()
    assert found.gpus == ()
    (problem,) = found.problems
    assert "GeForce RTX 2070 SUPER" in problem
    assert "nouveau" in problem
    assert "lists none" in (found.absence or "")


def test_without_permission_for_rocm_the_remedy_is_named(
    machine: Cards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = machine(RADEON)
    write(tmp_path, "dev/kfd", "")
    write(tmp_path, "sys/class/drm/card0/device/drm/renderD128/dev", "226:128")
    write(tmp_path, "dev/dri/renderD128", "")
    found = source.find()
    assert (len(found.gpus), found.problems) == (1, ())
    monkeypatch.setattr(os, "access", lambda *arguments: False)  # root may open everything
    found = source.find()
    assert "usermod" in found.problems[0]
    assert "no permission to open /dev/dri/renderD128" in (found.hidden[0].hidden or "")


def test_a_container_without_the_device_cannot_use_the_card(machine: Cards, tmp_path: Path) -> None:
    source = machine(RADEON, INSTINCT, ARC, HIP_VISIBLE_DEVICES="0")
    for number in (0, 2):
        node_folder = f"sys/class/drm/card{number}/device/drm/renderD{128 + number}"
        write(tmp_path, f"{node_folder}/dev", "")
    found = source.find()
    assert [gpu.name for gpu in found.gpus] == ["AMD Instinct MI210"], "ROCm counts what it may use"
    assert [gpu.index for gpu in found.hidden] == [0, 2]
    radeon, arc = (gpu.hidden or "" for gpu in found.hidden)
    assert "--device /dev/dri --device /dev/kfd" in radeon
    assert arc.endswith("--device /dev/dri")


def test_an_old_driver_cannot_compute(machine: Cards) -> None:
    old = {"uevent": "DRIVER=radeon\nPCI_ID=1002:6798\nPCI_SLOT_NAME=0000:01:00.0\n"}
    found = machine(old).find()
    assert found.gpus == ()
    assert "radeon" in (found.hidden[0].hidden or "")


def test_samples_read_what_changes(machine: Cards, tmp_path: Path) -> None:
    source = machine(RADEON, IRIS)
    assert [gpu.utilization for gpu in source.live()] == [0.63, None]
    write(tmp_path, "sys/class/drm/card0/device/gpu_busy_percent", "7\n")
    write(tmp_path, "sys/class/drm/card0/device/mem_info_vram_used", f"{5 * GIB}\n")
    (tmp_path / "sys/class/drm/card0/device/hwmon/hwmon3/temp1_input").unlink()
    gpu = source.live()[0]
    assert (gpu.utilization, gpu.vram_used_bytes, gpu.temperature_celsius) == (
        0.07,
        5 * GIB,
        None,
    )
    assert gpu.name == "AMD Radeon RX 7900 XTX"


@pytest.mark.parametrize("text", ["", "\n", "x" * 9999, "-1", "PCI_ID=\nPCI_SLOT_NAME=", "\u00b2"])
def test_files_full_of_nonsense(machine: Cards, text: str) -> None:
    found = machine(dict.fromkeys(RADEON, text), {**dict.fromkeys(RADEON, text), **IRIS}).find()
    assert [gpu.vendor for gpu in found.gpus] == ["intel"]
    (gpu,) = machine({**dict.fromkeys(RADEON, text), "uevent": RADEON["uevent"]}).find().gpus[:1]
    assert gpu.vram_total_bytes is gpu.utilization is gpu.power_watts is None
