"""Files that are not models to load as they are: told by their content, with what they are for."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import pytest
from bare_gguf import bare_gguf
from tiny_models import small_llama, write

from nbllm.core.errors import ModelFileError
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.plans import plan_model

ADAPTER = bare_gguf(tensor="blk.0.attn_q.weight.lora_a", general__type="adapter")


def failure(path: Path, **load: object) -> str:
    info = ModelInfo(name="m", model_type="gguf", local=True, path=path, load=LoadOptions(**load))
    with pytest.raises(ModelFileError) as caught:
        plan_model(info, ResourceDetector().detect())
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ADAPTER, "is a LoRA adapter, not a model. Load the model that it was made for"),
        (bare_gguf(tensor="v.a", architecture="clip"), "is an image projector (mmproj)"),
        (bare_gguf(tensor="", general__type="vocab"), "a vocabulary without weights"),
        (bare_gguf(tensor=""), "a vocabulary without weights"),
        (bare_gguf(tensor="x", architecture="flux"), "is not a language model"),
        (bare_gguf(tensor="x", general__type="imatrix"), "is an importance matrix"),
        (bare_gguf(tensor="x", architecture="controlvector"), "is a control vector"),
        (bare_gguf(general__type="dataset"), "is of type 'dataset', not a model"),
    ],
)
def test_what_is_not_a_model_says_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    assert words in failure(path)


def test_a_file_for_machines_of_the_other_byte_order_is_told(tmp_path: Path) -> None:
    other = gguf.GGUFEndian.BIG if sys.byteorder == "little" else gguf.GGUFEndian.LITTLE
    path = write(tmp_path / "x.gguf", small_llama, endianess=other)
    assert f"this one is {sys.byteorder}-endian" in failure(path)


def test_drafts_and_adapters_are_checked_too(tmp_path: Path) -> None:
    model, adapter = tmp_path / "model.gguf", tmp_path / "adapter.gguf"
    model.write_bytes(bare_gguf())
    adapter.write_bytes(ADAPTER)
    assert "adapter.gguf is a LoRA adapter" in failure(model, draft_model=str(adapter))
    assert "is not a LoRA adapter" in failure(model, adapters=str(model))
    assert "it is a folder" in failure(model, adapters=str(tmp_path))
