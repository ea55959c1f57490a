"""How a local model is put into memory: the load options, each declared once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Literal

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_table import (
    ADAPTERS,
    SWITCH,
    OptionSet,
    choice,
    integer,
    made,
    option,
    seconds,
    with_reference,
)
from nbllm.core.paths import absolute_path, expanded
from nbllm.core.placement import KV_TYPES, KvType
from nbllm.core.texts import shown
from nbllm.core.words import size_of, size_words

__all__ = ["LoadOptions", "located", "template_path"]

_LEAST_DISK_BYTES = 16 * 2**20
_MOST_SERVERS = 16  # what llama.cpp can hold
_SERVER = re.compile(
    r"(?P<host>[a-z0-9]([a-z0-9._-]{0,252}[a-z0-9])?):(?P<port>\d{1,5})", re.I | re.A
)
_ONE_GPU = r"gpu ?(\d{1,3})(?: ?mig ?(\d{1,3}))?"
_DEVICE = re.compile(rf"cpu|gpu|{_ONE_GPU}(?: ?[+,] ?{_ONE_GPU})*", re.ASCII)


def _model_name(name: str, value: object) -> str:
    """A model's name, or its path as a text."""
    if not isinstance(value, str | PurePath) or not str(value) or "\0" in str(value):
        raise InvalidOptionError(name, f"must be a path or a model's name (got {shown(value)})")
    return str(value)


def _disk_size(name: str, value: object) -> int:
    """A size in bytes, from one or from a text with a unit."""
    size = size_of(value) if isinstance(value, str) else value
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        problem = f"must be a size such as 2GiB, or a number of bytes (got {shown(value)})"
        raise InvalidOptionError(name, problem)
    if 0 < size < _LEAST_DISK_BYTES:
        problem = f"must be 0 or at least {size_words(_LEAST_DISK_BYTES)} (got {shown(value)})"
        raise InvalidOptionError(name, problem)
    return size


def _servers(name: str, value: object) -> tuple[str, ...]:
    """RPC servers as "host:port", from one or several; each once. Raises ``InvalidOptionError``."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        raise InvalidOptionError(name, f'must be "host:port", or a list of it (got {shown(value)})')
    servers = tuple(dict.fromkeys(_server(name, each) for each in given))
    if len(servers) > _MOST_SERVERS:
        problem = f"must be at most {_MOST_SERVERS} servers (got {len(servers)})"
        raise InvalidOptionError(name, problem)
    return servers


def _server(name: str, value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    found = _SERVER.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 2**16:
        problem = f'must be "host:port", such as "192.168.1.20:50052" (got {shown(value)})'
        raise InvalidOptionError(name, problem)
    return f"{found['host'].lower()}:{int(found['port'])}"


def _template(name: str, value: object) -> str:
    """A chat template, or its path as a text."""
    if not isinstance(value, str | PurePath) or not str(value).strip():
        problem = f"must be a path or a template (got {shown(value)})"
        raise InvalidOptionError(name, problem)
    path = None if isinstance(value, str) and not template_path(value) else Path(value)
    try:
        return str(value) if path is None else str(expanded(path))
    except ValueError as error:
        raise InvalidOptionError(name, f"{shown(value)}: {error}") from None


def _device_name(name: str, value: object) -> str:
    """A device as placements call it: "gpu0,gpu1" becomes "GPU 0 + GPU 1".

    An instance of a divided GPU is "GPU 0 MIG 1".
    """
    if not isinstance(value, str) or not _DEVICE.fullmatch(value.strip().lower()):
        problem = f'must be "CPU", "GPU", or GPUs such as "GPU 0 + GPU 1" (got {shown(value)})'
        raise InvalidOptionError(name, problem)
    labels = dict.fromkeys(
        f"GPU {int(index)}" + (f" MIG {int(part)}" if part else "")
        for index, part in re.findall(_ONE_GPU, value.lower())
    )
    return " + ".join(labels) or value.strip().upper()


_load = partial(option, affects_answer=False)


@with_reference
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoadOptions(OptionSet):
    """How to put a local model into memory. None leaves the choice to nbllm."""

    device: str | None = _load(
        made(_device_name, "CPU, GPU, or GPUs such as GPU 0 + GPU 1"),
        "CPU, GPU (whichever fit), or GPUs by their index: GPU0, GPU0+GPU1 and so on.",
        flags=("--device",),
        metavar="DEVICE",
    )
    context_length: int | None = _load(
        integer(16, 2**31 - 1),
        "Context length, in tokens.",
        "All requests that run at the same time share it.",
        flags=("--ctx",),
        affects_answer=True,
    )
    kv_type: KvType | None = _load(
        choice(*KV_TYPES),
        "KV cache type; q8_0 takes half the memory of f16, q4_0 a quarter.",
        flags=("--kv",),
        affects_answer=True,
    )
    flash_attention: bool | None = _load(
        SWITCH,
        "Turned off, attention takes more memory, and the KV cache cannot be quantized.",
        "By default it is on wherever the device can. With kv_unified turned off, turning this off "
        "too can double the speed of answers behind long prompts on a CPU; %llm_bench compares "
        "them, and later loads use the faster.",
        flags=("--no-flash-attention",),
    )
    gpu_layers: int | None = _load(
        integer(-1, 2**31 - 1),
        "Number of layers to offload to GPUs; -1 for all.",
        flags=("--gpu-layers",),
    )
    cpu_experts: int | None = _load(
        integer(-1, 2**31 - 1),
        "Of a mixture of experts on GPUs, keep the experts of the first N layers in main memory; "
        "-1 for all layers, 0 for none.",
        flags=("--cpu-experts",),
    )
    threads: int | None = _load(
        integer(1, 1024),
        "Number of CPU threads.",
        "Without it as many are used as other processes leave cores.",
        flags=("--threads",),
    )
    parallel: int | None = _load(
        integer(1, 256), "Maximum number of concurrent requests.", flags=("--parallel",)
    )
    kv_unified: bool | None = _load(
        SWITCH,
        "Turned off, each of the concurrent requests has an equal share of the context to itself: "
        "faster where many prompts at a time have nothing in common.",
        "No request can be longer than its share then, which is at least 256 tokens. A beginning "
        "that prompts have in common is still read once, but takes memory for each of them. By "
        "default all requests take what they need from one KV cache, and share common beginnings "
        "there.",
        flags=("--no-kv-unified",),
    )
    mmap: bool | None = _load(
        SWITCH,
        "Turned off, the weights are read into memory; turned on, they are mapped from the file, "
        "which starts at once and shares them with other processes.",
        "By default they are mapped wherever the devices can use that.",
        flags=("--no-mmap",),
    )
    mlock: bool | None = _load(
        SWITCH,
        "Lock the weights in memory, so that the system never swaps or drops them. Refused where "
        "the system's limit for locked memory is too low.",
        flags=("--mlock",),
    )
    direct_io: bool | None = _load(
        SWITCH,
        "Read the weights around the page cache, which a file larger than the free memory would "
        "fill for nothing when it goes to GPUs.",
        flags=("--direct-io",),
    )
    numa: Literal["distribute", "isolate", "numactl"] | None = _load(
        choice("distribute", "isolate", "numactl"),
        "How threads are placed on a Linux machine with several NUMA nodes: spread over all of "
        "them, kept on the one where the load began, or as numactl says. Without effect elsewhere.",
        flags=("--numa",),
    )
    keep_alive: float | None = _load(
        seconds(0, 1e9),
        "Unload the model after this idle time: 90, 90s, 10m, 2h. By default it stays loaded until "
        "another model needs the memory.",
        "Cloud models are unloaded too.",
        flags=("--keep-alive",),
    )
    prefix_cache_mib: int | None = _load(
        integer(0, 2**24),
        "How much memory, in MiB, may keep prompts that had to leave the context, so that they "
        "are not read again. By default none.",
    )
    prefix_cache_disk: int | None = _load(
        made(_disk_size, "a size such as 2GiB, or a number of bytes", metavar="SIZE"),
        "Save the model's prompts and conversations to disk (nbllm's cache folder), up to this "
        "size, such as 2GiB, so that they are not processed again after an unload or a restart of "
        "the kernel.",
        "By default nothing is saved.",
        flags=("--prefix-cache-disk",),
    )
    adapters: tuple[tuple[str, float], ...] | None = _load(
        ADAPTERS,
        "LoRA adapters (GGUF) for the model; the scale defaults to 1.",
        "They stay as long as the model is loaded; a request may give them other scales "
        "(GenerationOptions.adapters).",
        flags=("--adapter",),
        metavar="FILE=SCALE",
    )
    draft_model: str | None = _load(
        made(_model_name, "a path or a model's name"),
        "A small draft model with the same vocabulary, for speculative decoding.",
        "A GGUF, or the name of a known model, which is loaded beside the model and drafts tokens "
        "for it to check, wherever that is measured to be faster. Answers stay what they are "
        "without it, sampled ones too.",
        flags=("--draft",),
        metavar="MODEL",
    )
    batch_invariant: bool | None = _load(
        SWITCH,
        "Batch invariance: the same greedy or seeded request gives the same text to the last bit, "
        "whatever else is computed; slower.",
        "It costs speed, a tenth with 500 tokens in "
        "the context and a third with 2,000 of a small model, and memory. It works on the CPU, "
        "for quantizations whose kernels compute token by token (Q4_0, Q4_1 and Q8_0 on "
        "processors with AVX); other models are not loaded.",
        flags=("--batch-invariant",),
        affects_answer=True,
    )
    rpc: tuple[str, ...] | None = _load(
        made(_servers, "host:port, or a list of it", metavar="HOST:PORT", repeats=True),
        "A machine that runs llama.cpp's ggml-rpc-server, whose memory is used too; for trusted "
        "networks only.",
        "Its memory and processors are used as GPUs are, for a model too large for this machine. "
        "The installed llama.cpp must be built with RPC. Prompts, answers and weights go there "
        "unencrypted, and whoever can reach a server can take it over. A server at a public "
        "address is refused unless rpc_public is set.",
        flags=("--rpc",),
    )
    rpc_public: bool | None = _load(
        SWITCH, "Allow RPC servers at public addresses, unencrypted.", flags=("--rpc-public",)
    )
    chat_template: str | None = _load(
        made(_template, "a path, or a template, which contains a brace"),
        "A Jinja chat template, or the path of one, to use instead of the one in the model's file.",
        flags=("--chat-template",),
        metavar="FILE",
        affects_answer=True,
    )

    def _check_together(self) -> None:
        if self.flash_attention is False and self.kv_type not in (None, "f16"):
            problem = f"{self.kv_type} requires flash attention, which is turned off"
            raise InvalidOptionError("kv_type", problem)
        if self.direct_io and (self.mmap or self.mlock):
            raise InvalidOptionError("direct_io", "cannot be combined with mmap or mlock")
        if self.rpc and self.device == "CPU":
            raise InvalidOptionError("rpc", "cannot be combined with device CPU")
        if self.batch_invariant:
            self._check_invariance()
        if self.kv_unified is False:
            self._check_shares()

    @property
    def leaves_attention_open(self) -> bool:
        """Whether flash attention is neither set nor required, and either may be the faster.

        Without it all cells up to the last one in use are computed, so that a KV cache that all
        requests share, which keeps the prompts of before, requires it.
        """
        is_required = self.batch_invariant or self.kv_type not in (None, "f16")
        return self.flash_attention is None and self.kv_unified is False and not is_required

    def _check_invariance(self) -> None:
        if self.flash_attention is False:
            raise InvalidOptionError("batch_invariant", "requires flash attention")
        if self.gpu_layers or self.rpc or self.device not in (None, "CPU"):
            problem = "cannot be combined with a GPU or RPC servers; it works on the CPU only"
            raise InvalidOptionError("batch_invariant", problem)

    def _check_shares(self) -> None:
        for name in ("batch_invariant", "prefix_cache_mib", "prefix_cache_disk"):
            if getattr(self, name):
                problem = f"cannot be turned off together with {name}"
                raise InvalidOptionError("kv_unified", problem)


def template_path(chat_template: str) -> Path | None:
    """The path that ``LoadOptions.chat_template`` names; None where it is the template itself."""
    return None if "{" in chat_template else Path(chat_template)


def located(options: LoadOptions) -> LoadOptions:
    """These options with absolute paths of adapters: the engine runs in another folder.

    Raises ``InvalidOptionError``.
    """
    if not options.adapters:
        return options
    try:
        adapters = tuple((str(absolute_path(path)), scale) for path, scale in options.adapters)
    except ValueError as error:
        raise InvalidOptionError("adapters", str(error)) from None
    return options.replaced(adapters=adapters)
