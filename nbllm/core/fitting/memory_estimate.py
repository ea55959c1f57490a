"""What a model takes in memory, computed from its shape: the instant answer.

Weights, keys and values, and states are sums of what llama.cpp allocates (``llama_kv_cache``,
``llama_kv_cache_iswa``, ``llama_memory_recurrent``: 256 cells at a time, sliding layers kept
whole so that prefixes can be used again). What a computation takes depends on how ggml's
allocator packs a graph; ``_compute`` models the graphs' widest moments, and its factors were
fitted to llama.cpp's own reports (``tests/local/test_memory_estimate.py`` compares).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nbllm.core.fitting.model_shape import LayerShape, ModelShape
from nbllm.core.fitting.planned_load import CPU, Loading, layer_devices, most_outputs
from nbllm.core.hardware.engine_devices import is_server
from nbllm.core.placement import MemoryParts, output_rows

__all__ = [
    "PIECE_CELLS",
    "estimate",
    "estimate_with_draft",
    "layer_bytes",
]

_F32 = 4
PIECE_CELLS = 64
"""So many cells are outside the context at once while a worker brings them into order."""
_COPIES = 4  # of each input, where several GPUs work on successive batches at the same time
_BITS = {"f16": 16.0, "q8_0": 8.5, "q4_0": 4.5}
# The resident memory of a worker with Python, numpy and llama.cpp after its first answers, and
# what CUDA takes on a GPU for its context and libraries.
_PROCESS_BYTES = 47 * 2**20
_GPU_CONTEXT_BYTES = 400 * 2**20


def estimate(shape: ModelShape, loading: Loading) -> dict[str, MemoryParts]:
    """The bytes on each device by part; the CPU's come first and are always there."""
    devices = layer_devices(len(shape.layers), loading)
    used = loading.gpus if loading.gpu_layers else ()
    cells = loading.cells
    weights, kv = _stored(shape, loading, devices, used)
    row = (shape.vocabulary_size or 0) * _F32
    growth = (_rows(shape, loading) - loading.parallel) * row
    process = _PROCESS_BYTES + shape.vocabulary_bytes + growth + loading.kept_bytes
    process += _workspace(shape, loading) if CPU in devices else 0
    process += kv[CPU] * min(PIECE_CELLS, cells) // cells if loading.batch_invariant else 0
    mixed = CPU in devices or loading.cpu_experts > 0
    copies = _COPIES if len(used) > 1 and not mixed else 1
    on_cpu = (
        _compute(shape, loading, _feed_forward(shape))
        if CPU in devices
        else _inputs(shape, loading, copies)
    )
    parts = {
        CPU: MemoryParts(
            weights=weights[CPU],
            kv=kv[CPU],
            compute=on_cpu + loading.parallel * row,
            overhead=process,
        )
    }
    for gpu in used:
        compute = _compute(shape, loading, _feed_forward_on(gpu, shape, loading, devices))
        compute += _piped(shape, loading, copies) if copies > 1 else 0
        if mixed and not is_server(gpu):  # it borrows the CPU's matrices for a long prompt, by one
            compute += shape.largest_matrix_bytes
        parts[gpu] = MemoryParts(
            weights=weights[gpu],
            kv=kv[gpu],
            compute=compute,
            overhead=0 if is_server(gpu) else _GPU_CONTEXT_BYTES,
        )
    return parts


def layer_bytes(shape: ModelShape, loading: Loading) -> list[int]:
    """What each layer keeps on its device, and the output at the end."""
    cells = loading.cells
    sizes = [
        layer.weights
        - (layer.experts if number < loading.cpu_experts else 0)
        + _memory_of(layer, cells, loading)
        for number, layer in enumerate(shape.layers)
    ]
    return [*sizes, shape.output_bytes + shape.shares_embeddings * shape.input_bytes]


def _stored(
    shape: ModelShape, loading: Loading, devices: list[str], used: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """The bytes of weights, and of keys, values and states, on each device."""
    cells = loading.cells
    weights, kv = dict.fromkeys([CPU, *used], 0), dict.fromkeys([CPU, *used], 0)
    for number, (layer, device) in enumerate(zip(shape.layers, devices, strict=False)):
        experts = layer.experts if number < loading.cpu_experts else 0
        weights[device] += layer.weights - experts
        weights[CPU] += experts
        kv[device] += _memory_of(layer, cells, loading)
    weights[CPU] += shape.input_bytes
    weights[devices[-1]] += shape.output_bytes
    if devices[-1] != CPU and shape.shares_embeddings:
        weights[devices[-1]] += shape.input_bytes  # a copy, for the GPU computes with it too
    for device, added in _adapters(shape, loading, devices).items():
        weights[device] += added
    return weights, kv


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
            kv_unified=True,
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


def _compute(shape: ModelShape, loading: Loading, wide: int) -> int:
    """The buffer that ggml's allocator makes for a batch: its inputs and its widest moment.

    ``wide`` are the numbers of a token between the matrices of a layer. After the last layer the
    masks are not needed any more and make room for the logits, but for what has come into their
    place meanwhile.
    """
    tokens = loading.tokens
    rows = min(_rows(shape, loading), tokens)
    masks = _masks(shape, loading)
    layers = _F32 * max(
        tokens * wide,
        _attention(shape, loading),
        _recurrent(shape, loading),
    )
    states = _F32 * rows * 4 * (shape.embedding_length or 0)
    logits = _F32 * rows * (shape.vocabulary_size or 0)
    return max(masks + layers, min(masks, states) + states + logits) + 24 * tokens


def _rows(shape: ModelShape, loading: Loading) -> int:
    """The tokens of a batch that have logits at most."""
    most = min(loading.most_outputs, most_outputs(shape))
    return output_rows(loading.parallel, loading.tokens, most)


def _masks(shape: ModelShape, loading: Loading) -> int:
    """Which cell each token sees: once for layers that slide, once for those that do not."""
    kinds = len({layer.sliding for layer in shape.layers if layer.key})
    size = 2 if loading.flash_attention else 4
    return kinds * loading.seen_cells * loading.tokens * size


def _workspace(shape: ModelShape, loading: Loading) -> int:
    """What the CPU's backend converts of a matrix before it multiplies; in no report of buffers.

    The widest is 8-bit numbers between the feed-forward's matrices, or the attention's 16-bit
    weights.
    """
    wide = (shape.feed_forward_length or 0) * 9 // 8
    weights = 0 if loading.flash_attention else 2 * loading.seen_cells * (shape.head_count or 0)
    return loading.tokens * max(wide, weights)


def _inputs(shape: ModelShape, loading: Loading, copies: int) -> int:
    """What the CPU prepares for the GPUs, and the experts that it computes for them."""
    tokens, embeddings = loading.tokens, _embeddings(shape, loading)
    experts = tokens * _feed_forward(shape) * _F32 if loading.cpu_experts else 0
    inputs = embeddings + _masks(shape, loading) + 24 * tokens
    return max(experts, copies * inputs) + embeddings


def _piped(shape: ModelShape, loading: Loading, copies: int) -> int:
    """What a GPU takes for the batches that the others work on meanwhile."""
    masks, embeddings = _masks(shape, loading), _embeddings(shape, loading)
    return (copies - 1) * masks + copies * embeddings


def _embeddings(shape: ModelShape, loading: Loading) -> int:
    """What a layer hands to the next, for a batch."""
    return loading.tokens * (shape.embedding_length or 0) * _F32


def _feed_forward_on(gpu: str, shape: ModelShape, loading: Loading, devices: Sequence[str]) -> int:
    """As ``_feed_forward``, on a GPU: what a layer begins with is one of its inputs.

    Of a mixture of experts only the shared ones are left where the others are in main memory. The
    last layer does not count, which computes for the few tokens whose logits are asked for.
    """
    mine = [
        layer.experts > 0 and number >= loading.cpu_experts
        for number, (layer, device) in enumerate(zip(shape.layers[:-1], devices, strict=False))
        if device == gpu
    ]
    if loading.cpu_experts and not any(mine):
        length = shape.metadata.get(f"{shape.architecture}.expert_shared_feed_forward_length")
        return 3 * length if isinstance(length, int) else 0
    return _feed_forward(shape) - (shape.embedding_length or 0)


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


def _attention(shape: ModelShape, loading: Loading) -> int:
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
        return loading.tokens * ((4 if kind == "plain" else 2) * width + numbers)
    widths = {"gated": 3, "fused": 1, "plain": 5}[kind]
    # Latent values are views of the keys, and are copied to be transposed; 16 bits each.
    latent = loading.cells * shape.kv_lora_rank // 2
    return loading.tokens * (loading.seen_cells * heads + widths * width + numbers) + latent


def _recurrent(shape: ModelShape, loading: Loading) -> int:
    state = max((layer.state for layer in shape.layers), default=0)
    inner = shape.metadata.get(f"{shape.architecture}.ssm.inner_size")
    width = inner if isinstance(inner, int) else shape.embedding_length or 0
    return (13 * loading.tokens * width // 2 + loading.parallel * state) if state else 0
