"""Filling in the middle, split files and small KV caches, on models that really run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import copy_model, write_tiny

from nbllm.core.errors import UnsupportedError
from nbllm.local.llama_cpp_model import LlamaCppModel

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}


MARKS = {f"tokenizer.ggml.fim_{n}_token_id": 3 + i for i, n in enumerate(("pre", "suf", "mid"))}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny("mistral", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def filler(load: Any, tiny: Path) -> Any:
    return load(copy_model(tiny, tiny.with_name("fill.gguf"), MARKS))


@pytest.fixture(scope="module")
def parts(tiny: Path) -> list[Path]:
    copy_model(tiny, tiny.with_name("parts.gguf"), {}, split_max_tensors=10)
    return sorted(tiny.parent.glob("parts-*.gguf"))


async def test_a_gap_is_filled_by_the_vocabularys_own_marks(filler: LlamaCppModel) -> None:
    assert filler.can_fill
    result = await filler.fill("def add(a, b):\n    return ", "\n\nprint(add(1, 2))", **GREEDY)
    assert result.usage.completion_tokens > 0
    plain = await filler.tokenize("def add(a, b):\n    return ")
    rest = await filler.tokenize("\n\nprint(add(1, 2))")
    assert result.usage.prompt_tokens == len(plain) + len(rest) + 4
    other = await filler.fill("def add(a, b):\n    return ", "", **GREEDY)
    assert other.usage.prompt_tokens == len(plain) + 4


async def test_a_model_without_marks_says_so(model: LlamaCppModel) -> None:
    assert not model.can_fill
    with pytest.raises(UnsupportedError, match="fill-in-the-middle"):
        await model.fill("a", "b")


async def test_a_model_split_over_files_writes_what_the_whole_one_does(
    load: Any, tiny: Path, parts: list[Path]
) -> None:
    assert len(parts) > 2
    split, whole = load(parts[0]), load(tiny)
    assert split.info.size_bytes is not None
    assert split.info.size_bytes > whole.info.size_bytes
    told = await whole.generate("Tell me a story.", **GREEDY)
    assert (await split.generate("Tell me a story.", **GREEDY)).text == told.text


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
async def test_small_kv_caches_write_sense(load: Any, model: LlamaCppModel, kv_type: str) -> None:
    small = load(kv_type=kv_type)
    question = "What is 1+1?"
    answer = await small.generate(question, **GREEDY)
    assert answer.text
    if kv_type == "q8_0":
        whole = await model.generate(question, **GREEDY)
        assert answer.text[:6] == whole.text[:6]
