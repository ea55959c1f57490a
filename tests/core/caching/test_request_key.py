"""The identity of a request: whatever changes what is sent changes it, and nothing else does."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.caching.request_key import is_deterministic, is_quick, request_key
from nbllm.core.messages import ImagePart, TextPart
from nbllm.core.options import GenerationOptions, Tool
from nbllm.core.types import GenerationRequest, Message, ModelInfo

INFO = ModelInfo(name="m", model_type="openai", local=False, base_url="https://a.test/v1")
ASKED = GenerationRequest((Message("user", "Hi"),), GenerationOptions(), model=INFO)


def key_of(info: ModelInfo, request: GenerationRequest, sample: int = 0) -> str:
    return request_key(replace(request, model=info), sample)


VALUES: dict[str, Any] = {
    "max_tokens": 5,
    "top_k": 3,
    "seed": 7,
    "stop": ("x",),
    "response_schema": {"type": "object"},
    "reasoning_effort": "low",
    "tools": (Tool("f", "does", {"type": "object"}),),
    "tool_choice": "auto",
    "extra": {"unknown": [1, {"a": True}]},
    "logit_bias": ((5, 1.0),),
    "logprobs": 2,
    "repeat_last_n": 3,
    "dry_allowed_length": 3,
    "dry_sequence_breakers": ("y",),
    "mirostat": 2,
    "grammar": 'root ::= "a"',
    "ignore_eos": True,
    "stop_tokens": (3,),
    "raw": True,
    "stop_repetition": True,
    "adapters": (("a", 0.5),),
    "priority": "background",
    "on_full": "shift",
    "prompt_lookup": True,
    "prompt_caching": True,
}
HOW = {
    "priority",
    "on_full",
    "prompt_lookup",
    "prompt_caching",
    "cache",
    "connect_timeout",
    "first_token_timeout",
    "stall_timeout",
    "max_retry_seconds",
}


@pytest.mark.parametrize("name", [field.name for field in fields(GenerationOptions)])
def test_each_option_counts_that_changes_the_answer(name: str) -> None:
    options = GenerationOptions()
    object.__setattr__(options, name, VALUES.get(name, 0.5))
    same = key_of(INFO, replace(ASKED, options=options)) == key_of(INFO, ASKED)
    assert same == (name in HOW)


def test_every_key_differs() -> None:
    keys = [
        key_of(INFO, ASKED),
        key_of(INFO, ASKED, sample=1),
        key_of(replace(INFO, model="other"), ASKED),
        key_of(replace(INFO, api="responses"), ASKED),
        key_of(replace(INFO, base_url="https://b.test/v1"), ASKED),
        key_of(replace(INFO, model_type="anthropic"), ASKED),
        key_of(INFO, replace(ASKED, messages=(Message("user", "Hi "),))),
        key_of(INFO, replace(ASKED, messages=(Message("system", "Hi"),))),
        key_of(INFO, replace(ASKED, messages=(Message("user", "Hi"), Message("user", "")))),
        key_of(INFO, replace(ASKED, suffix="x")),
        key_of(INFO, replace(ASKED, options=GenerationOptions(extra={"a": 1}))),
        key_of(INFO, replace(ASKED, options=GenerationOptions(extra={"a": "1"}))),
        key_of(INFO, replace(ASKED, options=GenerationOptions(extra={"a": 1.0}))),
        key_of(INFO, replace(ASKED, options=GenerationOptions(extra={"a": True}))),
        key_of(INFO, replace(ASKED, options=GenerationOptions(extra={"a": [None]}))),
    ]
    assert len(set(keys)) == len(keys)


def test_a_user_name_in_an_address_is_no_part() -> None:
    info = replace(INFO, base_url="https://me:secret@a.test/v1")
    assert key_of(info, ASKED) == key_of(INFO, ASKED)


def test_another_file_is_another_model(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF1")
    info = ModelInfo(name="m", model_type="llama", local=True, path=file)
    before = key_of(info, ASKED)
    assert key_of(replace(info, name="alias"), ASKED) == before
    file.write_bytes(b"GGUF12")
    assert key_of(info, ASKED) != before


def test_what_is_meant_to_be_repeatable() -> None:
    assert is_deterministic(GenerationOptions(temperature=0))
    assert is_deterministic(GenerationOptions(seed=3))
    assert not is_deterministic(GenerationOptions(temperature=0.7))
    assert not is_deterministic(GenerationOptions())


def asked_with(*data: bytes) -> GenerationRequest:
    parts = tuple(ImagePart(data=each) for each in data)
    return replace(ASKED, messages=(Message("user", parts),))


def test_an_attachment_is_hashed_once_and_known_by_its_content() -> None:
    picture = bytes(2**20)
    assert not is_quick(asked_with(picture))
    key = request_key(asked_with(picture))
    assert is_quick(asked_with(picture))
    assert request_key(asked_with(picture)) == key == request_key(asked_with(bytes(2**20)))
    assert request_key(asked_with(picture[:-1] + b"x")) != key


def test_only_some_attachments_are_held_on_to() -> None:
    pictures = [bytes([number]) * 2**23 for number in range(5)]
    for picture in pictures:
        request_key(asked_with(picture))
    assert [is_quick(asked_with(picture)) for picture in pictures] == [False, *[True] * 4]
    request_key(asked_with(bytes(2**26)))
    assert not any(is_quick(asked_with(picture)) for picture in pictures)


@pytest.mark.parametrize(
    "content",
    ["x" * 2**20, (TextPart("x" * 2**20),), (ImagePart(url="data:" + "x" * 2**20),)],
)
def test_what_takes_long_to_hash_is_not_quick(content: Any) -> None:
    assert is_quick(ASKED)
    assert not is_quick(replace(ASKED, messages=(Message("user", content),)))
    assert not is_quick(replace(ASKED, model=replace(INFO, path=Path("m.gguf"))))
