from __future__ import annotations

from pathlib import Path

import pytest

from nbllm.core.hardware.host import buffer_bytes, last_cache_bytes, measured_bandwidth
from nbllm.core.resource_detector import ResourceDetector

MIB = 2**20


def test_the_bandwidth_is_measured_once() -> None:
    detector = ResourceDetector()
    first = detector.memory_bandwidth()
    assert first is not None
    assert 10**8 < first < 10**13, "bytes per second"
    hits = measured_bandwidth.cache_info().hits
    assert ResourceDetector().memory_bandwidth() == first
    assert measured_bandwidth.cache_info().hits == hits + 1


def test_more_threads_than_cores_and_little_memory_are_no_trouble() -> None:
    assert measured_bandwidth.__wrapped__(7, 1) > 0


@pytest.mark.parametrize(
    ("available", "cache", "size"),
    [
        (2**40, 0, 64 * MIB),
        (2**40, 30 * MIB, 64 * MIB),
        (2**40, 33 * MIB, 128 * MIB),
        (2**40, 480 * MIB, 256 * MIB),
        (1024 * MIB, 480 * MIB, 128 * MIB),
        (1030 * MIB, 480 * MIB, 128 * MIB),
        (0, 0, 4 * MIB),
    ],
)
def test_the_memory_read_exceeds_the_cache_but_not_the_means(
    available: int, cache: int, size: int
) -> None:
    assert buffer_bytes(available, cache) == size


def test_the_last_cache(tmp_path: Path) -> None:
    assert last_cache_bytes(tmp_path) == 0
    for number, size in enumerate(["48K", "2048K", "30M", "?", ""]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{number}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == 30 * MIB
