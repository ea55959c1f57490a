"""The shape of a local model: its sizes as the header of its file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["EXPERT_TENSORS", "LayerShape", "ModelShape", "SplitInfo", "TensorInfo", "Value"]

Value: TypeAlias = bool | int | float | str | tuple[bool | int | float, ...]
"""A value of a header. Arrays of texts and arrays of many numbers are counted, not kept."""


EXPERT_TENSORS = r"\.ffn_(up|down|gate|gate_up)_(ch)?exps"
"""What llama.cpp calls the tensors of experts, behind the name of their layer."""


class TensorInfo(NamedTuple):
    """A tensor's description. ``shape`` is in elements, the contiguous dimension first.

    ``type_label`` says how its numbers are stored, such as "Q4_K". ``size_bytes`` is without
    padding, except for a ``type_number`` that nbllm does not know. A listing reads hundreds of
    thousands of them, and a tuple is made in a tenth of a dataclass's time.
    """

    name: str
    shape: tuple[int, ...]
    type_number: int
    type_label: str
    elements: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """Which part of a model in several files this one is; ``index`` counts from 0."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The bytes of one layer's ``weights``, and what it remembers, counted in numbers.

    ``key`` and ``value`` are kept for each token of the context, or, where it is ``sliding``, for
    each of the last tokens only. ``state`` is kept for each sequence, however long it is: that of
    a recurrent layer. ``experts`` are those of the weights of which a token uses a few only, those
    of a mixture of experts.
    """

    key: int = 0
    value: int = 0
    sliding: bool = False
    state: int = 0
    weights: int = 0
    experts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model's sizes, as its header gives them; None where it does not.

    ``kind`` is "model", "adapter", "mmproj" and the like. ``context_length`` is in tokens, what
    the model was trained for. ``head_counts_kv`` has one number for each of the ``block_count``
    layers, 0 for a layer without attention. ``key_length`` and ``value_length`` are the
    elements of one head, ``feed_forward_length`` those of the widest layer between two
    attentions. ``kv_lora_rank`` is the width of the one vector that multi-head latent attention
    (MLA) keeps for a token, 0 without it. ``sliding_window`` is how many tokens back sliding
    ``layers`` look, 0 where there are none. ``parameter_count`` counts the weights.
    ``vocabulary_bytes`` is what llama.cpp's tables for the tokenizer take in memory.
    ``input_bytes`` are those of the tables before the first layer, ``output_bytes`` of what comes
    after the last one; ``shares_embeddings`` says that the output uses the input's table.
    ``quantization`` is the usual name, such as "Q4_K_M". ``tensor_bytes`` are the weights in the
    file, ``file_size_bytes`` all of it, of all parts where the model is split. ``metadata`` has
    every key of the header but the vocabulary, for what has no field of its own.
    """

    architecture: str
    kind: str
    name: str | None
    file_size_bytes: int
    context_length: int | None
    block_count: int | None
    embedding_length: int | None
    feed_forward_length: int | None
    head_count: int | None
    head_counts_kv: tuple[int, ...] = field(repr=False)
    key_length: int | None
    value_length: int | None
    kv_lora_rank: int
    sliding_window: int
    layers: tuple[LayerShape, ...] = field(repr=False)
    expert_count: int
    expert_used_count: int
    vocabulary_size: int | None
    vocabulary_bytes: int
    parameter_count: int
    quantization: str | None
    tensor_bytes: int
    input_bytes: int
    output_bytes: int
    shares_embeddings: bool
    chat_template: str | None = field(repr=False)
    split: SplitInfo | None
    byte_order: Literal["little", "big"]
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    metadata: Mapping[str, Value] = field(repr=False, compare=False)

    @property
    def bits_per_weight(self) -> float | None:
        """The mean over all weights; None where there are none."""
        return self.tensor_bytes * 8 / self.parameter_count if self.parameter_count else None

    @property
    def feed_forward_kind(self) -> Literal["plain", "gated", "fused"]:
        """Two matrices, three with a gate, or two of which the first holds the gate too."""
        if any("ffn_gate" in tensor.name for tensor in self.tensors):
            return "gated"
        doubled = 2 * (self.feed_forward_length or 0)
        fused = any(
            t.name.endswith("ffn_up.weight") and t.shape[-1] == doubled for t in self.tensors
        )
        return "fused" if fused else "plain"

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """The bytes of the weights by how they are stored, the most first."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type_label] = sizes.get(tensor.type_label, 0) + tensor.size_bytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    @property
    def largest_matrix_bytes(self) -> int:
        """The bytes of the largest tensor of a layer."""
        return max((t.size_bytes for t in self.tensors if t.name.startswith("blk.")), default=0)

    @property
    def is_recurrent(self) -> bool:
        """Whether a layer keeps a state, of which no part can be forgotten."""
        return any(layer.state for layer in self.layers)
