"""What NVIDIA's own tool says of the GPUs of this machine, where it has any."""

from __future__ import annotations

import csv
import shutil
import subprocess
from typing import Any

import pytest

from nbllm.core.hardware.resources import GpuInfo
from nbllm.core.resource_detector import ResourceDetector

MIB = 2**20
FIELDS = ["index", "name", "uuid", "memory.total", "driver_version", "compute_cap", "pci.bus_id"]


@pytest.fixture(scope="module")
def told() -> list[dict[str, str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        pytest.skip("there is no nvidia-smi on this machine")
    query = [tool, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"nvidia-smi finds no GPU: {done.stdout.strip() or done.stderr.strip()}")
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return [dict(zip(FIELDS, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def found() -> list[GpuInfo]:
    resources = ResourceDetector().detect()
    gpus = [gpu for gpu in (*resources.gpus, *resources.hidden_gpus) if gpu.vendor == "nvidia"]
    if any(gpu.mig_index is not None for gpu in gpus):
        pytest.skip("a GPU of this machine is divided, and nvidia-smi tells of whole ones")
    return sorted(gpus, key=lambda gpu: gpu.index)


def facts(gpu: GpuInfo) -> dict[str, Any]:
    capability = gpu.compute_capability or (0, 0)
    size = gpu.vram_total_bytes
    return {
        "index": str(gpu.index),
        "name": gpu.name,
        "uuid": gpu.uuid,
        "memory.total": "[N/A]" if size is None else str(size // MIB),
        "driver_version": gpu.driver_version,
        "compute_cap": "{}.{}".format(*capability),
        "pci.bus_id": f"0000{gpu.pci_bus_id}".upper(),
    }


def test_the_tool_says_the_same(told: list[dict[str, str]], found: list[GpuInfo]) -> None:
    assert [facts(gpu) for gpu in found] == told


def test_samples_are_of_the_same_gpus(found: list[GpuInfo], told: list[dict[str, str]]) -> None:
    detector = ResourceDetector()
    visible = {gpu.label for gpu in detector.detect().gpus}
    samples = detector.sample().gpus
    assert {sample.label for sample in samples} == visible
    for sample in samples:
        assert sample.vram_total_bytes in {gpu.vram_total_bytes for gpu in found}
        assert 0 <= (sample.utilization or 0) <= 1
    detector.close()
