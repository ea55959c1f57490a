"""Control groups as containers and old kernels have them, and files with anything in them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.hardware.cgroups import cpu_quotas, cpuset, memory_limits, swap_limits
from nbllm.core.hardware.machine import linux_memory, processor_numbers

GIB, MIB = 2**30, 2**20
UNLIMITED = 9_223_372_036_854_771_712


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# ---------------------------------------------------------------- recorded machines

V1_MOUNT = "35 31 0:31 {inside} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
V1_MEMORY = "sys/fs/cgroup/memory"


def v1(own: str, group: str, inside: str = "/", **files: int | str) -> dict[str, str]:
    texts = {f"{V1_MEMORY}{group}/memory.{name}": f"{value}\n" for name, value in files.items()}
    return {
        "proc/self/cgroup": f"9:memory:{own}\n0::/\n",
        "proc/self/mountinfo": V1_MOUNT.format(inside=inside),
        **texts,
    }


def test_docker_with_version_1_shows_its_own_group_as_the_mount(tmp_path: Path) -> None:
    """The path in /proc is the host's; the mount begins at that very group."""
    own = "/docker/0f3ab"
    files = v1(own, "", own, limit_in_bytes=4 * GIB, usage_in_bytes=GIB)
    (limit,) = memory_limits(tree(tmp_path, files))
    assert (limit.limit_bytes, limit.used_bytes) == (4 * GIB, GIB)
    assert limit.source == "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def test_version_1_limits_memory_and_swap_together(tmp_path: Path) -> None:
    numbers = {"limit_in_bytes": 4 * GIB, "memsw.limit_in_bytes": 5 * GIB}
    files = v1("/app", "/app", **numbers, stat=f"swap 1\ntotal_swap {300 * MIB}")
    (limit,) = swap_limits(tree(tmp_path, files))
    assert (limit.limit_bytes, limit.used_bytes) == (GIB, 300 * MIB)
    assert limit.source.endswith("/app/memory.memsw.limit_in_bytes")


def test_version_1_without_swap(tmp_path: Path) -> None:
    numbers = {"limit_in_bytes": 4 * GIB, "memsw.limit_in_bytes": 4 * GIB}
    assert swap_limits(tree(tmp_path, v1("/app", "/app", **numbers)))[0].limit_bytes == 0


@pytest.mark.parametrize("memory", [4 * GIB, UNLIMITED])
def test_version_1s_word_for_unlimited_is_no_limit_on_swap(tmp_path: Path, memory: int) -> None:
    numbers = {"limit_in_bytes": memory, "memsw.limit_in_bytes": UNLIMITED}
    assert swap_limits(tree(tmp_path, v1("/app", "/app", **numbers))) == []


HYBRID = {
    "proc/self/cgroup": "5:cpuset:/job\n4:memory:/job\n2:cpu:/job\n0::/system.slice/job\n",
    "proc/self/mountinfo": (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    ),
    "sys/fs/cgroup/unified/system.slice/job/memory.max": f"{GIB}\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2 * GIB}\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
}


def test_in_a_hybrid_hierarchy_each_controller_is_looked_up_where_it_is(tmp_path: Path) -> None:
    root = tree(tmp_path, HYBRID)
    assert [limit.limit_bytes for limit in memory_limits(root)] == [2 * GIB]
    assert [quota.cores for quota in cpu_quotas(root)] == [0.5]
    assert cpuset(root) is None


def test_in_a_hybrid_hierarchy_version_2_may_have_the_memory(tmp_path: Path) -> None:
    without = HYBRID["proc/self/cgroup"].replace("4:memory:/job\n", "")
    root = tree(tmp_path, {**HYBRID, "proc/self/cgroup": without})
    assert [limit.limit_bytes for limit in memory_limits(root)] == [GIB]


V2_MOUNT = "29 23 0:26 {inside} /sys/fs/cgroup ro - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("own", "inside"),
    [
        ("/", "/"),  # a namespace of its own, as Docker gives with version 2
        ("/kubepods/pod1/c1", "/kubepods/pod1/c1"),  # the host's namespace, its own group mounted
        ("/../c1", "/.."),  # a process that was moved in from outside
        ("/kubepods/pod1/c1", "/"),  # the host's path, but a mount that lacks it
    ],
)
def test_in_a_container_of_version_2_the_mount_is_the_group(
    tmp_path: Path, own: str, inside: str
) -> None:
    files = {
        "proc/self/cgroup": f"0::{own}\n",
        "proc/self/mountinfo": V2_MOUNT.format(inside=inside),
        "sys/fs/cgroup/memory.max": f"{GIB}\n",
        "sys/fs/cgroup/memory.current": f"{700 * MIB}\n",
        "sys/fs/cgroup/memory.stat": f"inactive_file {200 * MIB}\nslab_reclaimable {MIB}\n",
        "sys/fs/cgroup/memory.swap.max": "0\n",
        "sys/fs/cgroup/cpu.max": "250000 100000\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 1500000\nnr_periods 9\n",
    }
    root = tree(tmp_path, files)
    (memory,) = memory_limits(root)
    assert (memory.limit_bytes, memory.used_bytes) == (GIB, 499 * MIB)
    assert [limit.limit_bytes for limit in swap_limits(root)] == [0]
    (quota,) = cpu_quotas(root)
    assert (quota.cores, quota.used_seconds) == (2.5, 1.5)


# ---------------------------------------------------------------- anything

TEXTS = st.one_of(
    st.text(max_size=40),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(
        [
            "max",
            "max 100000",
            "100000 0",
            "-1",
            "0-",
            "1,,2",
            "0-999999",
            "9" * 400,
            f"active_file {'9' * 5000}",
        ]
    ),
    st.lists(st.integers(0, 10**6), max_size=4).map(lambda numbers: " ".join(map(str, numbers))),
)
GROUP = "sys/fs/cgroup/app"
NAMES = [
    f"{GROUP}/{name}"
    for name in [
        "memory.max",
        "memory.high",
        "memory.current",
        "memory.stat",
        "memory.swap.max",
        "memory.swap.current",
        "cpu.max",
        "cpu.stat",
        "cpuset.cpus.effective",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "cpuacct.usage",
    ]
]
PLACES = {
    "proc/self/cgroup": st.one_of(
        st.sampled_from(["0::/app\n", "3:memory,cpu,cpuacct,cpuset:/app\n0::/\n"]), TEXTS
    ),
    "proc/self/mountinfo": st.one_of(
        st.sampled_from(
            [
                "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
                "29 23 0:26 / /sys/fs/cgroup rw - cgroup c rw,memory,cpu,cpuacct,cpuset\n",
            ]
        ),
        TEXTS,
    ),
}


@settings(deadline=None)
@given(st.fixed_dictionaries({**PLACES, **dict.fromkeys(NAMES, TEXTS)}))
def test_whatever_the_files_hold_limits_make_sense(files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text.encode(errors="surrogatepass"))
        for limit in (*memory_limits(root), *swap_limits(root)):
            assert limit.limit_bytes >= 0
            assert 0 <= limit.available_bytes <= limit.limit_bytes
            assert limit.source
        for quota in cpu_quotas(root):
            assert quota.cores > 0
            assert quota.used_seconds is None or quota.used_seconds >= 0
        assert cpuset(root) != frozenset()


@settings(deadline=None)
@given(st.sets(st.integers(0, 4095), min_size=1, max_size=40))
def test_a_set_of_processors_is_read_as_the_kernel_writes_it(numbers: set[int]) -> None:
    parts: list[str] = []
    for first in sorted(numbers):
        if first - 1 in numbers:
            continue
        last = first
        while last + 1 in numbers:
            last += 1
        parts.append(f"{first}" if first == last else f"{first}-{last}")
    assert processor_numbers(",".join(parts)) == numbers


@settings(deadline=None)
@given(TEXTS)
def test_other_sets_of_processors_are_none(text: str) -> None:
    found = processor_numbers(text)
    assert found is None or all(number >= 0 for number in found)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["MemTotal", "MemAvailable", "SwapTotal", "X"]), TEXTS))
def test_whatever_meminfo_holds(lines: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(f"{key}:  {value} kB\n" for key, value in lines.items())
        (Path(folder) / "proc").mkdir()
        (Path(folder) / "proc/meminfo").write_bytes(text.encode(errors="surrogatepass"))
        memory = linux_memory(Path(folder))
    if memory is not None:
        assert min(memory.total, memory.available, memory.swap_total, memory.swap_free) >= 0


@settings(deadline=None)
@given(*[st.integers(0, 2**40)] * 4)
def test_meminfo_counts_in_kib(total: int, available: int, swap: int, free: int) -> None:
    lines = {"MemTotal": total, "MemAvailable": available, "SwapTotal": swap, "SwapFree": free}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "proc").mkdir()
        text = "".join(f"{key}: {value:>14} kB\n" for key, value in lines.items())
        (Path(folder) / "proc/meminfo").write_text(text)
        memory = linux_memory(Path(folder))
    assert memory is not None
    found = (memory.total, memory.available, memory.swap_total, memory.swap_free)
    assert found == tuple(1024 * number for number in lines.values())
