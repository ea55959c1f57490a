"""Which files a prompt reads, and what is said of the others."""

from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image

from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.prompt_variables import read_file


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, format="PNG")
    return file.getvalue()


def test_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.txt").write_bytes("\ufeffGr\u00fc\u00dfe {x}".encode())
    (tmp_path / "p.PNG").write_bytes(png())
    assert read_file(str(tmp_path / "a b.txt")) == "Gr\u00fc\u00dfe {x}"
    assert read_file(str(tmp_path / "p.PNG")) == ImagePart("image/png", png())


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("none.txt", None, "No such file or directory; --raw sends the braces as they are"),
        ("a.pdf", b"%PDF-1.7 ...", "a PDF is not read; put its text into a variable"),
        ("a.bin", b"\xff\xfe\x00", "not text in UTF-8: byte 0"),
        ("big.txt", b"x" * (2**20 + 1), "the file has 1.0 MiB, and a prompt takes 1 MiB at most"),
        ("fake.png", b"text", "neither PNG, JPEG, GIF nor WebP"),
        ("", None, "Is a directory"),
        ("id_rsa", b"-----BEGIN RSA PRIVATE KEY-----", "holds a key, which is not sent"),
        ("config.txt", b"OPENAI_API_KEY=sk-abcdefghijkl", "holds a key, which is not sent"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(
    tmp_path: Path, name: str, data: bytes | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidOptionError, match=problem):
        read_file(str(tmp_path / name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's folder ``here``, with files inside, outside and hidden."""
    here = tmp_path / "here"
    for name in ("here/sub/.git/config", "here/.env", "here/sub/notes.txt", "here/prod.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "outside.txt").write_text("outside")
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize("path", ["sub/notes.txt", "./sub/../sub/notes.txt", "sub//notes.txt"])
def test_files_of_the_notebooks_folder_are_read(folder: Path, path: str) -> None:
    assert read_file(path) == read_file(str(folder / path)) == "here/sub/notes.txt"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("../outside.txt", "is outside the notebook's folder"),
        ("sub/../../outside.txt", "is outside the notebook's folder"),
        ("/etc/passwd", "is outside the notebook's folder"),
        ("~/.netrc", "is outside the notebook's folder"),
        ("~/.aws/credentials", "is outside the notebook's folder"),
        (".env", "is hidden"),
        ("prod.env", "is hidden"),
        ("sub/.git/config", "is hidden"),
        ("sub/.git/../notes.txt/../.git/config", "is hidden"),
    ],
)
def test_other_files_need_the_readers_word(folder: Path, path: str, problem: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        read_file(path)
    file = os.path.realpath(Path(path).expanduser())
    assert problem in str(caught.value)
    assert f"%%llm --allow-file {file} for one prompt" in str(caught.value)
    assert f"%llm_config prompt_files={file} for" in str(caught.value)


def test_the_readers_word_opens_what_it_names_and_nothing_more(folder: Path) -> None:
    assert read_file("../outside.txt", [str(folder.parent / "outside.txt")]) == "outside"
    assert read_file("../outside.txt", [".."]) == "outside"
    assert read_file(".env", [".env"]) == "here/.env"
    assert read_file("sub/.git/config", ["sub/.git"]) == "here/sub/.git/config"
    for named in ("sub", "..", ".env2", "sub/notes.txt"):
        with pytest.raises(InvalidOptionError, match="hidden"):
            read_file("sub/.git/config", [named])


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_judged_by_where_they_lead(folder: Path) -> None:
    Path("out.txt").symlink_to("../outside.txt")
    Path("up").symlink_to("..")
    Path("hidden.txt").symlink_to(".env")
    Path("in.txt").symlink_to("sub/notes.txt")
    for path in ("out.txt", "up/outside.txt", "hidden.txt"):
        with pytest.raises(InvalidOptionError, match="needs your permission"):
            read_file(path)
    assert read_file("in.txt") == "here/sub/notes.txt"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_only_regular_files_are_read_and_none_is_waited_for(folder: Path) -> None:
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in ("pipe", "socket", "/dev/zero", "/dev/stdin", "/proc/self/environ"):
            with pytest.raises(InvalidOptionError, match="only regular files are read"):
                read_file(path, ["/", "/dev", "/proc"] if path.startswith("/") else [])


def test_a_notebook_at_the_root_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(Path.cwd().anchor))
    with pytest.raises(InvalidOptionError, match="outside the notebook's folder"):
        read_file("etc/hosts")


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/x", "x" * 5_000])
def test_names_that_cannot_be_are_told(folder: Path, path: str) -> None:
    with pytest.raises(InvalidOptionError):
        read_file(path)
