"""Listings of whatever lies in a folder: nothing breaks them, and each header is read once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from bare_gguf import bare_gguf as gguf

from nbllm import ModelManager
from nbllm.core.catalogue import folder_search, headers, listing
from nbllm.core.catalogue.folder_search import FolderSearch
from nbllm.core.errors import ModelFileError, ModelNotFoundError, NbllmError

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")


def names(folder: Path) -> list[str]:
    return [info.name for info in listing.found_models(folder).models]


def notes(folder: Path) -> str:
    return "\n".join(listing.found_models(folder).notes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.gguf").write_bytes(gguf())
    return tmp_path


# ---------------------------------------------------------------- what breaks no listing


def forbid(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
    """Have the system refuse to look into a folder, which it does not to root."""
    real = os.scandir

    def scandir(path: Path):
        if Path(path) == forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_read_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0)
    (folder / "open").mkdir()
    (folder / "open" / "too.gguf").write_bytes(gguf())
    forbid(monkeypatch, folder / "locked")
    assert names(folder) == ["good", "too"]
    assert "cannot be read were skipped" in notes(folder)
    assert "locked (Permission denied)" in notes(folder)
    assert [info.name for info in ModelManager(folder=folder).list_available_models()][-1] == "too"


@POSIX
def test_what_is_no_file_is_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "pipe.gguf")
    (folder / "endless.gguf").symlink_to("/dev/zero")
    (folder / "loop.gguf").symlink_to(folder / "loop.gguf")
    (folder / "around").symlink_to(folder)
    (folder / "nowhere.gguf").symlink_to(folder / "absent.gguf")
    (folder / "folder.gguf").mkdir()
    (folder / "link.gguf").symlink_to(folder / "good.gguf")
    assert names(folder) == ["good", "link"]
    assert notes(folder) == ""


def test_broken_files_are_told_and_passed_over(folder: Path) -> None:
    (folder / "broken.gguf").write_bytes(b"GGUF and no more")
    (folder / "empty.gguf").touch()
    (folder / "._good.gguf").write_bytes(b"\0\5\x16\7")  # what macOS leaves beside files
    assert names(folder) == ["good"]
    assert "2 files were not listed because of errors, such as " in notes(folder)


def test_what_vanishes_meanwhile_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "gone.gguf").write_bytes(gguf())
    found = FolderSearch(folder).files
    (folder / "gone.gguf").unlink()
    monkeypatch.setattr(listing, "FolderSearch", lambda start: FakeSearch(found))
    assert names(folder) == ["good"]


class FakeSearch:
    notes = ()

    def __init__(self, files: list[Path]) -> None:
        self.files = files


def test_a_folder_that_is_not_there_has_no_models(tmp_path: Path) -> None:
    assert names(tmp_path / "absent") == []
    assert "absent (No such file" in notes(tmp_path / "absent")


@POSIX
def test_names_that_are_no_text_are_made_readable(folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"caf\xe9\n.gguf")).write_bytes(gguf())
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (folder / os.fsdecode(b"broken\xe9.gguf")).write_bytes(b"no model")
    assert names(folder) == ["caf\ufffd\ufffd", "good"]
    assert "broken\N{REPLACEMENT CHARACTER}.gguf" in notes(folder)
    notes(folder).encode()


def test_a_package_that_is_half_removed_does_not_hide_the_bundled_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundled_gguf: Path
) -> None:
    for number, record in enumerate((b"\xff\xfe.gguf", b'"\0.gguf,,\n', b"x.gguf")):
        package = tmp_path / f"broken{number}-1.0.dist-info"
        package.mkdir()
        (package / "METADATA").write_text(f"Name: broken{number}\nVersion: 1.0\n")
        (package / "RECORD").write_bytes(record)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert [info.path for info in listing.bundled_models()] == [bundled_gguf]


# ---------------------------------------------------------------- what is a model


@pytest.mark.parametrize(
    "content",
    [
        gguf(tensor=""),
        gguf(tensor="blk.0.attn_q.weight.lora_a", general__type="adapter"),
        gguf(tensor="blk.0.attn_q.weight.lora_a", adapter__type="lora"),
        gguf(tensor="v.patch_embd.weight", architecture="clip"),
        gguf(tensor="v.patch_embd.weight", architecture="clip", general__type="mmproj"),
        gguf(tensor="direction.1", architecture="controlvector"),
        gguf(tensor="blk.0.in_sum2", general__type="imatrix"),
        gguf(tensor="double_blocks.0.img_attn.qkv.weight", architecture="flux"),
        gguf(tensor="", general__type="vocab"),
    ],
)
def test_what_is_no_language_model_is_not_listed(folder: Path, content: bytes) -> None:
    (folder / "other.gguf").write_bytes(content)
    assert names(folder) == ["good"]
    assert notes(folder) == ""


def test_upper_case_names_are_found_and_loaded(folder: Path) -> None:
    (folder / "LOUD.GGUF").write_bytes(gguf())
    (folder / "SPLIT-00002-OF-00003.GGUF").write_bytes(gguf())
    assert names(folder) == ["LOUD", "good"]
    assert ModelManager(folder=folder).find_model(str(folder / "LOUD.GGUF")).name == "LOUD"


def test_a_file_without_an_ending_is_taken_by_its_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "sha256-abc").write_bytes(gguf())
    (folder / "goo").write_bytes(b"some text that begins as a model's name does")
    models = ModelManager(folder=folder)
    for name in ("sha256-abc", "./sha256-abc", str(folder / "sha256-abc")):
        assert models.find_model(name).path == folder / "sha256-abc"
    assert models.find_model("goo").path == folder / "good.gguf"
    with pytest.raises(ModelFileError, match="is not a GGUF"):
        models.find_model("./goo")
    with pytest.raises(ModelNotFoundError):
        models.find_model("./absent")


# ---------------------------------------------------------------- bounds


def test_each_header_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3_000):
        (folder / f"m{number}.gguf").write_bytes(gguf())
    (folder / "broken.gguf").write_bytes(b"GGUF")
    read: list[Path] = []
    real = headers.describe_file
    monkeypatch.setattr(headers, "describe_file", lambda path: read.append(path) or real(path))
    assert len(names(folder)) == 3_001
    assert len(read) == 3_002
    assert len(names(folder)) == 3_001
    assert len(read) == 3_002
    (folder / "m7.gguf").write_bytes(gguf(general__name="longer than it was"))
    names(folder)
    assert read[3_002:] == [folder / "m7.gguf"]


def test_what_is_known_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = headers.Headers()
    monkeypatch.setattr(headers, "HEADERS", own)
    monkeypatch.setattr(headers, "_MAX_KNOWN", 10)
    for number in range(25):
        (folder / f"m{number}.gguf").write_bytes(gguf())
    assert len(names(folder)) == 26
    assert len(own._known) == 10


def test_a_part_that_was_missing_is_seen_when_it_comes(folder: Path) -> None:
    part = folder / "big-00001-of-00002.gguf"
    part.write_bytes(b"GGUF")
    assert names(folder) == ["good"]
    assert str(part) not in headers.HEADERS._known


@pytest.mark.parametrize(
    ("bound", "value", "told"),
    [
        ("GGUFS_AT_MOST", 3, "3 model files"),
        ("_MAX_ENTRIES", 5, "5 files and folders"),
        ("_MAX_FOLDERS", 2, "2 folders"),
        ("_MAX_SECONDS", -1.0, "-1 s"),
    ],
)
def test_a_search_that_is_ended_tells(
    folder: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: float, told: str
) -> None:
    for number in range(4):
        (folder / f"f{number}").mkdir()
        (folder / f"f{number}" / f"m{number}.gguf").write_bytes(gguf())
    monkeypatch.setattr(folder_search, bound, value)
    assert len(names(folder)) < 5
    assert f"The search stopped after {told}" in notes(folder)


def test_headers_that_take_long_are_left_to_the_next_listing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_MAX_SECONDS", -1.0)
    assert names(folder) == []
    assert "so 1 file was skipped. List the models again" in notes(folder)


# ---------------------------------------------------------------- paths that lead nowhere

BAD_PATHS = [
    "~nosuchuser/x.gguf",
    "x\0.gguf",
    "\0.gguf",
    "~\0/x.gguf",
    "a/" * 3_000 + "x.gguf",
    "x" * 300 + ".gguf",
    ".gguf",
    "good.gguf/x.gguf",
    "\ud83d.gguf",
    "\n.gguf",
]
BAD_NAMES = ["", "~nosuchuser/x", "x\0", "x" * 10_000, "/", ".", "..", "~", "a\nb", "\ud83d", "//"]


@pytest.mark.parametrize("name", BAD_PATHS)
def test_a_path_that_cannot_be_is_an_error_of_nbllm(folder: Path, name: str) -> None:
    with pytest.raises(ModelFileError):
        ModelManager(folder=folder).find_model(name)


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_cannot_be_is_an_error_of_nbllm(folder: Path, name: str) -> None:
    models = ModelManager(folder=folder)
    with pytest.raises(NbllmError):
        await models.load_model(name)
    with pytest.raises(NbllmError):
        await models.load_model("good", draft_model=name)


@POSIX
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "loop", "dangling", "text"])
def test_what_is_not_a_gguf_says_what_it_is(folder: Path, kind: str) -> None:
    path = folder / "x.gguf"
    make = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path),
        "dangling": lambda: path.symlink_to(folder / "absent"),
        "text": lambda: path.write_text("Hello"),
    }
    make[kind]()
    words = {
        "folder": "it is a folder",
        "pipe": "it is a named pipe",
        "device": "it is a device",
        "loop": "symbolic links",
        "dangling": "No such file",
        "text": "is not a GGUF",
    }
    with pytest.raises(ModelFileError, match=words[kind]):
        ModelManager(folder=folder).find_model(str(path))
