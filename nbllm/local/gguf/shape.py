"""What a GGUF file tells of its model, from its header alone: milliseconds, no weights read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import (
    EXPERT_TENSORS,
    LayerShape,
    ModelShape,
    SplitInfo,
    TensorInfo,
    Value,
)
from nbllm.core.paths import absolute_path, readable
from nbllm.core.types import ModelInfo, Source
from nbllm.local.gguf.header import Header, read_header
from nbllm.local.gguf.header_keys import Keys, kind_of
from nbllm.local.gguf.layers import layer_shapes, sliding_window
from nbllm.local.gguf.split_files import model_stem, other_parts, split_of
from nbllm.local.gguf.tensor_types import TENSOR_TYPES, file_type_label, tensor_type_label

__all__ = ["described", "model_info_from_gguf", "quantized_shape", "read_shape"]

_EXPERTS = re.compile(EXPERT_TENSORS)
_DRAFTING = ".nextn_predict_layers"
_MAX_BLOCKS = 4096
_BEFORE_LAYERS = frozenset(
    {"token_embd", "token_embd_norm", "token_types", "position_embd", "per_layer_token_embd"}
)


def read_shape(path: str | os.PathLike[str]) -> ModelShape:
    """The shape of the model in the GGUF at ``path``; of a split model, give the first part.

    Raises ``ModelFileError``, which says what is wrong with the file and what to do.
    """
    return _shape(_read(Path(path)))


def quantized_shape(
    shape: ModelShape, label: str, types: Mapping[str, str], file_size_bytes: int
) -> ModelShape:
    """The shape of a model whose tensors would be stored in these ``types``, by their names."""
    kinds = {kind.label: (number, kind) for number, kind in TENSOR_TYPES.items()}
    tensors = []
    for tensor in shape.tensors:
        number, kind = kinds[types[tensor.name]]
        size = tensor.elements // kind.block_elements * kind.block_bytes
        tensors.append(tensor._replace(type_number=number, type_label=kind.label, size_bytes=size))
    heads = shape.metadata.get(f"{shape.architecture}{_DRAFTING}")
    layers = len(shape.layers)
    weights, experts, before, after = _weights(tuple(tensors), layers, _loaded(layers, heads))
    return replace(
        shape,
        file_size_bytes=file_size_bytes,
        quantization=label,
        layers=_weighed(shape.layers, weights, experts),
        tensor_bytes=sum(tensor.size_bytes for tensor in tensors),
        input_bytes=before,
        output_bytes=after,
        split=None,
        tensors=tuple(tensors),
    )


def model_info_from_gguf(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    source: Source = "found",
) -> ModelInfo:
    """The model in the GGUF at ``path``, named after the file unless ``name`` is given.

    Its type is its architecture; of a file that holds no model of its own, such as an adapter,
    it is the kind of file. Raises ``ModelFileError``, which says what is wrong with the file and
    what to do.
    """
    try:
        file = absolute_path(path)
    except ValueError as error:
        raise ModelFileError(os.fspath(path), str(error)) from None
    try:
        found = _read(file, samples=True)
    except ModelFileError:  # what is wrong must be so in the file, not in a guess at it
        found = _read(file)
    return _info(
        file,
        name,
        source,
        model_type=found.keys.architecture if found.kind == "model" else found.kind,
        context_length=found.keys.whole(".context_length"),
        quantization=_quantization(found.keys, found.tensors),
        elements=sum(tensor.elements for tensor in found.tensors),
        size_bytes=found.size_bytes,
        tokenizer=_tokenizer(found),
    )


def _tokenizer(model: _Model) -> str | None:
    """Its kind, how it splits texts, and how many tokens it has."""
    kind, splits = (model.keys.text(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    tokens = _vocabulary_size(model.first, model.keys)
    return f"{kind}/{splits or ''}/{tokens}" if kind and tokens else None


def described(
    file: Path,
    shape: ModelShape,
    *,
    name: str | None = None,
    source: Source = "found",
) -> ModelInfo:
    """The entry of a model whose shape is known already; see ``model_info_from_gguf``."""
    return _info(
        file,
        name,
        source,
        model_type=shape.architecture if shape.kind == "model" else shape.kind,
        context_length=shape.context_length,
        quantization=shape.quantization,
        elements=shape.parameter_count,
        size_bytes=shape.file_size_bytes,
    )


def _info(
    file: Path,
    name: str | None,
    source: Source,
    *,
    model_type: str,
    context_length: int | None,
    quantization: str | None,
    elements: int,
    size_bytes: int,
    tokenizer: str | None = None,
) -> ModelInfo:
    return ModelInfo(
        name=name or readable(model_stem(file)),
        model_type=model_type,
        local=True,
        path=file,
        context_length=context_length,
        quantization=quantization and quantization.lower(),
        parameters=float(f"{elements / 1e9:.4g}") or None,
        size_bytes=size_bytes,
        source=source,
        tokenizer=tokenizer,
    )


# ---------------------------------------------------------------- from keys to a shape


@dataclass(frozen=True, slots=True)
class _Model:
    """The headers of a model's files, read and found to belong together."""

    first: Header
    keys: Keys
    kind: str
    tensors: tuple[TensorInfo, ...]
    size_bytes: int
    split: SplitInfo | None


def _read(file: Path, *, samples: bool = False) -> _Model:
    first = read_header(file, samples=samples)
    keys = Keys(file, first.metadata)
    split = split_of(keys)
    parts = [first, *other_parts(file, split)]
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    kind = kind_of(keys, tensors)
    if not keys.architecture and kind in ("model", "vocab", "other"):
        raise ModelFileError(str(file), "is not a model: its header names no architecture")
    announced = keys.whole("split.tensors.count")
    if split is not None and announced not in (None, len(tensors)):
        problem = f"its parts have {len(tensors)} tensors, but its header claims {announced}"
        raise ModelFileError(str(file), f"is damaged: {problem}")
    size = sum(part.file_size_bytes for part in parts)
    return _Model(first, keys, kind, tensors, size, split)


def _shape(model: _Model) -> ModelShape:
    first, keys, tensors = model.first, model.keys, model.tensors
    blocks = _block_count(keys)
    heads, width = keys.whole(".attention.head_count"), keys.whole(".embedding_length")
    head_length = width // heads if width and heads else None
    heads_kv = _heads_kv(keys, blocks or 0)
    loaded = _loaded(blocks or 0, keys.whole(_DRAFTING))
    weights, experts, input_bytes, output_bytes = _weights(tensors, blocks or 0, loaded)
    return ModelShape(
        architecture=keys.architecture,
        kind=model.kind,
        name=keys.text("general.name"),
        file_size_bytes=model.size_bytes,
        context_length=keys.whole(".context_length"),
        block_count=blocks,
        embedding_length=width,
        feed_forward_length=keys.whole(".feed_forward_length"),
        head_count=heads,
        head_counts_kv=heads_kv,
        key_length=keys.whole(".attention.key_length") or head_length,
        value_length=keys.whole(".attention.value_length") or head_length,
        kv_lora_rank=keys.whole(".attention.kv_lora_rank") or 0,
        sliding_window=sliding_window(keys),
        layers=_weighed(layer_shapes(keys, heads_kv, blocks or 0), weights, experts),
        expert_count=keys.whole(".expert_count") or 0,
        expert_used_count=keys.whole(".expert_used_count") or 0,
        vocabulary_size=_vocabulary_size(first, keys),
        vocabulary_bytes=_vocabulary_bytes(first, keys),
        parameter_count=sum(tensor.elements for tensor in tensors),
        quantization=_quantization(keys, tensors),
        tensor_bytes=sum(tensor.size_bytes for tensor in tensors),
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        shares_embeddings=all(tensor.name != "output.weight" for tensor in tensors),
        chat_template=keys.text("tokenizer.chat_template"),
        split=model.split,
        byte_order=first.byte_order,
        tensors=tensors,
        metadata=first.metadata,
    )


def _block_count(keys: Keys) -> int | None:
    blocks = keys.whole(".block_count")
    if blocks is not None and blocks > _MAX_BLOCKS:
        raise ModelFileError(str(keys.file), f"is damaged: it cannot have {blocks} layers")
    return blocks


def _weighed(
    layers: Iterable[LayerShape], weights: list[int], experts: list[int]
) -> tuple[LayerShape, ...]:
    return tuple(
        replace(layer, weights=size, experts=some)
        for layer, size, some in zip(layers, weights, experts, strict=True)
    )


def _loaded(blocks: int, heads: Value | None) -> int:
    """How many of the layers llama.cpp loads: not the last ones that only draft (MTP heads)."""
    return blocks - heads if isinstance(heads, int) and 0 < heads < blocks else blocks


def _weights(
    tensors: tuple[TensorInfo, ...], blocks: int, loaded: int
) -> tuple[list[int], list[int], int, int]:
    """The bytes of each layer and of its experts, before all layers, and behind them.

    Layers behind the first ``loaded`` have none.
    """
    layers, experts, before, after = [0] * blocks, [0] * blocks, 0, 0
    for tensor in tensors:
        prefix, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if prefix == "blk" and number.isdecimal() and int(number) < blocks:
            if int(number) >= loaded:
                continue
            layers[int(number)] += tensor.size_bytes
            experts[int(number)] += tensor.size_bytes if _EXPERTS.search(tensor.name) else 0
        elif prefix in _BEFORE_LAYERS:
            before += tensor.size_bytes
        else:
            after += tensor.size_bytes
    return layers, experts, before, after


def _heads_kv(keys: Keys, blocks: int) -> tuple[int, ...]:
    """Key-value heads of each layer; as many as there are heads where nothing else is said."""
    for key in ("head_count_kv", "head_count"):
        counts = keys.wholes(f".attention.{key}")
        if counts is not None:
            return counts * blocks if len(counts) == 1 else counts
    return ()


def _vocabulary_size(header: Header, keys: Keys) -> int | None:
    tokens = header.array_lengths.get("tokenizer.ggml.tokens")
    return tokens if tokens is not None else keys.whole(".vocab_size")


def _vocabulary_bytes(header: Header, keys: Keys) -> int:
    """What llama.cpp 0.3.36 was measured to take for tokens and merges, within a tenth.

    Texts, a table to look them up in and, for merges (BPE), one of pairs; Unigram's is a trie.
    """
    tokens = header.array_lengths.get("tokenizer.ggml.tokens", 0)
    merges = header.array_lengths.get("tokenizer.ggml.merges", 0)
    kind = keys.text("tokenizer.ggml.model")
    if merges or kind == "gpt2":
        return 240 * tokens + 72 * merges
    return (527 if kind == "t5" else 153) * tokens


def _quantization(keys: Keys, tensors: tuple[TensorInfo, ...]) -> str | None:
    """The header's word, or else the type that most of the weights have."""
    number = keys.whole("general.file_type")
    label = None if number is None else file_type_label(number)
    if label is not None or not tensors:
        return label
    weights: Counter[int] = Counter()
    for tensor in tensors:
        weights[tensor.type_number] += tensor.elements
    return tensor_type_label(weights.most_common(1)[0][0])
