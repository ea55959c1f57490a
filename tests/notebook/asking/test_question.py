"""Which flags ask one question and call for which steps, and what is saved with an answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.paths import file_fingerprint
from nbllm.core.types import FinishReason, GenerationOptions, GenerationResult, Timings, Usage
from nbllm.notebook.asking.pipeline import STEPS
from nbllm.notebook.asking.question import AskFlags, recipe_of
from nbllm.notebook.chat.chat_step import ChatStep
from nbllm.notebook.forms.form_step import FormStep
from nbllm.testing import fake_info

ALWAYS = [step for step in STEPS if step not in (ChatStep, FormStep)]


@pytest.mark.parametrize(
    "flags",
    [
        {"models": ("a",)},
        {"diff": True},
        {"frame": "df"},
        {"run": {"into": ""}},
        {"run": {"decide": "labels"}},
    ],
    ids=str,
)
def test_flags_of_several_questions_are_told_from_those_of_one(flags: dict[str, Any]) -> None:
    assert not replace(AskFlags(), **flags).ask_once
    assert AskFlags("smollm2", output="x", form="json", allow_file=("a",), raw=True).ask_once


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        ({"chat": "trip"}, ChatStep),
        ({"overflow": "error"}, ChatStep),  # which says that it is of no use
        ({"form": "text"}, FormStep),
        ({"schema": "Person"}, FormStep),
    ],
    ids=str,
)
def test_a_step_with_flags_takes_part_where_one_is_given(flags: Any, step: type) -> None:
    flags = replace(AskFlags(), **flags)
    assert [kind for kind in STEPS if flags.call_for(kind)] == [
        kind for kind in STEPS if kind in (*ALWAYS, step)
    ]


def test_the_steps_without_flags_take_part_in_every_question() -> None:
    assert [kind for kind in STEPS if AskFlags().call_for(kind)] == ALWAYS


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
