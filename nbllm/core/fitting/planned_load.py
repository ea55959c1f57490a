"""How a model is loaded, as far as its memory depends on it."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.core.fitting.model_shape import ModelShape
from nbllm.core.placement import MOST_OUTPUTS, KvType

__all__ = ["CPU", "Loading", "layer_devices", "most_outputs"]

CPU = "CPU"
_CELLS = 256
_LOGIT_BYTES = 4
_LOGITS_BYTES, _LOGITS_SHARE = 4 * 2**20, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """A load, on the CPU unless it names others.

    ``gpus`` are names of devices, ``split`` the share of the layers on each (empty: equal), and
    ``gpu_layers`` the layers on them, of which the output is the first, then the last layers.
    ``most_outputs`` bounds the tokens of a batch that have logits. ``adapter_bytes`` are the
    weights of the LoRA adapters.
    ``kept_bytes`` is what the worker may put aside of the keys and values of earlier prompts;
    with ``batch_invariant`` it brings them into order now and then, ``PIECE_CELLS`` at a time.
    The experts of the first ``cpu_experts`` layers are in the main memory wherever the layers are.
    Without ``kv_unified`` each of the ``parallel`` requests has its own share of the context.
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
    cpu_experts: int = 0
    kv_unified: bool = True

    @property
    def cells(self) -> int:
        """The cells that llama.cpp makes of the context."""
        return self.seen_cells if self.kv_unified else self.parallel * self.seen_cells

    @property
    def tokens(self) -> int:
        """The tokens of a batch."""
        return min(self.batch_tokens, self.cells)

    @property
    def seen_cells(self) -> int:
        """Those of them that attention looks at for a token, at most."""
        shares = 1 if self.kv_unified else self.parallel
        return _CELLS * -(-self.context_length // (shares * _CELLS))


def most_outputs(shape: ModelShape) -> int:
    """How many tokens of a batch may have logits, whose memory grows with the vocabulary.

    All of them take a 12th of the weights at most, or 4 MiB where that is more. llama.cpp holds
    them twice: where they are computed, and in an output buffer, which grows when so many are
    asked for.
    """
    room = max(_LOGITS_BYTES, shape.tensor_bytes // _LOGITS_SHARE)
    return min(MOST_OUTPUTS, max(1, room // (_LOGIT_BYTES * (shape.vocabulary_size or 1))))


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
