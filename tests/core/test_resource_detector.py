from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.hardware import machine as machines
from nbllm.core.hardware.engine_devices import EngineDevice, EngineDevices
from nbllm.core.hardware.machine import Machine, Processors, mac_processors, output_of, sysctl_facts
from nbllm.core.hardware.resources import CpuInfo, GpuFindings, GpuInfo, MemoryInfo, Resources
from nbllm.core.resource_detector import ResourceDetector

GIB = 2**30
MEMINFO = """\
MemTotal:       33554432 kB
MemFree:         2097152 kB
MemAvailable:   25165824 kB
Buffers:          204800 kB
SwapTotal:       4194304 kB
SwapFree:        3145728 kB
HugePages_Total:       0
"""
CPUINFO = "".join(
    f"""\
processor\t: {number}
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
physical id\t: {number // 4}
core id\t\t: {number % 4}
flags\t\t: fpu sse4_2 avx avx2 fma f16c bmi2 clzero

"""
    for number in range(8)
)
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 30 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:30 / /sys/fs/cgroup/cpuset rw shared:10 - cgroup cgroup rw,cpuset\n"
    "35 31 0:31 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n"
)
UNLIMITED = "9223372036854771712\n"


class Gpus:
    """A source that finds what it is given; ``lives`` are its answers to further questions."""

    def __init__(
        self, *gpus: GpuInfo, hidden: tuple[GpuInfo, ...] = (), what: str = "GPUs"
    ) -> None:
        self.what = what
        self.open = False
        self._findings = GpuFindings(
            gpus, hidden, problems=(f"{what}: a problem.",), absence=f"{what}: none."
        )

    def find(self) -> GpuFindings:
        return self._findings

    def live(self) -> tuple[GpuInfo, ...]:
        self.open = True
        return tuple(replace(gpu, utilization=0.5) for gpu in self._findings.gpus)

    def close(self) -> None:
        self.open = False


class Recorded(Machine):
    """A machine of 8 cores and 32 GiB whose files are in a folder of the test's own."""

    def __init__(self, root: Path, files: dict[str, str], affinity: int | None = 8) -> None:
        super().__init__(root)
        self._affinity = affinity
        base = {"proc/meminfo": MEMINFO, "proc/cpuinfo": CPUINFO}
        for name, text in {**base, **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def logical_cores(self) -> int:
        return 8

    def physical_cores(self) -> int | None:
        return 4

    def affinity(self) -> frozenset[int] | None:
        return None if self._affinity is None else frozenset(range(self._affinity))

    def address_space(self) -> int | None:
        return self.addresses

    addresses: int | None = None


def v2(own: str, **groups: dict[str, str]) -> dict[str, str]:
    """A tree of version 2; the groups' names have "__" for "/", the mount itself is "_"."""
    files = {"proc/self/cgroup": f"0::{own}\n", "proc/self/mountinfo": V2}
    for name, contents in groups.items():
        folder = "/".join(["sys/fs/cgroup", *name.split("__")]).removesuffix("/_")
        files.update({f"{folder}/{file}": text for file, text in contents.items()})
    return files


def v2_memory(limit: str, current: int, **statistics: int) -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{current}\n",
        "memory.stat": "".join(f"{key} {value}\n" for key, value in statistics.items()),
    }


def v1(own: str) -> dict[str, str]:
    lines = f"9:memory:{own}\n4:cpuset:{own}\n2:cpu,cpuacct:{own}\n1:name=systemd:{own}\n0::/\n"
    return {"proc/self/cgroup": lines, "proc/self/mountinfo": V1}


def memory(root: Path, files: dict[str, str]) -> MemoryInfo:
    return ResourceDetector(Recorded(root, files)).memory()


def cpu(root: Path, files: dict[str, str], affinity: int | None = 8) -> CpuInfo:
    return ResourceDetector(Recorded(root, files, affinity)).cpu()


# ---------------------------------------------------------------- memory


def test_without_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    info = memory(tmp_path, {})
    assert info == MemoryInfo(
        total_bytes=32 * GIB,
        available_bytes=24 * GIB,
        machine_bytes=32 * GIB,
        swap_total_bytes=4 * GIB,
        swap_free_bytes=3 * GIB,
    )
    assert info.used_bytes == 8 * GIB


def test_page_cache_is_not_counted_as_used(tmp_path: Path) -> None:
    files = v2(
        "/app",
        app=v2_memory(
            str(8 * GIB),
            7 * GIB,
            anon=2 * GIB,
            inactive_file=3 * GIB,
            active_file=GIB,
            slab_reclaimable=GIB // 2,
        ),
    )
    info = memory(tmp_path, files)
    assert (info.total_bytes, info.machine_bytes) == (8 * GIB, 32 * GIB)
    assert info.available_bytes == 8 * GIB - (7 * GIB - 4 * GIB - GIB // 2)
    assert info.limit == "limited by /sys/fs/cgroup/app/memory.max"


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    files = v2(
        "/kubepods/pod1/app",
        kubepods=v2_memory(str(16 * GIB), 15 * GIB, inactive_file=GIB),
        kubepods__pod1=v2_memory(str(4 * GIB), GIB),
        kubepods__pod1__app=v2_memory("max", GIB),
    )
    info = memory(tmp_path, files)
    assert info.total_bytes == 4 * GIB
    assert info.limit == "limited by /sys/fs/cgroup/kubepods/pod1/memory.max"
    assert info.available_bytes == 2 * GIB, "its neighbours have used up the group above"


def test_max_and_a_limit_above_the_machine_are_no_limits(tmp_path: Path) -> None:
    files = v2("/a/b", a=v2_memory(str(64 * GIB), GIB), a__b=v2_memory("max", GIB))
    info = memory(tmp_path, files)
    assert (info.total_bytes, info.limit) == (32 * GIB, None)


def test_the_throttling_limit_counts_too(tmp_path: Path) -> None:
    group = {**v2_memory("max", GIB), "memory.high": f"{2 * GIB}\n"}
    info = memory(tmp_path, v2("/app", app=group))
    assert (info.total_bytes, info.available_bytes) == (2 * GIB, GIB)
    assert info.limit == "limited by /sys/fs/cgroup/app/memory.high"


def test_in_a_container_the_mount_is_the_own_group(tmp_path: Path) -> None:
    info = memory(tmp_path, v2("/", _=v2_memory(str(2 * GIB), GIB)))
    assert (info.total_bytes, info.available_bytes) == (2 * GIB, GIB)


@pytest.mark.parametrize("own", ["/docker/abc", "/../../docker/abc", "/gone"])
def test_a_group_that_cannot_be_seen_is_the_mount(tmp_path: Path, own: str) -> None:
    info = memory(tmp_path, v2(own, _=v2_memory(str(2 * GIB), GIB)))
    assert info.total_bytes == 2 * GIB


def test_a_mount_of_a_part_of_the_tree(tmp_path: Path) -> None:
    files = v2("/docker/abc/sub", sub=v2_memory(str(GIB), 0), _=v2_memory(str(2 * GIB), 0))
    files["proc/self/mountinfo"] = V2.replace("0:26 / ", "0:26 /docker/abc ")
    assert memory(tmp_path, files).total_bytes == GIB


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2.replace("/sys/fs/cgroup", r"/my\040groups"),
        "my groups/memory.max": f"{GIB}\n",
    }
    assert memory(tmp_path, files).total_bytes == GIB


def test_swap_is_limited_too(tmp_path: Path) -> None:
    group = {"memory.swap.max": f"{GIB}\n", "memory.swap.current": f"{GIB // 4}\n"}
    info = memory(tmp_path, v2("/app", app=group))
    assert (info.swap_total_bytes, info.swap_free_bytes) == (GIB, GIB - GIB // 4)


def test_version_1(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/abc"
    files = {
        **v1("/docker/abc"),
        f"{group}/memory.limit_in_bytes": f"{6 * GIB}\n",
        f"{group}/memory.usage_in_bytes": f"{5 * GIB}\n",
        f"{group}/memory.stat": (
            f"inactive_file 0\ntotal_inactive_file {2 * GIB}\ntotal_active_file {GIB}\n"
            f"hierarchical_memory_limit {6 * GIB}\n"
        ),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{30 * GIB}\n",
    }
    info = memory(tmp_path, files)
    assert (info.total_bytes, info.available_bytes) == (6 * GIB, 4 * GIB)
    assert info.limit == "limited by /sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes"


def test_the_number_for_unlimited_of_version_1(tmp_path: Path) -> None:
    files = {
        **v1("/"),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{30 * GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"hierarchical_memory_limit {UNLIMITED}",
    }
    info = memory(tmp_path, files)
    assert (info.total_bytes, info.available_bytes, info.limit) == (32 * GIB, 24 * GIB, None)


def test_version_1_tells_of_limits_above_what_can_be_seen(tmp_path: Path) -> None:
    files = {
        **v1("/"),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"hierarchical_memory_limit {3 * GIB}\n",
    }
    info = memory(tmp_path, files)
    assert (info.total_bytes, info.available_bytes) == (3 * GIB, 2 * GIB)


def test_a_limit_that_is_overdrawn_leaves_nothing(tmp_path: Path) -> None:
    info = memory(tmp_path, v2("/app", app=v2_memory(str(GIB), 2 * GIB)))
    assert info.available_bytes == 0


# ---------------------------------------------------------------- processors


def test_processors(tmp_path: Path) -> None:
    info = cpu(tmp_path, {})
    assert info.model == "AMD EPYC 7B13"
    assert (info.sockets, info.physical_cores, info.logical_cores) == (2, 4, 8)
    assert (info.usable_cores, info.limit) == (8, None)
    assert info.features == ("sse4_2", "avx", "f16c", "fma", "avx2", "bmi2")


def test_affinity(tmp_path: Path) -> None:
    info = cpu(tmp_path, {}, affinity=3)
    assert (info.usable_cores, info.limit) == (3, "limited to 3 cores by its affinity")
    assert cpu(tmp_path, {}, affinity=None).usable_cores == 8


def test_a_quota_of_one_core_and_a_half(tmp_path: Path) -> None:
    info = cpu(tmp_path, v2("/app", app={"cpu.max": "150000 100000\n"}))
    assert info.usable_cores == 1.5
    assert info.limit == "limited to 1.5 cores by /sys/fs/cgroup/app/cpu.max"


def test_the_tightest_of_nested_quotas_counts(tmp_path: Path) -> None:
    files = v2(
        "/a/b/c",
        a={"cpu.max": "200000 100000\n"},
        a__b={"cpu.max": "max 100000\n"},
        a__b__c={"cpu.max": "400000 50000\n"},
    )
    assert cpu(tmp_path, files).usable_cores == 2


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct/docker"
    files = {
        **v1("/docker"),
        f"{group}/cpu.cfs_quota_us": "150000\n",
        f"{group}/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert cpu(tmp_path, files).usable_cores == 1.5
    files[f"{group}/cpu.cfs_quota_us"] = "-1\n"
    assert cpu(tmp_path, files).usable_cores == 8


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3", 4), ("0,2-3", 3), ("5", 1), ("", 8), ("0-x", 8), ("6-9", 4)]
)
def test_a_cpuset(tmp_path: Path, text: str, cores: int) -> None:
    info = cpu(tmp_path, v2("/app", app={"cpuset.cpus.effective": f"{text}\n"}))
    assert info.usable_cores == (2 if text == "6-9" else cores)
    old = {**v1("/app"), "sys/fs/cgroup/cpuset/app/cpuset.cpus": f"{text}\n"}
    assert cpu(tmp_path, old).usable_cores == info.usable_cores


def test_the_words_of_other_architectures(tmp_path: Path) -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp sve\nCPU part\t: 0xd0c\n"
    named = {"proc/cpuinfo": f"{arm}CPU implementer\t: 0x41\n"}
    info = cpu(tmp_path, {"proc/cpuinfo": arm})
    assert (info.model, info.sockets, info.features) == (None, None, ("neon", "dotprod", "sve"))
    board = {"proc/cpuinfo": arm, "proc/device-tree/model": "Raspberry Pi 5 Model B\0"}
    assert cpu(tmp_path, board).model == "Raspberry Pi 5 Model B"
    assert cpu(tmp_path, {**board, **named}).model == "Raspberry Pi 5 Model B, Neoverse N1"


def test_hyper_threads_and_slow_cores(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu"
    files = {
        f"{folder}/cpu{number}/topology/thread_siblings_list": f"{number % 4},{number % 4 + 4}\n"
        for number in range(8)
    }
    files["sys/devices/cpu_core/cpus"] = "0-1,4-5\n"
    info = cpu(tmp_path, files)
    assert (info.usable_physical_cores, info.performance_cores) == (4, 2)
    assert cpu(tmp_path, files, affinity=2).usable_physical_cores == 2
    pair = {**files, **v2("/app", app={"cpuset.cpus.effective": "3,7\n"})}
    assert cpu(tmp_path, pair).usable_physical_cores == 1


def test_a_mac() -> None:
    facts = sysctl_facts(
        "machdep.cpu.brand_string: Apple M4 Max\nhw.perflevel0.physicalcpu: 12\n"
        "hw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_SME: 1\n"
        "hw.optional.arm.FEAT_SHA3: 1\nhw.optional.arm.FEAT_BTI: 0\n"
    )
    assert mac_processors(facts) == Processors(
        "Apple M4 Max", 1, ("neon", "dotprod", "sme"), performance_cores=12
    )
    intel = {"machdep.cpu.features": "FPU SSE3 AVX1.0 FMA", "machdep.cpu.leaf7_features": "AVX2"}
    assert mac_processors(intel).features == ("sse3", "avx", "fma", "avx2")
    assert mac_processors({}) == Processors(sockets=1)


def test_the_output_of_commands() -> None:
    partly = "import sys; print('hw.memsize: 1'); sys.exit(1)"
    assert output_of((sys.executable, "-c", partly)) == "hw.memsize: 1"
    assert output_of(("/no/such/command",)) is None
    assert Machine().sysctl("kern.unheard.of") == {}


# ---------------------------------------------------------------- all of it


def test_this_machine() -> None:
    found = ResourceDetector().detect()
    assert found.cpu.logical_cores == os.cpu_count()
    assert 0 < found.cpu.usable_cores <= found.cpu.logical_cores
    assert 0 < found.memory.available_bytes <= found.memory.total_bytes
    assert found.memory.total_bytes <= found.memory.machine_bytes
    assert found.gpus or found.absences


def test_a_machine_without_proc(tmp_path: Path) -> None:
    found = ResourceDetector(Machine(tmp_path)).detect()
    assert found.memory.total_bytes > 0, "psutil knows"
    assert found.cpu.usable_cores > 0
    assert found.cpu.sockets is None


def test_detection_takes_at_most_50_ms_without_a_gpu() -> None:
    detector = ResourceDetector(gpu_sources=())
    detector.detect()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        detector.detect()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


GARBAGE = ["", "\n\n", "0::", "::::", "x" * 10_000, "max max max", "-5", "1e9", "\x00", "\u00b2"]


@pytest.mark.parametrize("text", GARBAGE)
def test_files_full_of_nonsense_are_no_limits(tmp_path: Path, text: str) -> None:
    names = ["memory.max", "memory.current", "memory.stat", "cpu.max", "cpuset.cpus.effective"]
    files = v2("/app", app=dict.fromkeys(names, text))
    machine = Recorded(tmp_path, {**files, "proc/cpuinfo": text})
    found = ResourceDetector(machine, gpu_sources=()).detect()
    assert (found.memory.total_bytes, found.cpu.usable_cores) == (32 * GIB, 8)
    assert found.absences == ()
    for name in ("proc/self/cgroup", "proc/self/mountinfo", "proc/meminfo"):
        (tmp_path / name).write_text(text)
        found = ResourceDetector(machine, gpu_sources=()).detect()
        assert found.absences == ()
        assert found.memory.total_bytes > 0


def test_files_that_are_not_text_or_not_readable(tmp_path: Path) -> None:
    machine = Recorded(tmp_path, v2("/app", app={"memory.max": "1\n"}))
    (tmp_path / "sys/fs/cgroup/app/memory.max").write_bytes(b"\xff\xfe")
    (tmp_path / "sys/fs/cgroup/app/cpu.max").mkdir()
    found = ResourceDetector(machine, gpu_sources=()).detect()
    assert (found.memory.total_bytes, found.cpu.usable_cores) == (32 * GIB, 8)
    assert found.absences == ()


class Broken(Machine):
    """Whatever it is asked, it fails or never answers."""

    def __init__(self, release: threading.Event | None = None) -> None:
        super().__init__()
        self._release = release

    def memory(self) -> machines.MachineMemory:
        if self._release is None:
            raise MemoryError("out of luck")
        self._release.wait()
        raise AssertionError

    def logical_cores(self) -> int:
        raise RuntimeError("no idea")


def test_nothing_is_raised_and_what_failed_is_said() -> None:
    class BrokenSource(Gpus):
        def find(self) -> GpuFindings:
            raise OSError("segment fault in the driver")

    found = ResourceDetector(Broken(), gpu_sources=[BrokenSource()]).detect()
    assert found.absences == (
        "The processors could not be queried: RuntimeError: no idea.",
        "The memory could not be queried: MemoryError: out of luck.",
        "The GPUs could not be queried: OSError: segment fault in the driver.",
    )
    assert found.cpu.usable_cores == os.cpu_count()
    assert found.memory.total_bytes > 0
    assert found.gpus == ()


def test_a_probe_that_hangs_is_left_behind_and_asked_once() -> None:
    release = threading.Event()
    detector = ResourceDetector(Broken(release), gpu_sources=(), time_limit_seconds=0.2)
    before = threading.active_count()
    try:
        started = time.monotonic()
        for _ in range(5):
            assert detector.memory().total_bytes > 0
        assert time.monotonic() - started < 2 * 0.2 + 0.5
        assert threading.active_count() == before + 1
        assert "The memory could not be queried: no response in time." in detector.detect().absences
    finally:
        release.set()


def test_detectors_in_many_threads_agree(tmp_path: Path) -> None:
    machine = Recorded(tmp_path, v2("/app", app={"cpu.max": "150000 100000\n"}))
    results: list[Resources] = []

    def detect() -> None:
        results.append(ResourceDetector(machine, gpu_sources=()).detect())

    threads = [threading.Thread(target=detect) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert set(results) == {results[0]}
    assert results[0].cpu.usable_cores == 1.5


def gpu(index: int, **fields: Any) -> GpuInfo:
    return GpuInfo(index=index, name=f"GPU of {index}", vendor="amd", **fields)


def test_gpus_of_several_sources_share_no_number(tmp_path: Path) -> None:
    sources = [
        Gpus(gpu(1), gpu(0), hidden=(gpu(2, hidden="hidden by X"),), what="A"),
        Gpus(what="B"),
        Gpus(gpu(0), what="C"),
    ]
    detector = ResourceDetector(Recorded(tmp_path, {}), gpu_sources=sources)
    found = detector.detect()
    assert [gpu.label for gpu in found.gpus] == ["GPU 1", "GPU 0", "GPU 3"]
    assert [gpu.label for gpu in found.hidden_gpus] == ["GPU 2"]
    assert found.absences == ("A: a problem.", "B: a problem.", "C: a problem.")
    assert [gpu.label for gpu in detector.sample().gpus] == ["GPU 1", "GPU 0", "GPU 3"]
    assert [source.open for source in sources] == [True, False, True], "B has nothing to follow"
    detector.close()
    assert not any(source.open for source in sources)
    assert detector.sample().gpus[2].utilization == 0.5, "it opens again"
    del detector
    gc.collect()
    assert not any(source.open for source in sources), "given back without being asked to"


def test_absences_are_told_where_there_is_no_gpu_at_all(tmp_path: Path) -> None:
    sources = [Gpus(what="A"), Gpus(what="B")]
    found = ResourceDetector(Recorded(tmp_path, {}), gpu_sources=sources).detect()
    assert found.absences == ("A: a problem.", "B: a problem.", "A: none.", "B: none.")


def test_a_limit_on_address_space_counts(tmp_path: Path) -> None:
    machine = Recorded(tmp_path, {})
    machine.addresses = 4 * GIB
    info = ResourceDetector(machine, gpu_sources=()).memory()
    assert (info.total_bytes, info.available_bytes) == (4 * GIB, 4 * GIB - 512 * 2**20)
    assert info.limit == "limited by a limit on address space (ulimit -v)"
    machine.addresses = 400 * GIB
    assert ResourceDetector(machine, gpu_sources=()).memory().limit is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_ulimit_is_asked_for() -> None:
    ask = "from nbllm.core.hardware.machine import Machine; print(Machine().address_space())"
    command = f"ulimit -v 4000000; exec '{sys.executable}' -c '{ask}'"
    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    if sys.platform == "linux":
        assert told.stdout.strip() == str(4_000_000 * 1024)


def test_a_unified_gpu_has_the_main_memory(tmp_path: Path) -> None:
    found = ResourceDetector(Recorded(tmp_path, {}), gpu_sources=()).detect()
    sizes = [
        (found.gpu_total_bytes(one), found.gpu_free_bytes(one))
        for one in (
            gpu(0, vram_total_bytes=8 * GIB, vram_free_bytes=7 * GIB),
            gpu(0, unified_memory=True),
            gpu(0, unified_memory=True, vram_total_bytes=20 * GIB, vram_free_bytes=20 * GIB),
            gpu(0, unified_memory=True, vram_total_bytes=30 * GIB, vram_free_bytes=30 * GIB),
            gpu(
                0,
                unified_memory=True,
                vram_total_bytes=GIB,
                vram_free_bytes=GIB // 2,
                gtt_total_bytes=16 * GIB,
                gtt_used_bytes=GIB,
            ),
            gpu(0),
        )
    ]
    assert sizes == [
        (8 * GIB, 7 * GIB),
        (32 * GIB, 24 * GIB),
        (20 * GIB, 20 * GIB),
        (30 * GIB, 24 * GIB),
        (17 * GIB, 15.5 * GIB),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("vendor", "option"), [("nvidia", "CUDA"), ("amd", "HIP"), ("apple", "METAL"), ("x", "VULKAN")]
)
def test_a_build_that_cannot_use_the_gpu_is_said_so(vendor: str, option: str) -> None:
    here = GpuInfo(index=0, name="Some GPU", vendor=vendor)
    for_cpus = EngineDevices((), supports_gpu=False, build="llama-cpp-python 0.3.36")
    advice = for_cpus.advice([here]) or ""
    assert "llama-cpp-python 0.3.36 is built for the CPU only" in advice
    assert "Some GPU" in advice
    install = "pip install --force-reinstall --no-cache-dir llama-cpp-python"
    assert f'CMAKE_ARGS="-DGGML_{option}=on" {install}' in advice
    blind = EngineDevices((), supports_gpu=True, build="llama-cpp-python 0.3.36").advice([here])
    assert "finds no usable one" in (blind or "")
    assert (
        EngineDevices((EngineDevice("CUDA0"),), supports_gpu=True, build="x").advice([here]) is None
    )
    assert for_cpus.advice([]) is None
    assert for_cpus.advice([replace(here, vendor="intel", unified_memory=True)]) is None


def test_what_a_person_reads() -> None:
    found = Resources(
        cpu=CpuInfo(
            model="AMD EPYC 7B13",
            architecture="x86_64",
            sockets=2,
            physical_cores=4,
            logical_cores=8,
            usable_cores=1.5,
            limit="limited to 1.5 cores by /sys/fs/cgroup/cpu.max",
        ),
        memory=MemoryInfo(
            total_bytes=8 * GIB,
            available_bytes=6 * GIB,
            machine_bytes=32 * GIB,
            limit="limited by /sys/fs/cgroup/memory.max",
            swap_total_bytes=GIB,
        ),
        gpus=(
            GpuInfo(index=0, name="NVIDIA GB10", vendor="nvidia", unified_memory=True),
            GpuInfo(
                index=1,
                mig_index=2,
                name="H100 MIG 1g.10gb",
                vendor="nvidia",
                vram_total_bytes=10 * GIB,
                vram_free_bytes=9 * GIB,
                compute_capability=(9, 0),
                utilization=0.25,
                temperature_celsius=41,
                power_watts=70.4,
            ),
        ),
        hidden_gpus=(GpuInfo(index=2, name="T4", vendor="nvidia", hidden='hidden by X="0"'),),
        absences=("GPU 1 cannot be used: the driver reported: GPU is lost.",),
    )
    assert str(found).splitlines() == [
        "CPU: AMD EPYC 7B13, 2 sockets, 4 physical cores, 8 logical cores, 1.5 usable "
        "(limited to 1.5 cores by /sys/fs/cgroup/cpu.max)",
        "Memory: 6.0 GiB of 8.0 GiB available (limited by /sys/fs/cgroup/memory.max), "
        "swap 0.0 GiB of 1.0 GiB free",
        "GPU 0: NVIDIA GB10, shares the main memory",
        "GPU 1 MIG 2: H100 MIG 1g.10gb, 9.0 GiB of 10.0 GiB free, compute capability 9.0, "
        "25% busy, 41 °C, 70 W",
        'GPU 2: T4, memory unknown (hidden by X="0")',
        "GPU 1 cannot be used: the driver reported: GPU is lost.",
    ]
    assert str(found) in repr(found)
