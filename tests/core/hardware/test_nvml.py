"""The real pynvml, on a small C library in the driver's place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.hardware import nvml

GIB, MIB = 2**30, 2**20
DETECT = """
import dataclasses, json, sys
from nbllm.core.resource_detector import ResourceDetector
found = ResourceDetector(time_limit_seconds=float(sys.argv[1])).detect()
gpus = [dataclasses.asdict(gpu) for gpu in found.gpus]
hidden = [dataclasses.asdict(gpu) for gpu in found.hidden_gpus]
print(json.dumps({"gpus": gpus, "hidden": hidden, "absences": found.absences, "text": repr(found)}))
"""
HANG = """
import time
from nbllm.core.resource_detector import ResourceDetector
detector, started = ResourceDetector(time_limit_seconds=0.3), time.monotonic()
first = detector.detect()
middle = time.monotonic()
seconds = []
for _ in range(3):
    began = time.monotonic()
    second = ResourceDetector().detect()
    seconds.append(time.monotonic() - began)
print(repr((first.gpus, first.absences, second.absences)))
assert middle - started < 2, "the first probe waits for its time limit"
assert min(seconds) < 0.2, "the second does not wait for the first"
assert first.memory.total_bytes > 0
"""

Detect = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the driver's library is put in place through LD_LIBRARY_PATH"
)


@pytest.fixture(scope="session")
def library_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler to build the driver's stand-in with")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-o", folder / "libnvidia-ml.so.1", source]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def run(library_folder: Path) -> Callable[..., str]:
    def run_python(script: str, *arguments: str, **variables: str) -> str:
        kept = {name: value for name, value in os.environ.items() if "CUDA" not in name}
        environment = {**kept, "LD_LIBRARY_PATH": str(library_folder), **variables}
        command = [sys.executable, "-W", "error", "-c", script, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run_python


@pytest.fixture
def detect(run: Callable[..., str]) -> Detect:
    def detect_on(kind: str, **variables: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run(DETECT, "10", FAKE_NVML=kind, **variables))
        return found

    return detect_on


def test_two_gpus(detect: Detect, tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = detect("two", FAKE_NVML_LOG=str(log))
    assert found["absences"] == found["hidden"] == []
    first, second = found["gpus"]
    assert first == {
        "server": None,
        "index": 0,
        "mig_index": None,
        "name": "NVIDIA L4",
        "vendor": "nvidia",
        "uuid": "GPU-00000000-abcd",
        "vram_total_bytes": 24 * GIB,
        "vram_free_bytes": 21 * GIB,
        "vram_used_bytes": 3 * GIB,
        "gtt_total_bytes": None,
        "gtt_used_bytes": None,
        "unified_memory": False,
        "utilization": 0.37,
        "temperature_celsius": 41,
        "power_watts": 28.6,
        "power_limit_watts": 72,
        "processes": [
            {"pid": 4713, "memory_bytes": 2000 * MIB},
            {"pid": 4711, "memory_bytes": 300 * MIB},
            {"pid": 99, "memory_bytes": 8 * MIB},
            {"pid": 4712, "memory_bytes": None},
        ],
        "pci_bus_id": "0000:a5:00.0",
        "compute_capability": [8, 9],
        "architecture": None,
        "driver_version": "570.133.20",
        "hidden": None,
        "note": None,
    }
    assert [second[key] for key in ("index", "name", "compute_capability", "processes")] == [
        1,
        "NVIDIA T4",
        [7, 5],
        [],
    ]
    assert "GPU 0: NVIDIA L4, 21.0 GiB of 24.0 GiB free, compute capability 8.9" in found["text"]
    assert log.read_text().split() == ["init", "shutdown"], "the library is given back"


def test_each_question_may_fail_on_its_own(detect: Detect) -> None:
    first, second = detect("silent")["gpus"]
    told = {key for key, value in first.items() if value not in (None, False)}
    assert told == {"name", "vendor"} | ({"index"} if first["index"] else set())
    assert (second["index"], second["name"]) == (1, "NVIDIA T4")
    assert not first["unified_memory"], "no permission is not the same as no memory"


# ---------------------------------------------------------------- divided GPUs


def test_the_instance_of_a_divided_gpu_has_its_own_memory(detect: Detect) -> None:
    found = detect("mig-only")
    (gpu,) = found["gpus"]
    assert [gpu[key] for key in ("index", "mig_index", "uuid", "name")] == [
        0,
        0,
        "MIG-01000000-1111",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    ]
    assert (gpu["vram_total_bytes"], gpu["vram_free_bytes"]) == (4864 * MIB, 4800 * MIB)
    assert gpu["compute_capability"] == [8, 0], "as the whole GPU's"
    assert gpu["temperature_celsius"] == 41, "as the whole GPU's"
    assert gpu["utilization"] is gpu["power_watts"] is None
    (other,) = found["hidden"]
    assert (other["mig_index"], other["vram_total_bytes"]) == (2, 9856 * MIB)
    assert "CUDA_VISIBLE_DEVICES=MIG-03000000-1111" in other["hidden"]
    assert "GPU 0 MIG 0" in found["text"]


def test_beside_a_whole_gpu_cuda_offers_no_instance(detect: Detect) -> None:
    found = detect("mig")
    assert [gpu["name"] for gpu in found["gpus"]] == ["NVIDIA T4"]
    assert [gpu["mig_index"] for gpu in found["hidden"]] == [0, 2]


@pytest.mark.parametrize("wish", ["MIG-03000000-1111", "MIG-03", "MIG-GPU-00000000-abcd/9/0"])
def test_an_instance_is_chosen_by_its_name(detect: Detect, wish: str) -> None:
    found = detect("mig", CUDA_VISIBLE_DEVICES=wish)
    assert [(gpu["index"], gpu["mig_index"]) for gpu in found["gpus"]] == [(0, 2)]
    assert len(found["hidden"]) == 2


def test_a_divided_gpu_without_instances_is_explained(detect: Detect) -> None:
    found = detect("mig-bare")
    assert found["gpus"] == found["hidden"] == []
    (absence,) = [text for text in found["absences"] if "NVIDIA" in text]
    assert "nvidia-smi mig -cgi" in absence


# ---------------------------------------------------------------- what is visible


@pytest.mark.parametrize(
    ("value", "visible"),
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        ("GPU-1", [1]),
        ("GPU-", []),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
    ],
)
def test_cudas_variable_is_obeyed(detect: Detect, value: str, visible: list[int]) -> None:
    found = detect("same", CUDA_VISIBLE_DEVICES=value)
    assert [gpu["index"] for gpu in found["gpus"]] == visible
    assert {gpu["index"] for gpu in found["hidden"]} == {0, 1} - set(visible)
    for gpu in found["hidden"]:
        assert gpu["hidden"] == f'hidden by CUDA_VISIBLE_DEVICES="{value}"'


# ---------------------------------------------------------------- again and again


SAMPLE = """
import os, pathlib, time
from nbllm.core.resource_detector import ResourceDetector
detector = ResourceDetector(time_limit_seconds=20)
lost = pathlib.Path(os.environ["FAKE_NVML_LOST"])
stuck = pathlib.Path(os.environ["FAKE_NVML_STUCK"])
def names():
    return [(gpu.label, gpu.name) for gpu in detector.sample().gpus]
"""


@pytest.fixture
def follow(run: Callable[..., str], tmp_path: Path) -> Callable[..., list[str]]:
    """Run a script with a detector; what the library has noted."""

    def follow_on(kind: str, script: str) -> list[str]:
        log = tmp_path / "log"
        files = {f"FAKE_NVML_{name}": str(tmp_path / name.lower()) for name in ("LOST", "STUCK")}
        run(SAMPLE + script, FAKE_NVML=kind, FAKE_NVML_LOG=str(log), **files)
        return log.read_text().split()

    return follow_on


def test_samples_keep_the_library_at_work(follow: Callable[..., list[str]]) -> None:
    script = """
for _ in range(20):
    sample = detector.sample()
first, second = sample.gpus
assert (first.index, first.label, first.name) == (0, "GPU 0", "NVIDIA L4")
assert (first.vram_used_bytes, first.vram_total_bytes) == (3 << 30, 24 << 30)
assert (first.utilization, first.temperature_celsius, first.power_watts) == (0.37, 41, 28.6)
assert sample.memory_total_bytes > sample.memory_used_bytes > 0
detector.detect()
detector.close()
assert len(detector.sample().gpus) == 2
del detector
"""
    find = ["init", "shutdown"]
    wanted = [*find, "init", *find, "shutdown", *find, "init", "shutdown"]
    assert follow("two", script) == wanted


def test_samples_do_without_a_gpu_that_is_lost(follow: Callable[..., list[str]]) -> None:
    script = """
both = names()
assert len(both) == 2
lost.touch()
assert names() == [], "the session ends, and another begins with the next sample"
assert names() == both[:1]
lost.unlink()
detector.close()
assert names() == both
detector.close()
"""
    notes = follow("two", script)
    assert notes.count("init") == notes.count("shutdown") == 5


def test_samples_in_a_forked_child_open_the_library_anew(follow: Callable[..., list[str]]) -> None:
    script = """
assert len(names()) == 2
child = os.fork()
if child == 0:
    os._exit(0 if len(names()) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
assert len(names()) == 2
"""
    assert follow("two", script).count("init") == 3


def test_a_driver_that_hangs_holds_up_one_sample(follow: Callable[..., list[str]]) -> None:
    script = """
assert len(names()) == 2
stuck.touch()
assert names() == []
began = time.monotonic()
for _ in range(5):
    assert names() == []
assert time.monotonic() - began < 3, "nobody waits behind the question that hangs"
detector.close()
"""
    assert follow("two", script).count("init") == 2


def test_a_gpu_that_shares_the_main_memory_has_no_memory_of_its_own(detect: Detect) -> None:
    (gpu,) = detect("unified")["gpus"]
    assert gpu["unified_memory"]
    assert gpu["vram_total_bytes"] is gpu["vram_free_bytes"] is gpu["vram_used_bytes"] is None


def test_a_lost_gpu_does_not_hide_the_other(detect: Detect) -> None:
    found = detect("lost")
    assert [gpu["index"] for gpu in found["gpus"]] == [0]
    (absence,) = found["absences"]
    assert "GPU 1" in absence
    assert "lost" in absence.lower()


def test_what_one_question_lacks_is_none(detect: Detect) -> None:
    gpus = detect("no-uuid")["gpus"]
    assert [gpu["uuid"] for gpu in gpus] == [None, None]
    assert [gpu["name"] for gpu in gpus] == ["NVIDIA L4", "NVIDIA T4"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("none", "found none"),
        ("not-loaded", "not running"),
        ("no-permission", "permission"),
        ("mismatch", "Restart the machine"),
        ("unknown", "Unknown Error"),
    ],
)
def test_an_absence_is_explained(detect: Detect, kind: str, words: str) -> None:
    found = detect(kind)
    assert found["gpus"] == []
    (absence,) = [text for text in found["absences"] if "NVIDIA" in text]
    assert words in absence
    assert absence in found["text"]


def test_a_driver_that_hangs_holds_up_nothing_but_its_own_answer(
    run: Callable[..., str],
) -> None:
    started = time.monotonic()
    gpus, *absences = eval(run(HANG, FAKE_NVML="hang"))
    assert gpus == ()
    for absence in absences:
        assert "The NVIDIA GPUs could not be queried: no response in time." in absence
    assert time.monotonic() - started < 20, "the process ends although the probe hangs"


def test_without_the_library_a_running_driver_is_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "_LIBRARY", "libnvidia-ml-that-nobody-has.so.1")
    assert "is not installed" in (nvml.NvidiaSource(tmp_path).find().absence or "")
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.touch()
    found = nvml.NvidiaSource(tmp_path).find()
    assert "--gpus all" in found.problems[0]
    assert found.absence is None


def test_without_pynvml_the_remedy_is_named(run: Callable[..., str]) -> None:
    hide = "import sys; sys.modules['pynvml'] = None\n"
    absence = json.loads(run(hide + DETECT, "10"))["absences"][0]
    assert "pip install nvidia-ml-py" in absence
