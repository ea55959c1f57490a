"""What tells model files apart without reading all of them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from nbllm.core.paths import file_fingerprint


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_a_fingerprint_tells_files_apart(tmp_path: Path, size: int) -> None:
    files = [tmp_path / "one", tmp_path / "same", tmp_path / "longer", tmp_path / "other end"]
    for file, content in zip(
        files,
        [bytes(size), bytes(size), bytes(size + 1), bytes(max(size - 1, 0)) + b"x"],
        strict=True,
    ):
        file.write_bytes(content)
    prints = [file_fingerprint(file) for file in files]
    assert prints[0] == prints[1]
    assert len(set(prints[1:3])) == 2
    assert prints[0] != prints[3]


def test_a_file_written_anew_has_another_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    before = file_fingerprint(file)
    time.sleep(0.01)
    file.write_bytes(b"two")
    assert file_fingerprint(file) != before


def test_a_file_named_after_its_hash_has_that(tmp_path: Path) -> None:
    """As in Hugging Face's cache, where a snapshot is a link to a blob."""
    digest = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / digest).write_bytes(b"weights")
    (tmp_path / "model.gguf").symlink_to(tmp_path / digest)
    assert file_fingerprint(tmp_path / "model.gguf") == f"sha256:{digest}"
