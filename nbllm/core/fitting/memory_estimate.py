"""What a model takes in memory, computed from its shape: the instant answer.

Weights, keys and values, and states are sums of what llama.cpp allocates (``llama_kv_cache``,
``llama_kv_cache_iswa``, ``llama_memory_recurrent``: 256 cells at a time, sliding layers kept
whole so that prefixes can be used again). What a computation takes depends on how ggml's
allocator packs a graph; ``_compute`` models the graphs' widest moments, and its factors were
fitted to llama.cpp's own reports (``tests/local/test_memory_estimate.py`` compares).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from nbllm.core.fitting.model_shape import LayerShape, ModelShape
from nbllm.core.hardware.engine_devices import is_server
from nbllm.core.placement import MOST_OUTPUTS, KvType, MemoryParts, output_rows

__all__ = [
    "CPU",
    "Loading",
    "cells_of",
    "estimate",
    "estimate_with_draft",
    "layer_devices",
    "most_outputs",
]

CPU = "CPU"
_F32 = 4
_CELLS = 256
_BITS = {"f16": 16.0, "q8_0": 8.5, "q4_0": 4.5}
# The resident memory of a worker with Python, numpy and llama.cpp after its first answers, and
# what CUDA takes on a GPU for its context and libraries.
_PROCESS_BYTES = 53 * 2**20
_GPU_CONTEXT_BYTES = 400 * 2**20
_LOGITS_BYTES, _LOGITS_SHARE = 4 * 2**20, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How a model is loaded, as far as its memory depends on it.

    ``gpus`` are names of devices, ``split`` the share of each (empty: equal ones), and
    ``gpu_layers`` the layers on them, of which the output is the first, then the last layers.
    ``most_outputs`` bounds the tokens of a batch that have logits. ``adapter_bytes`` are the
    weights of the LoRA adapters.
    ``kept_bytes`` is what the worker may put aside of the keys and values of earlier prompts;
    with ``batch_invariant`` it puts all of them aside now and then, to bring them into order.
    """

    context_length: int
    parallel: int = 8
    kv_type: KvType = "f16"
    flash_attention: bool = True
    batch_tokens: int = 512
    most_outputs: int = MOST_OUTPUTS
    adapter_bytes: int = 0
    gpus: tuple[str, ...] = ()
    split: tuple[float, ...] = ()
    gpu_layers: int = 0
    kept_bytes: int = 0
    batch_invariant: bool = False


def cells_of(context_length: int) -> int:
    """The cells that llama.cpp makes of a context."""
    return -(-context_length // _CELLS) * _CELLS


def most_outputs(shape: ModelShape) -> int:
    """How many tokens of a batch may have logits, whose memory grows with the vocabulary.

    All of them take a 12th of the weights at most, or 4 MiB where that is more. llama.cpp holds
    them twice: where they are computed, and in an output buffer, which grows when so many are
    asked for.
    """
    room = max(_LOGITS_BYTES, shape.tensor_bytes // _LOGITS_SHARE)
    return min(MOST_OUTPUTS, max(1, room // (_F32 * (shape.vocabulary_size or 1))))


def layer_devices(blocks: int, loading: Loading) -> list[str]:
    """The device of each layer, and of the output at the end, by llama.cpp's own rule."""
    count = min(loading.gpu_layers, blocks + 1) if loading.gpus else 0
    first = blocks + 1 - count
    shares = loading.split or (1.0,) * len(loading.gpus)
    ends = [sum(shares[: i + 1]) / sum(shares) for i in range(len(shares))]
    return [CPU] * first + [
        next((g for g, end in zip(loading.gpus, ends, strict=True) if at / count < end), CPU)
        for at in range(count)
    ]


def estimate(shape: ModelShape, loading: Loading) -> dict[str, MemoryParts]:
    """The bytes on each device by part; the CPU's come first and are always there."""
    devices = layer_devices(len(shape.layers), loading)
    used = loading.gpus if loading.gpu_layers else ()
    cells = cells_of(loading.context_length)
    weights, kv = dict.fromkeys([CPU, *used], 0), dict.fromkeys([CPU, *used], 0)
    for layer, device in zip(shape.layers, devices, strict=False):
        weights[device] += layer.weights
        kv[device] += _memory_of(layer, cells, loading)
    weights[CPU] += shape.input_bytes
    weights[devices[-1]] += shape.output_bytes
    if devices[-1] != CPU and shape.shares_embeddings:
        weights[devices[-1]] += shape.input_bytes  # a copy, for the GPU computes with it too
    for device, added in _adapters(shape, loading, devices).items():
        weights[device] += added
    row = (shape.vocabulary_size or 0) * _F32
    growth = (_rows(shape, loading, cells) - loading.parallel) * row
    process = _PROCESS_BYTES + shape.vocabulary_bytes + growth + loading.kept_bytes
    process += _workspace(shape, loading, cells) if CPU in devices else 0
    process += kv[CPU] if loading.batch_invariant else 0
    compute = _compute(shape, loading, cells)
    carried = _largest_tensor(shape) if used and CPU in devices else 0
    on_cpu = compute if CPU in devices else _inputs(shape, loading, cells)
    parts = {
        CPU: MemoryParts(
            weights=weights[CPU],
            kv=kv[CPU],
            compute=on_cpu + loading.parallel * row,
            overhead=process,
        )
    }
    copies = 3 * _masks(shape, loading, cells) if len(used) > 1 and CPU not in devices else 0
    for gpu in used:
        parts[gpu] = MemoryParts(
            weights=weights[gpu],
            kv=kv[gpu],
            compute=compute + copies + (0 if is_server(gpu) else carried),
            overhead=0 if is_server(gpu) else _GPU_CONTEXT_BYTES,
        )
    return parts


def estimate_with_draft(
    shape: ModelShape, draft: ModelShape, loading: Loading
) -> dict[str, MemoryParts]:
    """The same for a model with a draft model, which share a process and a GPU's libraries.

    The draft model has a context of the same size, and is whole on the first of the GPUs.
    """
    gpus = loading.gpus[:1] if loading.gpu_layers else ()
    beside = estimate(
        draft,
        replace(
            loading,
            gpus=gpus,
            split=(),
            gpu_layers=len(draft.layers) + 1 if gpus else 0,
            most_outputs=loading.parallel,
            adapter_bytes=0,
            kept_bytes=0,
            batch_invariant=False,
        ),
    )
    parts = estimate(shape, loading)
    for device, added in beside.items():
        own = parts[device]
        tables = added.overhead - _PROCESS_BYTES if device == CPU else 0
        parts[device] = MemoryParts(
            weights=own.weights + added.weights,
            kv=own.kv + added.kv,
            compute=own.compute + added.compute,
            overhead=own.overhead + tables,
        )
    return parts


def _adapters(shape: ModelShape, loading: Loading, devices: list[str]) -> dict[str, int]:
    """The adapters' weights by device: each lies beside the layer that it belongs to."""
    count = len(shape.layers)
    shares = Counter(devices[:count])
    return {each: loading.adapter_bytes * number // count for each, number in shares.items()}


def _memory_of(layer: LayerShape, cells: int, loading: Loading) -> int:
    numbers = (layer.key + layer.value) * cells
    return int(numbers * _BITS[loading.kv_type] / 8) + layer.state * loading.parallel * _F32


# ---------------------------------------------------------------- the computation


def _compute(shape: ModelShape, loading: Loading, cells: int) -> int:
    """The buffer that ggml's allocator makes for a batch: its inputs and its widest moment.

    After the last layer the masks are not needed any more and make room for the logits, but for
    what has come into their place meanwhile.
    """
    tokens = min(loading.batch_tokens, cells)
    rows = min(_rows(shape, loading, cells), tokens)
    masks = _masks(shape, loading, cells)
    layers = _F32 * max(
        tokens * _feed_forward(shape),
        _attention(shape, loading, cells, tokens),
        _recurrent(shape, loading, tokens),
    )
    states = _F32 * rows * 4 * (shape.embedding_length or 0)
    logits = _F32 * rows * (shape.vocabulary_size or 0)
    return max(masks + layers, min(masks, states) + states + logits) + 24 * tokens


def _rows(shape: ModelShape, loading: Loading, cells: int) -> int:
    """The tokens of a batch that have logits at most."""
    most = min(loading.most_outputs, most_outputs(shape))
    return output_rows(loading.parallel, min(loading.batch_tokens, cells), most)


def _masks(shape: ModelShape, loading: Loading, cells: int) -> int:
    """Which cell each token sees: once for layers that slide, once for those that do not."""
    kinds = len({layer.sliding for layer in shape.layers if layer.key})
    size = 2 if loading.flash_attention else 4
    return kinds * cells * min(loading.batch_tokens, cells) * size


def _workspace(shape: ModelShape, loading: Loading, cells: int) -> int:
    """What the CPU's backend converts of a matrix before it multiplies; in no report of buffers.

    The widest is 8-bit numbers between the feed-forward's matrices, or the attention's 16-bit
    weights.
    """
    wide = (shape.feed_forward_length or 0) * 9 // 8
    weights = 0 if loading.flash_attention else 2 * cells * (shape.head_count or 0)
    return min(loading.batch_tokens, cells) * max(wide, weights)


def _inputs(shape: ModelShape, loading: Loading, cells: int) -> int:
    """What the CPU prepares for the GPUs: embeddings and masks."""
    tokens = min(loading.batch_tokens, cells)
    return tokens * (shape.embedding_length or 0) * _F32 + _masks(shape, loading, cells)


def _feed_forward(shape: ModelShape) -> int:
    """Numbers for each token between the matrices: gate, up, their product, and the rest."""
    width, wide = shape.embedding_length or 0, shape.feed_forward_length or 0
    if any("_exps." in tensor.name for tensor in shape.tensors):
        length = shape.metadata.get(f"{shape.architecture}.expert_feed_forward_length")
        each = length if isinstance(length, int) else wide
        return 4 * width + 3 * max(wide, each * max(shape.expert_used_count, 1))
    if shape.feed_forward_kind == "plain":
        return 5 * width + wide
    if shape.feed_forward_kind == "fused":
        return 3 * (width + wide)
    return min(4 * width + 3 * wide, width + 4 * wide)


def _attention(shape: ModelShape, loading: Loading, cells: int, tokens: int) -> int:
    """Without flash attention, every token's weight for every cell and head is written out."""
    layers = [layer for layer in shape.layers if layer.key]
    if not layers:
        return 0
    heads, width = shape.head_count or 0, shape.embedding_length or 0
    length = shape.key_length or 0
    rotated = shape.metadata.get(f"{shape.architecture}.rope.dimension_count")
    in_part = isinstance(rotated, int) and rotated < length and not shape.kv_lora_rank
    queries = heads * length
    numbers = (2 + in_part) * queries + max(layer.key + layer.value for layer in layers)
    kind = shape.feed_forward_kind
    if loading.flash_attention:
        return tokens * ((4 if kind == "plain" else 2) * width + numbers)
    widths = {"gated": 3, "fused": 1, "plain": 5}[kind]
    return tokens * (cells * heads + widths * width + numbers)


def _recurrent(shape: ModelShape, loading: Loading, tokens: int) -> int:
    state = max((layer.state for layer in shape.layers), default=0)
    inner = shape.metadata.get(f"{shape.architecture}.ssm.inner_size")
    width = inner if isinstance(inner, int) else shape.embedding_length or 0
    return (13 * tokens * width // 2 + loading.parallel * state) if state else 0


def _largest_tensor(shape: ModelShape) -> int:
    """What a GPU borrows of the CPU's layers for a long prompt, one matrix at a time."""
    return max((t.size_bytes for t in shape.tensors if t.name.startswith("blk.")), default=0)
