"""What is saved with an answer, and what never is."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from nbllm.core.types import FinishReason, GenerationOptions, GenerationResult, Timings, Usage
from nbllm.notebook.asking.recipe import file_fingerprint, recipe_of
from nbllm.testing import fake_info

RESULT = GenerationResult(
    text="Hello",
    model="tiny",
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=7, completion_tokens=1),
    timings=Timings(first_token_seconds=0.123456),
    seed=3,
    device="CPU",
)


def test_a_recipe_is_what_it_takes_to_ask_again(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"weights")
    info = fake_info("tiny", path=file, options=GenerationOptions(top_p=0.9, temperature=1))
    recipe = recipe_of(info, GenerationOptions(temperature=0, stop=("END",)), RESULT)
    saved = json.loads(json.dumps(recipe))
    assert saved["options"] == {"temperature": 0, "stop": ["END"], "top_p": 0.9}
    assert saved["file"] == {
        "name": "tiny.gguf",
        "size_bytes": 7,
        "fingerprint": file_fingerprint(file),
    }
    assert (saved["model"], saved["seed"], saved["device"]) == ("tiny", 3, "CPU")
    assert saved["usage"]["prompt_tokens"] == 7
    assert saved["timings"] == {"first_token_seconds": 0.1235}
    assert saved["finish_reason"] == "stop"


def test_no_key_and_no_address_is_saved() -> None:
    info = fake_info(
        "lab", local=False, base_url="https://user:hunter2@lab/v1?key=hunter2", api_key_env="KEY"
    )
    options = GenerationOptions(extra={"api_key": "hunter2"})
    assert "hunter2" not in json.dumps(recipe_of(info, options, RESULT))


def test_a_file_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    recipe = recipe_of(fake_info(path=tmp_path / "gone.gguf"), GenerationOptions(), RESULT)
    assert recipe["file"] == {"name": "gone.gguf"}


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
