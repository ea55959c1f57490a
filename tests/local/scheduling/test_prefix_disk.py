from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbllm.local.scheduling.prefix_disk import PrefixDisk

NONE: tuple[float, ...] = ()
LONG = list(range(1000))


class Disk:
    """A cache, and what it told."""

    def __init__(
        self, folder: Path, limit: int = 2**20, key: str = "model", *, whole: bool = False
    ) -> None:
        self.told: list[str] = []
        self.cache = PrefixDisk(folder / "one", limit, key, 5000, self.told.append, whole=whole)

    def put(self, tokens: list[int], state: bytes, scales: tuple[float, ...] = NONE) -> None:
        self.cache.put(scales, tokens, bytearray(state))
        self.cache.finish()

    def find(
        self, tokens: list[int], scales: tuple[float, ...] = NONE
    ) -> tuple[list[int], bytearray] | None:
        return self.cache.find(scales, tokens, 10)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_what_shares_most_is_found_by_another_worker(disk: Disk, tmp_path: Path) -> None:
    disk.put([*LONG[:200], 7], b"short")
    disk.put([*LONG[:500], 7], b"long")
    other = Disk(tmp_path)
    assert other.find(LONG) == ([*LONG[:500], 7], bytearray(b"long"))
    assert other.find([5] * 100) is None
    assert other.cache.gain(NONE, LONG) == 500
    assert not other.told


def test_what_comes_from_another_worker_meanwhile_is_found(disk: Disk, tmp_path: Path) -> None:
    other = Disk(tmp_path)
    assert other.find(LONG) is None
    disk.put(LONG, b"state")
    assert other.find(LONG) == (LONG, bytearray(b"state"))
    for path in tmp_path.glob("one/*"):
        path.unlink()
    assert other.find(LONG) is None
    assert not other.told


def test_adapters_and_other_keys_are_apart(disk: Disk, tmp_path: Path) -> None:
    disk.put(LONG, b"plain")
    disk.put(LONG, b"adapted", (0.5,))
    Disk(tmp_path, key="another build").put(LONG, b"foreign")
    assert disk.find(LONG) == (LONG, bytearray(b"plain"))
    assert disk.find(LONG, (0.5,)) == (LONG, bytearray(b"adapted"))
    assert disk.find(LONG, (1.0,)) is None
    assert len(list(tmp_path.glob("one/*"))) == 3


def test_a_longer_state_replaces_its_beginning(disk: Disk, tmp_path: Path) -> None:
    disk.put(LONG[:300], b"begin")
    disk.put(LONG, b"whole")
    assert len(list(tmp_path.glob("one/*"))) == 1
    assert disk.find(LONG[:200]) == (LONG, bytearray(b"whole"))


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    disk = Disk(tmp_path, limit=25_000)
    prompts = [[number] * 100 for number in range(3)]
    for age, tokens in enumerate(prompts[:2]):
        disk.put(tokens, bytes(10_000))
        for path in tmp_path.glob("one/*"):
            os.utime(path, (100 + age, 100 + age))
    assert disk.find(prompts[0])  # used now
    disk.put(prompts[2], bytes(10_000))
    assert disk.find(prompts[1]) is None
    assert disk.find(prompts[0])
    assert disk.find(prompts[2])
    assert sum(path.stat().st_size for path in tmp_path.glob("one/*")) <= 25_000
    assert not disk.cache.fits(25_001, waits=True)


def test_what_no_model_used_for_long_is_removed(tmp_path: Path) -> None:
    Disk(tmp_path).put(LONG, b"state")
    (path,) = tmp_path.glob("one/*")
    gone = tmp_path / "gone" / path.name
    gone.parent.mkdir()
    path.rename(gone)
    os.utime(gone, (100, 100))
    Disk(tmp_path).put(LONG, b"state")
    assert not gone.exists()


def test_a_state_that_llama_cpp_refused_is_dropped(disk: Disk) -> None:
    disk.put(LONG, b"state")
    assert disk.find(LONG)
    disk.cache.refuse(LONG)
    assert disk.find(LONG) is None
    assert len(disk.told) == 1


def test_where_no_part_of_a_state_serves_all_of_it_has_to(tmp_path: Path) -> None:
    disk = Disk(tmp_path, whole=True)
    disk.put(LONG[:300], b"begin")
    disk.put(LONG[:600], b"more")
    assert disk.find(LONG) == (LONG[:600], bytearray(b"more"))
    assert disk.find(LONG[:400]) == (LONG[:300], bytearray(b"begin"))
    assert disk.find(LONG[:200]) is None
    assert disk.cache.gain(NONE, LONG[:200]) == 200
    assert disk.cache.gain(NONE, LONG[:600]) == 0
