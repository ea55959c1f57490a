"""LoRA adapters with random weights, on a tiny model whose weights are random too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tiny_models import LAYERS, WIDTH

from nbllm.core.errors import InvalidOptionError, ModelFileError, ModelLoadError
from nbllm.core.model_config import load_config, save_config
from nbllm.core.types import LoadOptions
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.local.worker_requests import scales_of

Load = Callable[..., LlamaCppModel]

RANK = 4
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


def write_lora(path: Path, width: int = WIDTH) -> Path:
    random = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for layer in range(LAYERS):
        name = f"blk.{layer}.attn_output.weight"
        down, up = random.normal(0, 0.2, (2, RANK, width)).astype(np.float32)
        writer.add_tensor(f"{name}.lora_a", down)
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(up.T))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def load_tiny(load: Load, tiny_models: dict[str, Path]) -> Load:
    return partial(load, tiny_models["llama-q8_0"])


async def test_an_adapter_changes_answers_and_vectors_by_its_scale(
    load_tiny: Load, tmp_path: Path
) -> None:
    path = write_lora(tmp_path / "lora.gguf")
    plain = await load_tiny().generate("Tell me a story.", **GREEDY)
    off = load_tiny(adapters={path: 0.0})
    assert (await off.generate("Tell me a story.", **GREEDY)).text == plain.text
    full = load_tiny(adapters=str(path))
    assert (await full.generate("Tell me a story.", **GREEDY)).text != plain.text
    far = (await full.embed("A cat.")).vectors - (await off.embed("A cat.")).vectors
    assert abs(far).max() > 0.01


async def test_each_request_may_have_scales_of_its_own(load_tiny: Load, tmp_path: Path) -> None:
    """Requests with other scales take turns, and none reads what another has computed."""
    poet = write_lora(tmp_path / "poet.gguf")
    model = load_tiny(adapters={poet: 1.0})
    wishes: list[Any] = [None, {"poet.gguf": 0.0}, {str(poet): 0.5}]
    asked = [{"prompt": "Tell me a story.", "adapters": wish, **GREEDY} for wish in wishes]
    alone = [await model.generate(**each) for each in asked]
    together = await asyncio.gather(*(model.generate(**each) for each in asked))
    texts = [result.text for result in alone]
    assert len(set(texts)) == 3
    assert [result.text for result in together] == texts
    assert all(result.usage.cached_tokens == 0 for result in alone)
    assert all(result.usage.cached_tokens > 0 for result in together)
    same = await model.generate(**asked[0] | {"adapters": {"poet": 1.0}})
    assert same.text == texts[0]
    assert (await load_tiny().generate("Tell me a story.", **GREEDY)).text == texts[1]


@pytest.mark.parametrize(
    ("loaded", "wanted", "problem"),
    [
        ([], "poet", "loaded without poet; load it with its adapters"),
        (["a/poet.gguf"], "critic", "without critic, only with a/poet.gguf"),
        (["a/poet.gguf", "b/poet.gguf"], "poet", "several adapters; give the path"),
    ],
)
def test_scales_for_adapters_that_are_not_there_are_refused(
    loaded: list[str], wanted: str, problem: str
) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        scales_of([(path, 1.0) for path in loaded], [(wanted, 1.0)])


def test_an_adapter_is_named_by_its_path_or_its_file() -> None:
    loaded = [("a/poet.gguf", 1.0), ("b/poet.gguf", 1.0), ("c/critic.v2.gguf", 1.0)]
    assert scales_of(loaded, [("b/poet.gguf", 0.5)]) == [0, 0.5, 0]
    assert scales_of(loaded, [("critic.v2", 2.0), ("a/poet.gguf", 1.0)]) == [1, 0, 2]
    assert scales_of(loaded, []) == [0, 0, 0]


def test_an_adapter_for_another_model_is_refused(load_tiny: Load, tmp_path: Path) -> None:
    other = write_lora(tmp_path / "other.gguf", width=64)
    with pytest.raises(ModelLoadError, match=r"other\.gguf cannot be used.* another model"):
        load_tiny(adapters=[other])


def test_an_adapter_that_is_not_there_is_named(load_tiny: Load, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.gguf: the adapter's file does not exist"):
        load_tiny(adapters=[tmp_path / "gone.gguf"])


def test_adapters_are_paths_with_scales_however_they_are_given(tmp_path: Path) -> None:
    assert LoadOptions(adapters="a.gguf").adapters == (("a.gguf", 1.0),)  # type: ignore[arg-type]
    assert LoadOptions(adapters={"a.gguf": 0.5}).adapters == (("a.gguf", 0.5),)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="pairs of a path and a scale"):
        LoadOptions(adapters=[("a.gguf", 1, 2)])  # type: ignore[list-item]
    with pytest.raises(InvalidOptionError, match="paths"):
        LoadOptions(adapters=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="a scale must be a number"):
        LoadOptions(adapters={"a.gguf": "much"})  # type: ignore[arg-type]
    entry = {"name": "m", "path": "m.gguf", "load": {"adapters": {"sub/a.gguf": 0.5}}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(entry), "utf-8")
    (info,) = load_config(file)
    assert info.load.adapters == ((str(tmp_path / "sub/a.gguf"), 0.5),)
    save_config(file, [info])
    assert json.loads(file.read_text("utf-8"))[0]["load"] == {"adapters": {"sub/a.gguf": 0.5}}
