from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from nbllm.core.hardware.engine_devices import EngineDevice, EngineDevices
from nbllm.core.hardware.resources import (
    CpuInfo,
    GpuInfo,
    GpuProcess,
    MemoryInfo,
    Resources,
)
from nbllm.notebook.models.devices_table import devices_table

MIB = 2**20
L4 = GpuInfo(
    index=0,
    name="NVIDIA L4",
    vendor="nvidia",
    vram_total_bytes=23_034 * MIB,
    vram_free_bytes=20_480 * MIB,
    utilization=0.37,
    temperature_celsius=41.0,
    power_watts=28.6,
    power_limit_watts=72.0,
    processes=(GpuProcess(7), GpuProcess(8)),
    compute_capability=(8, 9),
    driver_version="570",
)
MACHINE = Resources(
    cpu=CpuInfo(
        model="Fast <CPU>",
        architecture="x86_64",
        sockets=2,
        physical_cores=8,
        logical_cores=16,
        usable_cores=1.5,
        limit="limited to 1.5 cores by /x/cpu.max",
        features=("sse3", "avx", "avx2", "avx512f"),
    ),
    memory=MemoryInfo(
        total_bytes=4096 * MIB,
        available_bytes=1024 * MIB,
        machine_bytes=8192 * MIB,
        limit="limited by /x/memory.max",
        swap_total_bytes=512 * MIB,
    ),
    gpus=(
        L4,
        GpuInfo(index=1, name="APU", vendor="amd", unified_memory=True, note="integrated"),
        GpuInfo(index=2, name="Arc", vendor="intel"),
    ),
    hidden_gpus=(
        GpuInfo(index=3, mig_index=1, name="H100 MIG 1g", vendor="nvidia", hidden="hidden by X"),
    ),
    absences=("A problem.",),
)


@pytest.fixture
def table() -> pd.DataFrame:
    return devices_table(MACHINE).set_index("device")


def test_there_is_a_row_for_each_device(table: pd.DataFrame) -> None:
    assert list(table.index) == ["CPU", "RAM", "GPU 0", "GPU 1", "GPU 2", "GPU 3 MIG 1"]
    assert list(table["type"]) == [
        "processor",
        "main memory",
        "GPU",
        "GPU, unified memory",
        "GPU",
        "MIG instance",
    ]


def test_numbers_have_units_and_what_is_unknown_is_missing(table: pd.DataFrame) -> None:
    gpu = table.loc["GPU 0"]
    assert (gpu["memory (MiB)"], gpu["free (MiB)"]) == (23_034, 20_480)
    assert (gpu["load (%)"], gpu["temperature (°C)"], gpu["power (W)"]) == (37, 41, 28.6)
    assert table.loc["CPU", "usable cores"] == 1.5
    assert table.loc["RAM", "free (MiB)"] == 1024
    assert table.loc["GPU 1", "free (MiB)"] == 1024, "it shares the main memory"
    assert pd.isna(table.loc["GPU 2", "free (MiB)"])
    assert pd.isna(table.loc["GPU 2", "load (%)"])


def test_limits_and_neighbours_are_told(table: pd.DataFrame) -> None:
    details = table["details"]
    assert details["CPU"] == (
        "2 sockets; 16 logical cores; limited to 1.5 cores by /x/cpu.max; AVX-512 AVX2"
    )
    assert details["RAM"] == (
        "limited by /x/memory.max; the machine has 8.0 GiB; swap: 0 MiB of 512 MiB free"
    )
    assert details["GPU 0"] == (
        "compute capability 8.9; driver 570; at most 72 W; 2 processes on it"
    )
    assert details["GPU 1"] == "integrated"


def test_what_a_device_is_good_for(table: pd.DataFrame) -> None:
    use = table["good for"]
    assert use["RAM"] == "models that need up to 819 MiB", "headroom is left out"
    assert use["GPU 0"] == "models that need up to 19.3 GiB"
    assert use["GPU 2"] == "models"
    assert use["GPU 3 MIG 1"] == "nothing in this process"
    assert table["details"]["GPU 3 MIG 1"] == "hidden by X"


def test_a_build_without_gpus_is_told_with_the_remedy() -> None:
    engine = EngineDevices((), supports_gpu=False, build="llama-cpp-python 0.3.36")
    table = devices_table(replace(MACHINE, engine=engine))
    assert table["good for"][2] == "not usable by this llama.cpp"
    for view in (repr(table), table._repr_html_()):
        assert "-DGGML_CUDA=on" in view
        assert "A problem." in view
    able = EngineDevices(
        (EngineDevice("CUDA0"),), supports_gpu=True, build="llama-cpp-python 0.3.36"
    )
    use = devices_table(replace(MACHINE, engine=able))["good for"]
    assert use[2] == "models that need up to 19.3 GiB"
    assert use[3] == "not usable by this llama.cpp", "a build for CUDA does not see AMD's"


def test_without_gpus_their_columns_are_not_shown() -> None:
    table = devices_table(replace(MACHINE, gpus=(), hidden_gpus=()))
    assert "temperature" not in repr(table)
    assert "temperature (°C)" in table.columns
