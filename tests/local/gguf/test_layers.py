"""What layers remember, by architecture; the numbers follow llama.cpp's hparams code by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import write

from nbllm.core.fitting.model_shape import ModelShape
from nbllm.local.gguf.shape import read_shape

BASE = {
    "block_count": 6,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}


def shape(tmp_path: Path, architecture: str, **keys: Any) -> ModelShape:
    def fill(writer: Any) -> None:
        for name, value in {**BASE, **keys}.items():
            key = f"{architecture}.{name}"
            add = writer.add_array if isinstance(value, list) else writer.add_uint32
            add(key, value)

    return read_shape(write(tmp_path / "m.gguf", fill, architecture))


def sliding(found: ModelShape) -> str:
    return "".join("s" if layer.sliding else "-" for layer in found.layers)


@pytest.mark.parametrize(
    ("architecture", "keys", "window", "layers"),
    [
        ("llama", {}, 0, "------"),
        ("llama", {"attention.sliding_window": 4096}, 0, "------"),
        ("phi3", {"attention.sliding_window": 2047}, 0, "------"),
        ("gemma2", {}, 4096, "s-s-s-"),
        ("gemma2", {"attention.sliding_window": 512}, 512, "s-s-s-"),
        ("gemma3", {"attention.sliding_window": 1024}, 1024, "sssss-"),
        ("gemma3", {}, 0, "------"),
        (
            "gemma3",
            {"attention.sliding_window": 8, "attention.sliding_window_pattern": 3},
            8,
            "ss-ss-",
        ),
        ("gpt-oss", {"attention.sliding_window": 128}, 128, "s-s-s-"),
        ("llama4", {}, 8192, "sss-ss"),
        ("llama4", {"attention.sliding_window": 0}, 0, "------"),
        ("smallthinker", {"attention.sliding_window": 7}, 4096, "-sss-s"),
        ("smallthinker", {}, 0, "------"),
        (
            "gemma4",
            {
                "attention.sliding_window": 512,
                "attention.sliding_window_pattern": [True, False, True, True, False, True],
            },
            512,
            "s-ss-s",
        ),
        ("exaone4", {"attention.sliding_window": 4096}, 0, "------"),
    ],
)
def test_which_layers_slide(
    tmp_path: Path, architecture: str, keys: dict[str, Any], window: int, layers: str
) -> None:
    found = shape(tmp_path, architecture, **keys)
    assert found.sliding_window == window
    assert sliding(found) == layers
    assert all((layer.key, layer.value) == (32, 32) for layer in found.layers)


def test_sliding_layers_may_have_heads_of_their_own(tmp_path: Path) -> None:
    found = shape(
        tmp_path,
        "gemma4",
        **{
            "attention.key_length": 32,
            "attention.value_length": 32,
            "attention.key_length_swa": 8,
            "attention.value_length_swa": 8,
            "attention.sliding_window": 64,
            "attention.sliding_window_pattern": [True, False] * 3,
            "attention.shared_kv_layers": 2,
        },
    )
    sizes = [(layer.key, layer.value) for layer in found.layers]
    assert sizes == [(16, 16), (64, 64), (16, 16), (64, 64), (0, 0), (0, 0)]


def test_latent_attention_keeps_one_vector_without_values(tmp_path: Path) -> None:
    found = shape(
        tmp_path,
        "deepseek2",
        **{
            "attention.head_count_kv": 1,
            "attention.kv_lora_rank": 512,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
        },
    )
    assert found.kv_lora_rank == 512
    assert {(layer.key, layer.value) for layer in found.layers} == {(576, 0)}


SSM = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 16,
    "ssm.group_count": 1,
}
SSM_STATE = 3 * (128 + 2 * 16) + 16 * 128


@pytest.mark.parametrize(
    ("architecture", "keys", "states", "attends"),
    [
        ("mamba2", SSM, [SSM_STATE] * 6, "------"),
        ("falcon-h1", SSM, [SSM_STATE] * 6, "aaaaaa"),
        (
            "jamba",
            {**SSM, "attention.head_count_kv": [0, 0, 2, 0, 0, 2]},
            [SSM_STATE, SSM_STATE, 0] * 2,
            "--a--a",
        ),
        ("qwen3next", SSM, [SSM_STATE] * 3 + [0] + [SSM_STATE] * 2, "---a--"),
        (
            "qwen35",
            {**SSM, "full_attention_interval": 2},
            [SSM_STATE, 0] * 3,
            "-a-a-a",
        ),
        (
            "nemotron_h",
            {
                **SSM,
                "attention.head_count_kv": [0, 2, 0, 0, 2, 0],
                "feed_forward_length": [0, 0, 128, 0, 0, 128],
            },
            [SSM_STATE, 0, 0, SSM_STATE, 0, 0],
            "-a--a-",
        ),
        ("rwkv7", {"wkv.head_size": 32}, [64 * (2 + 32)] * 6, "------"),
        (
            "lfm2",
            {"shortconv.l_cache": 3, "attention.head_count_kv": [0, 2, 0, 2, 0, 2]},
            [64 * 2, 0] * 3,
            "-a-a-a",
        ),
        ("bert", {}, [0] * 6, "------"),
        ("llama", {"nextn_predict_layers": 1}, [0] * 6, "aaaaa-"),
    ],
)
def test_which_layers_keep_a_state_and_which_attend(
    tmp_path: Path, architecture: str, keys: dict[str, Any], states: list[int], attends: str
) -> None:
    found = shape(tmp_path, architecture, **keys)
    assert [layer.state for layer in found.layers] == states
    assert "".join("a" if layer.key else "-" for layer in found.layers) == attends
    assert found.is_recurrent == any(states)


def test_weights_are_counted_by_where_they_stand(tiny_models: dict[str, Path]) -> None:
    for name, path in tiny_models.items():
        found = read_shape(path)
        loaded = found.layers[:-1] if name.endswith("-mtp") else found.layers
        (each,) = {layer.weights for layer in loaded}
        layers = each * len(found.layers)  # one that only drafts stands in the file
        assert found.input_bytes + layers + found.output_bytes == found.tensor_bytes
        assert sum(found.bytes_by_type.values()) == found.tensor_bytes
    kinds = {name: read_shape(path).feed_forward_kind for name, path in tiny_models.items()}
    assert (kinds["mistral"], kinds["phi2"], kinds["phi3"]) == ("gated", "plain", "fused")
    quantized = read_shape(tiny_models["llama-q8_0"])
    assert next(iter(quantized.bytes_by_type)) == "Q8_0"
