"""What is saved with an answer, and what never is."""

from __future__ import annotations

import json
from pathlib import Path

from nbllm.core.paths import file_fingerprint
from nbllm.core.types import FinishReason, GenerationOptions, GenerationResult, Timings, Usage
from nbllm.notebook.asking.question import recipe_of
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
