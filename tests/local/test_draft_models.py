"""A model with a draft model: itself, which guesses right, and others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Load
from tiny_models import TINY

from nbllm import ModelManager
from nbllm.core.errors import InvalidOptionError, ModelFileError, ModelLoadError
from nbllm.core.types import LoadOptions
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.local.measuring.dry_runs import exact_placement


@pytest.fixture(scope="module")
def drafted(load: Load, short_gguf: Path) -> LlamaCppModel:
    return load(short_gguf, context_length=2048, batch_invariant=True, draft_model=short_gguf)


ASKED: list[dict[str, Any]] = [
    {"prompt": "Write two sentences about the sea.", "temperature": 0},
    {"prompt": "Name five animals.", "temperature": 0.9, "seed": 3, "top_p": 0.95},
    {"prompt": "Is water wet?", "response_schema": {"enum": ["yes", "no"]}, "temperature": 0},
]


async def test_answers_are_those_without_a_draft_model_alone_and_beside_others(
    load: Load, drafted: LlamaCppModel, short_gguf: Path
) -> None:
    plain = load(short_gguf, context_length=2048, batch_invariant=True)
    wanted = [await plain.generate(**asked, max_tokens=20) for asked in ASKED]
    stream = drafted.stream("Tell me a long story.", max_tokens=500)
    async for _ in stream:
        break
    await stream.aclose()
    asking = (drafted.generate(**asked, max_tokens=20) for asked in ASKED)
    for found, other in zip(await asyncio.gather(*asking), wanted, strict=True):
        assert (found.text, found.finish_reason) == (other.text, other.finish_reason)
        assert 0 <= found.usage.accepted_draft_tokens < found.usage.completion_tokens


def test_its_memory_is_planned_and_told(short_model: LlamaCppModel, drafted: LlamaCppModel) -> None:
    assert short_model.info.placement is not None
    assert drafted.info.placement is not None
    planned = drafted.info.placement.memory["CPU"]
    assert planned.weights == 2 * short_model.info.placement.memory["CPU"].weights
    assert drafted.buffer_bytes == pytest.approx(planned.buffers, rel=0.1)
    assert drafted.info.memory_bytes == planned.total
    exact = exact_placement(drafted.info, drafted.info.placement)
    assert exact is not None
    assert planned.kv == exact.memory["CPU"].kv
    assert planned.compute == pytest.approx(exact.memory["CPU"].compute, rel=0.1)


def test_a_draft_model_with_other_tokens_is_refused(
    load: Load, tiny_models: dict[str, Path]
) -> None:
    other = tiny_models[next(iter(TINY))]
    with pytest.raises(ModelLoadError, match=r"vocabulary has .* use a small model of the same"):
        load(draft_model=other)


def test_a_draft_model_that_is_not_there_is_named(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.gguf"):
        load(draft_model=tmp_path / "gone.gguf")


async def test_the_manager_knows_draft_models_by_name(bundled_gguf: Path) -> None:
    async with ModelManager() as manager:
        name = manager.bundled_model().name
        _, info = await manager.load_model(name, draft_model=name, context_length=512)
        assert info.load.draft_model == str(bundled_gguf)
        with pytest.raises(InvalidOptionError, match="gpt-4o is not a local model"):
            await manager.load_model(name, alias="other", draft_model="gpt-4o")


def test_a_config_names_it_by_its_path(tmp_path: Path) -> None:
    entry = {"name": "m", "path": "m.gguf", "load": {"draft_model": "sub/small.gguf"}}
    file = tmp_path / "model_config.json"
    file.write_text(json.dumps([entry]), "utf-8")
    manager = ModelManager.from_config(file)
    info = manager.find_model("m")
    assert info.load.draft_model == str(tmp_path / "sub/small.gguf")
    manager.save_config(file)
    assert json.loads(file.read_text("utf-8"))[0]["load"] == {"draft_model": "sub/small.gguf"}


@pytest.mark.parametrize("value", ["", 5, True])
def test_what_names_no_model_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOptionError, match="must be a path or a model's name"):
        LoadOptions(draft_model=value)
