"""What a worker is told: first to load a model, then what to do with it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from nbllm.core.placement import KvType
from nbllm.local.ipc.protocol import Cancel, Close, Message, Request

__all__ = [
    "CountTokens",
    "Decide",
    "Detokenize",
    "DiskCache",
    "Embed",
    "Generate",
    "Load",
    "LoadMode",
    "LoadSettings",
    "Rerank",
    "Tokenize",
    "Turn",
    "WorkerOperation",
    "WorkerRequest",
]

Turn: TypeAlias = dict[str, Any]
"""A message as chat templates read it; see ``nbllm.local.worker_requests``."""


LoadMode: TypeAlias = Literal["auto", "none", "mmap", "mlock", "mmap+mlock", "dio"]


class LoadSettings(msgspec.Struct, kw_only=True, frozen=True):
    """What llama.cpp loads a model with.

    ``path`` is the file's name in the bytes of the system. ``gpus`` are indices in llama.cpp's list
    of GPUs and ``tensor_split`` the share of each, ``gpu_layers`` the layers on them, of which the
    output is the first (-1: all). ``flash_attention`` None uses it wherever the device can.
    ``max_outputs`` bounds the tokens of one batch whose logits are asked for: llama.cpp ends the
    process that asks for more. ``sequences`` are those of the context, of which requests use
    ``parallel``. ``batch_invariant``, ``kv_unified``: see ``LoadOptions``. ``rpc`` are the RPC
    servers ("address:port") whose devices are in the list behind the GPUs. ``host_weights`` are the
    bytes of the tensors in main memory, where others are on GPUs. The experts of the first
    ``cpu_experts`` layers are there too. ``load_mode`` is what llama.cpp calls its way to bring
    weights into memory, ``numa`` its way to place threads on nodes.
    """

    path: bytes
    context_length: int
    parallel: int
    sequences: int
    threads: int
    batch_threads: int
    gpus: tuple[int, ...]
    gpu_layers: int
    tensor_split: tuple[float, ...]
    kv_type: KvType
    flash_attention: bool | None
    batch_tokens: int
    max_outputs: int
    batch_invariant: bool
    kv_unified: bool = True
    rpc: tuple[str, ...] = ()
    host_weights: int | None = None
    cpu_experts: int = 0
    load_mode: LoadMode = "auto"
    numa: Literal["distribute", "isolate", "numactl"] | None = None


class DiskCache(msgspec.Struct, kw_only=True, frozen=True):
    """Where prompts are saved that outlive the worker: at most ``limit_bytes`` in ``folder``.

    ``files`` tells the model's files and adapters from all others; ``folder`` is a file's name in
    the bytes of the system.
    """

    folder: bytes
    limit_bytes: int
    files: tuple[str, ...]


class Load(Message, tag="load"):
    """Load a model. Answered by ``LoadProgress``, then ``Ready`` or ``Unloadable``.

    ``yields_cores`` says that fewer threads are used while other processes need the cores,
    ``kept_bytes`` bounds the prompts that are kept outside the context, ``disk`` is where they are
    saved.
    ``adapters`` are LoRA files with their scales, ``chat_template`` replaces the file's, ``draft``
    is the draft model, and ``file_bytes`` the size of the model.
    """

    settings: LoadSettings
    file_bytes: int
    yields_cores: bool
    kept_bytes: int
    disk: DiskCache | None
    adapters: tuple[tuple[bytes, float], ...]
    chat_template: str | None
    draft: LoadSettings | None


class Generate(Request, tag="generate"):
    """Answer ``messages``. Answered by ``AnswerFormat``, ``Progress``, ``Step`` and ``Done``.

    ``options`` are those of the request that are set, checked by the sender. With a ``suffix``,
    what belongs between the one message and it is generated.
    """

    messages: list[Turn]
    options: dict[str, Any]
    suffix: str | None = None


class Decide(Request, tag="decide"):
    """How probable it is that each of ``labels`` is the answer.

    Answered by ``Progress`` and ``Decided``. ``options`` are those of ``Generate``.
    """

    messages: list[Turn]
    labels: list[str]
    options: dict[str, Any]


class Tokenize(Request, tag="tokenize"):
    """Answered by ``Tokenized``."""

    text: str


class Detokenize(Request, tag="detokenize"):
    """Answered by ``Detokenized``."""

    tokens: list[int]


class CountTokens(Request, tag="count"):
    """The tokens of a prompt, ``raw`` without the chat template. Answered by ``TokensCounted``."""

    messages: list[Turn]
    raw: bool = False


class Embed(Request, tag="embed"):
    """Answered by ``Embedded``."""

    texts: list[str]


class Rerank(Request, tag="rerank"):
    """Answered by ``Scores``."""

    query: str
    documents: list[str]


WorkerRequest: TypeAlias = (
    Generate | Decide | Cancel | Tokenize | Detokenize | CountTokens | Embed | Rerank
)
WorkerOperation: TypeAlias = WorkerRequest | Close
"""What a worker reads once its model is loaded."""
