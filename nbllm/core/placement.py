"""Where a model goes on this machine, and what it takes there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

from nbllm.core.words import size_words

__all__ = [
    "KV_TYPES",
    "MOST_OUTPUTS",
    "ContextSettings",
    "KvType",
    "MemoryParts",
    "Placement",
    "ThreadCounts",
    "output_rows",
]

# How many tokens of a batch, and of one request in it, have their logits asked for: guesses of
# the next tokens are checked this way, and more of them in one step have never been worthwhile.
MOST_OUTPUTS, _OUTPUTS_OF_ONE = 64, 32
_AGREES = 0.1  # of the buffers: what the arithmetic and the rounding in llama.cpp's log leave open
_ORDER_SEQUENCES = 2  # what ``nbllm.local.llama.cells`` needs to keep cells in order

KvType: TypeAlias = Literal["f16", "q8_0", "q4_0"]
"""How keys and values are stored; a quantized one needs flash attention."""

KV_TYPES: tuple[KvType, ...] = get_args(KvType)
"""From the most exact to the smallest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryParts:
    """The memory of a model on one device, in bytes.

    ``weights``: its tensors. ``kv``: the KV cache and recurrent states of the whole context.
    ``compute``: compute buffers, outputs included. ``overhead``: what comes with it, such as the
    worker process, a driver's context, tables of the vocabulary or a prefix cache.
    """

    weights: int = 0
    kv: int = 0
    compute: int = 0
    overhead: int = 0

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.kv + self.compute + self.overhead

    @property
    def buffers(self) -> int:
        """What llama.cpp's own report of its buffers covers: all parts but the overhead."""
        return self.total - self.overhead

    def words(self) -> str:
        """The parts for reading: "weights 92 MiB, KV cache 180 MiB, …"."""
        sizes = {"weights": self.weights, "KV cache": self.kv, "compute buffers": self.compute}
        sizes["overhead"] = self.overhead
        return ", ".join(f"{name} {size_words(size)}" for name, size in sizes.items())

    @classmethod
    def sum_of(cls, devices: Iterable[MemoryParts]) -> MemoryParts:
        """The parts of several devices together."""
        each = tuple(devices)
        return cls(
            weights=sum(parts.weights for parts in each),
            kv=sum(parts.kv for parts in each),
            compute=sum(parts.compute for parts in each),
            overhead=sum(parts.overhead for parts in each),
        )


def output_rows(parallel: int, batch_tokens: int, most: int = MOST_OUTPUTS) -> int:
    """See ``Placement.max_outputs``; llama.cpp wants one for each request at least."""
    return max(parallel, min(batch_tokens, most, _OUTPUTS_OF_ONE * parallel))


class ThreadCounts(NamedTuple):
    """CPU threads for writing a token, and for reading many at once."""

    decode: int
    batch: int


class ContextSettings(NamedTuple):
    """How a context computes: with flash attention or not, and how many tokens at a time."""

    flash_attention: bool
    batch_tokens: int

    def words(self) -> str:
        """For reading: "flash attention off, batches of 128 tokens"."""
        switch = "on" if self.flash_attention else "off"
        return f"flash attention {switch}, batches of {self.batch_tokens} tokens"


def _no_reason(placement: Placement) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a local model is loaded, what it takes, and why so.

    ``device`` names where the layers are computed: "CPU", "GPU 0", "GPU 0 + GPU 1" or, partly
    offloaded, "GPU 0 + CPU". ``memory`` has the bytes of each device by its name. ``gpu_layers``
    counts the layers on GPUs, ``gpus`` are their places in llama.cpp's list of devices, and
    ``tensor_split`` the share of each (empty: one GPU or none). The experts of the first
    ``cpu_experts`` layers are in the main memory, where the CPU computes them.
    ``context_length`` is in tokens, shared by ``parallel`` requests; ``most_outputs`` bounds
    ``max_outputs`` by the size of the vocabulary. ``batch_invariant`` says that none of the
    requests changes another's answer. ``exact`` says that the
    bytes are llama.cpp's own, else they are computed from the header. ``is_compromise`` says that
    something was given up (a GPU for some or all layers, or length of the context) or that the
    context is longer than those that the model was trained for. ``explain`` makes the ``reason``.
    """

    device: str
    memory: Mapping[str, MemoryParts]
    context_length: int
    parallel: int
    threads: int
    batch_threads: int
    gpus: tuple[int, ...] = ()
    gpu_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    cpu_experts: int = 0
    kv_type: KvType = "f16"
    flash_attention: bool = True
    batch_tokens: int = 512
    most_outputs: int = MOST_OUTPUTS
    batch_invariant: bool = False
    exact: bool = False
    is_compromise: bool = field(default=False, compare=False)
    explain: Callable[[Placement], str] = field(default=_no_reason, compare=False, repr=False)

    @property
    def reason(self) -> str:
        """Why it is placed here, with what was given up, in a sentence or two."""
        return self.explain(self)

    @property
    def sequences(self) -> int:
        """The sequences of the context: those of the requests, and what keeping order needs."""
        return self.parallel + (_ORDER_SEQUENCES if self.batch_invariant else 0)

    @property
    def max_outputs(self) -> int:
        """For how many tokens of a batch logits can be had: the next one of each request and
        what was guessed of those after it.

        llama.cpp reserves a row of the vocabulary's size for each: 256 MiB for all tokens of a
        batch of 512 with a vocabulary of 128,000.
        """
        return output_rows(self.sequences, self.batch_tokens, self.most_outputs)

    @property
    def buffer_bytes(self) -> int:
        """What llama.cpp's own report of its buffers covers, on all devices."""
        return MemoryParts.sum_of(self.memory.values()).buffers

    @property
    def total_bytes(self) -> int:
        """The model's *memory*: what it takes when it is loaded with these settings.

        Weights, KV cache, compute buffers and overhead on all devices. Every listing, plan, load
        line and refusal shows this figure under this word; the size of a file is told as such.
        """
        return MemoryParts.sum_of(self.memory.values()).total

    def corrected(self, buffer_bytes: int) -> Placement:
        """The same where llama.cpp's report of its buffers, after the load, agrees with it.

        Where it differs by more than a tenth, the arithmetic did not know the model: the
        difference is then added to the compute buffers of the device with the most memory.
        """
        missed = buffer_bytes - self.buffer_bytes
        if abs(missed) <= _AGREES * self.buffer_bytes:
            return self
        device = max(self.memory, key=lambda each: self.memory[each].total)
        parts = self.memory[device]
        compute = max(parts.compute + missed, 0)
        return replace(self, memory={**self.memory, device: replace(parts, compute=compute)})
