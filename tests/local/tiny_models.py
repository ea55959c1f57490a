"""GGUF files for tests: tiny models of many architectures that llama.cpp loads and runs."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, FEED_FORWARD, LAYERS, HEADS, HEADS_KV, VOCABULARY = 128, 384, 4, 4, 2, 512
HEAD = WIDTH // HEADS
EXPERTS, EXPERTS_USED = 4, 2
INNER, STATE, KERNEL, TIME_STEPS = 2 * WIDTH, 16, 4, 8
LORA, ROPE = 64, 32

Shapes = dict[str, tuple[int, ...]]
Fill = Callable[[gguf.GGUFWriter], None]


@dataclass(frozen=True)
class Tiny:
    """A model to write: its architecture, the shapes of its tensors (rows first), its keys."""

    architecture: str
    layer: Shapes
    top: Shapes = field(default_factory=dict)
    keys: Mapping[str, int | float | str | list[int]] = field(default_factory=dict)
    heads_kv: int = HEADS_KV
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F16


def attention(key: int = HEADS_KV * HEAD, *, bias: bool = False) -> Shapes:
    sizes = {"attn_q": WIDTH, "attn_k": key, "attn_v": key}
    shapes: Shapes = {"attn_norm.weight": (WIDTH,), "attn_output.weight": (WIDTH, WIDTH)}
    for name, rows in sizes.items():
        shapes[f"{name}.weight"] = (rows, WIDTH)
        if bias:
            shapes[f"{name}.bias"] = (rows,)
    return shapes


FFN: Shapes = {
    "ffn_norm.weight": (WIDTH,),
    "ffn_gate.weight": (FEED_FORWARD, WIDTH),
    "ffn_up.weight": (FEED_FORWARD, WIDTH),
    "ffn_down.weight": (WIDTH, FEED_FORWARD),
}
EXPERT_FFN: Shapes = {
    "ffn_norm.weight": (WIDTH,),
    "ffn_gate_inp.weight": (EXPERTS, WIDTH),
    "ffn_gate_exps.weight": (EXPERTS, FEED_FORWARD, WIDTH),
    "ffn_up_exps.weight": (EXPERTS, FEED_FORWARD, WIDTH),
    "ffn_down_exps.weight": (EXPERTS, WIDTH, FEED_FORWARD),
}
QK_NORM: Shapes = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
POST_NORMS: Shapes = {
    "post_attention_norm.weight": (WIDTH,),
    "post_ffw_norm.weight": (WIDTH,),
}
OUTPUT: Shapes = {"output.weight": (VOCABULARY, WIDTH)}
PHI_TOP: Shapes = {
    **OUTPUT,
    "output.bias": (VOCABULARY,),
    "output_norm.bias": (WIDTH,),
}
PHI2: Shapes = {
    "attn_norm.weight": (WIDTH,),
    "attn_norm.bias": (WIDTH,),
    "attn_qkv.weight": (3 * WIDTH, WIDTH),
    "attn_qkv.bias": (3 * WIDTH,),
    "attn_output.weight": (WIDTH, WIDTH),
    "attn_output.bias": (WIDTH,),
    "ffn_up.weight": (FEED_FORWARD, WIDTH),
    "ffn_up.bias": (FEED_FORWARD,),
    "ffn_down.weight": (WIDTH, FEED_FORWARD),
    "ffn_down.bias": (WIDTH,),
}
PHI3: Shapes = {
    "attn_norm.weight": (WIDTH,),
    "attn_qkv.weight": (WIDTH + 2 * HEADS_KV * HEAD, WIDTH),
    "attn_output.weight": (WIDTH, WIDTH),
    "ffn_norm.weight": (WIDTH,),
    "ffn_up.weight": (2 * FEED_FORWARD, WIDTH),
    "ffn_down.weight": (WIDTH, FEED_FORWARD),
}
MAMBA: Shapes = {
    "attn_norm.weight": (WIDTH,),
    "ssm_in.weight": (2 * INNER, WIDTH),
    "ssm_conv1d.weight": (INNER, KERNEL),
    "ssm_conv1d.bias": (INNER,),
    "ssm_x.weight": (TIME_STEPS + 2 * STATE, INNER),
    "ssm_dt.weight": (INNER, TIME_STEPS),
    "ssm_dt.bias": (INNER,),
    "ssm_a": (INNER, STATE),
    "ssm_d": (INNER,),
    "ssm_out.weight": (WIDTH, INNER),
}
MLA: Shapes = {
    "attn_norm.weight": (WIDTH,),
    "attn_q_a.weight": (LORA, WIDTH),
    "attn_q_a_norm.weight": (LORA,),
    "attn_q_b.weight": (HEADS * (HEAD + ROPE), LORA),
    "attn_kv_a_mqa.weight": (LORA + ROPE, WIDTH),
    "attn_kv_a_norm.weight": (LORA,),
    "attn_k_b.weight": (HEADS, LORA, HEAD),
    "attn_v_b.weight": (HEADS, HEAD, LORA),
    "attn_output.weight": (WIDTH, HEADS * HEAD),
    **FFN,
}
EXPERT_KEYS = {"expert_count": EXPERTS, "expert_used_count": EXPERTS_USED}
HEAD_KEYS = {"attention.key_length": HEAD, "attention.value_length": HEAD}
MAMBA_KEYS = {
    "ssm.conv_kernel": KERNEL,
    "ssm.inner_size": INNER,
    "ssm.state_size": STATE,
    "ssm.time_step_rank": TIME_STEPS,
    "feed_forward_length": 0,
    "attention.head_count": 0,
}
MLA_KEYS: dict[str, int | float | str | list[int]] = {
    "attention.kv_lora_rank": LORA,
    "attention.q_lora_rank": LORA,
    "attention.key_length": LORA + ROPE,
    "attention.value_length": LORA,
    "attention.key_length_mla": HEAD + ROPE,
    "attention.value_length_mla": HEAD,
    "rope.dimension_count": ROPE,
    "leading_dense_block_count": LAYERS,
    "expert_feed_forward_length": FEED_FORWARD,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.0,
    **EXPERT_KEYS,
}

TINY: Mapping[str, Tiny] = {
    "llama": Tiny("llama", {**attention(WIDTH), **FFN}, OUTPUT, heads_kv=HEADS),
    "mistral": Tiny("llama", {**attention(), **FFN}, OUTPUT),
    "llama-q8_0": Tiny(
        "llama",
        {**attention(), **FFN},
        OUTPUT,
        quantization=gguf.GGMLQuantizationType.Q8_0,
    ),
    "mixtral": Tiny("llama", {**attention(), **EXPERT_FFN}, OUTPUT, EXPERT_KEYS),
    "phi2": Tiny("phi2", PHI2, PHI_TOP, {"rope.dimension_count": ROPE}, heads_kv=HEADS),
    "phi3": Tiny("phi3", PHI3, OUTPUT),
    "gemma": Tiny("gemma", {**attention(), **FFN}, keys=HEAD_KEYS),
    "gemma2": Tiny(
        "gemma2",
        {**attention(), **FFN, **POST_NORMS},
        keys={**HEAD_KEYS, "attention.sliding_window": 256},
    ),
    "gemma3": Tiny(
        "gemma3",
        {**attention(), **FFN, **POST_NORMS, **QK_NORM},
        keys={**HEAD_KEYS, "attention.sliding_window": 512},
    ),
    "qwen2": Tiny("qwen2", {**attention(bias=True), **FFN}, OUTPUT),
    "qwen3": Tiny("qwen3", {**attention(), **FFN, **QK_NORM}, OUTPUT, HEAD_KEYS),
    "qwen3moe": Tiny(
        "qwen3moe",
        {**attention(), **EXPERT_FFN, **QK_NORM},
        OUTPUT,
        {**HEAD_KEYS, **EXPERT_KEYS, "expert_feed_forward_length": FEED_FORWARD},
    ),
    "mamba": Tiny("mamba", MAMBA, OUTPUT, MAMBA_KEYS, heads_kv=0),
    "deepseek2": Tiny("deepseek2", MLA, OUTPUT, MLA_KEYS, heads_kv=1),
    "deepseek2-mtp": Tiny(
        "deepseek2", MLA, OUTPUT, {**MLA_KEYS, "nextn_predict_layers": 1}, heads_kv=1
    ),
}


def write(path: Path, fill: Fill, architecture: str = "llama", **options: Any) -> Path:
    """A GGUF with what ``fill`` puts in."""
    writer = gguf.GGUFWriter(path, architecture, **options)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def small_llama(writer: gguf.GGUFWriter) -> None:
    """A header with something of everything, and three tensors."""
    writer.add_name("Tiny")
    writer.add_context_length(4096)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_token_list([f"token {number}" for number in range(100)])
    writer.add_token_scores([0.5] * 100)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((100, 64), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((64, 64), np.float16))
    writer.add_tensor("output_norm.weight", np.zeros(64, np.float32))


def write_tiny(name: str, folder: Path, vocabulary: int = VOCABULARY) -> Path:
    """The tiny model of this name, in ``folder``; more words need one without an output."""
    tiny = TINY[name]

    def fill(writer: gguf.GGUFWriter) -> None:
        _add_keys(writer, tiny)
        _add_vocabulary(writer, vocabulary)
        generator = np.random.default_rng(7)
        shapes = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
        shapes |= tiny.top
        for number in range(LAYERS):
            shapes |= {f"blk.{number}.{tensor}": shape for tensor, shape in tiny.layer.items()}
        for tensor, shape in shapes.items():
            _add_tensor(writer, tensor, shape, generator, tiny.quantization)

    return write(folder / f"tiny-{name}.gguf", fill, tiny.architecture)


def copy_model(
    source: Path, target: Path, keys: Mapping[str, int | str], **options: object
) -> Path:
    """A copy of a GGUF with these keys, in place of its own and besides them."""
    reader = gguf.GGUFReader(source)

    def fill(writer: gguf.GGUFWriter) -> None:
        for key, known in reader.fields.items():
            own = not key.startswith("GGUF.") and key != "general.architecture"
            if own and key not in keys:
                kind = known.types[0]
                part = known.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(key, known.contents(), kind, part)
        for key, value in keys.items():
            writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(
                key, value
            )
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)

    return write(target, fill, **options)


@dataclass(frozen=True)
class _TensorEntry:
    """A tensor in a file's table: its name, its entry up to the offset, and where its data is."""

    name: bytes
    entry: bytes
    offset: int


def first_layers(source: Path, target: Path, layers: int) -> Path:
    """A copy of a Llama model's file without its later layers; its other keys are the same bytes.

    The package gguf takes seconds to read a large vocabulary.
    """
    data = source.read_bytes()
    first = re.search(rb".{7}\0(?:token_embd|output_norm|output|blk\.\d+)\.", data, re.DOTALL)
    assert first is not None
    tensors, end = _tensor_table(data, first.start())
    start = end + -end % gguf.GGUF_DEFAULT_ALIGNMENT
    offsets = sorted(tensor.offset for tensor in tensors)
    ends = dict(zip(offsets, [*offsets[1:], len(data) - start], strict=True))
    kept = [
        tensor
        for tensor in tensors
        if not (block := re.match(rb"blk\.(\d+)\.", tensor.name)) or int(block[1]) < layers
    ]
    count = b"llama.block_count" + struct.pack("<I", gguf.GGUFValueType.UINT32)
    keys, _, rest = data[16 : first.start()].partition(count)
    header = bytearray(data[:8] + struct.pack("<Q", len(kept)) + keys + count)
    header += struct.pack("<I", layers) + rest[4:]
    body = bytearray()
    for tensor in kept:
        header += tensor.entry + struct.pack("<Q", len(body))
        body += data[start + tensor.offset : start + ends[tensor.offset]]
    header += bytes(-len(header) % gguf.GGUF_DEFAULT_ALIGNMENT)
    target.write_bytes(header + body)
    return target


def _tensor_table(data: bytes, place: int) -> tuple[list[_TensorEntry], int]:
    """The tensors whose table begins at ``place``, and where it ends."""
    tensors = []
    (count,) = struct.unpack_from("<Q", data, 8)
    for _ in range(count):
        begin = place
        (length,) = struct.unpack_from("<Q", data, place)
        name = data[place + 8 : place + 8 + length]
        (dimensions,) = struct.unpack_from("<I", data, place + 8 + length)
        place += 8 + length + 4 + 8 * dimensions + 4
        (offset,) = struct.unpack_from("<Q", data, place)
        tensors.append(_TensorEntry(name, data[begin:place], offset))
        place += 8
    return tensors, place


def _add_keys(writer: gguf.GGUFWriter, tiny: Tiny) -> None:
    keys: dict[str, int | float | str | list[int]] = {
        "context_length": 32_768,
        "block_count": LAYERS,
        "embedding_length": WIDTH,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": tiny.heads_kv,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.layer_norm_rms_epsilon": 1e-5,
        **tiny.keys,
    }
    for key, value in keys.items():
        full = f"{tiny.architecture}.{key}"
        if isinstance(value, float):
            writer.add_float32(full, value)
        elif isinstance(value, int):
            writer.add_uint32(full, value)


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    texts += [f"▁{number}" for number in range(size - len(texts))]
    kinds += [gguf.TokenType.NORMAL] * (size - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([-float(number) for number in range(size)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    shape: tuple[int, ...],
    generator: np.random.Generator,
    quantization: gguf.GGMLQuantizationType,
) -> None:
    values = generator.normal(0, 0.05, shape).astype(np.float32)
    plain = len(shape) == 1 or name.endswith(("ssm_a", "ssm_d")) or "conv1d" in name
    if plain or "gate_inp" in name:
        writer.add_tensor(name, -np.abs(values) - 0.1 if name.endswith("ssm_a") else values)
    elif quantization == gguf.GGMLQuantizationType.F16:
        writer.add_tensor(name, values.astype(np.float16))
    else:
        packed = gguf.quants.quantize(values, quantization)
        writer.add_tensor(name, packed, raw_dtype=quantization)
