"""Which files a prompt reads, and what is said of the others."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.files import read_file


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
