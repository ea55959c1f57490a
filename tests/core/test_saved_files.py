from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbllm.core import saved_files
from nbllm.core.saved_files import update, write

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs signals, limits or devices of POSIX")

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


def test_drafts_are_looked_for_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (tmp_path / f"{number}.txt").touch()
    real, looked = os.scandir, []

    def scandir(folder: Path):
        looked.append(folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    for text in ("one", "two", "three"):
        write(tmp_path / "file", text)
    assert looked == [tmp_path]
    monkeypatch.setattr(os, "scandir", refuse)
    saved_files._remove_abandoned.cache_clear()
    write(tmp_path / "file", "four")
    assert (tmp_path / "file").read_text() == "four"


def refuse(folder: Path) -> None:
    raise PermissionError(13, "Permission denied", str(folder))


@POSIX
def test_nothing_takes_the_place_of_a_device_a_pipe_or_a_folder(tmp_path: Path) -> None:
    null, pipe, folder = (tmp_path / name for name in ("null", "pipe", "folder"))
    null.symlink_to("/dev/null")
    os.mkfifo(pipe)
    folder.mkdir()
    for file, words in ((null, "a device"), (pipe, "a named pipe"), (folder, "a folder")):
        with pytest.raises(OSError, match=words):
            write(file, "text")
        with pytest.raises(OSError, match=r"."):
            update(file, lambda text: "text")
    assert Path("/dev/null").is_char_device()


@POSIX
@pytest.mark.parametrize("name", ["loop", "x" * 300, "absent/file", "file/inside"])
def test_a_path_that_cannot_be_written_is_an_oserror(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"."):
        write(tmp_path / name, "text")
    assert sorted(tmp_path.iterdir()) == before


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from nbllm.core.saved_files import write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write(Path(sys.argv[1]), "x" * 5000)
except OSError as error:
    print(error.strerror)
"""


@POSIX
def test_a_write_that_runs_out_of_space_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the end of the disk: it comes in mid-write."""
    file = tmp_path / "file"
    write(file, "old")
    command = [sys.executable, "-c", FILL_THE_DISK, str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "too large" in told.stdout
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


WRITE_ON = """
import sys
from pathlib import Path
from nbllm.core.saved_files import write
print("ready", flush=True)
while True:
    for letter in "ab":
        write(Path(sys.argv[1]), letter * 2_000_000)
"""


@POSIX
def test_a_killed_writer_leaves_one_of_its_texts(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for pause in (0.05, 0.08, 0.11):
        command = [sys.executable, "-c", WRITE_ON, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
        text = file.read_text() if file.exists() else "a" * 2_000_000
        assert text in ("a" * 2_000_000, "b" * 2_000_000)
    for draft in tmp_path.glob(".nbllm-*"):
        os.utime(draft, (time.time() - 7_200,) * 2)
    write(file, "text")
    assert list(tmp_path.iterdir()) == [file]
