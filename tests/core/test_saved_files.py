from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbllm.core.saved_files import update, write

COUNT_UP = """
import sys
from pathlib import Path
from nbllm.core.saved_files import update
for _ in range(50):
    update(Path(sys.argv[1]), lambda text: str(int(text or 0) + 1))
"""


def test_processes_that_update_one_file_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "counter"
    command = [sys.executable, "-c", COUNT_UP, str(file)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert file.read_text() == "150"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    write(file, "old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_change_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    write(file, "old")

    def refuse(text: str | None) -> str:
        raise ValueError(text)

    with pytest.raises(ValueError, match="old"):
        update(file, refuse)
    assert file.read_text() == "old"


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write(link, "new")
    assert link.is_symlink()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)


def test_drafts_of_killed_writers_are_removed(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".nbllm-aa.tmp", tmp_path / ".nbllm-bb.tmp"
    for draft in (old, fresh):
        draft.touch()
    os.utime(old, (time.time() - 7_200,) * 2)
    write(tmp_path / "file", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, "file"]
