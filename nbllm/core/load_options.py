"""How a local model is put into memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_checks import adapters_of, check_number
from nbllm.core.paths import expanded
from nbllm.core.placement import KV_TYPES, KvType
from nbllm.core.reprs import brief_repr
from nbllm.core.texts import shown

__all__ = ["LoadOptions", "template_path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to put a local model into memory. None leaves the choice to nbllm.

    ``device`` is "CPU", "GPU" (whichever fit), or GPUs by their index: "GPU 0", "GPU 0 + GPU 1".
    ``context_length`` is in tokens, shared by all requests that run at the same time.
    ``kv_type`` says how keys and values are stored ("q8_0" takes half of "f16", "q4_0" a
    quarter), ``flash_attention`` whether attention is computed in blocks, without which keys and
    values cannot be quantized. ``gpu_layers`` counts the layers on GPUs (-1: all); of a
    mixture of experts on GPUs, the experts of the first ``cpu_experts`` layers stay in the main
    memory (-1: of all, 0: of none). ``threads`` is
    the number of CPU threads; without it as many are used as other processes leave cores.
    ``parallel`` bounds the requests that are answered at the same time. After ``keep_alive``
    seconds without a request the model is unloaded, cloud models too; without it, it stays until
    it is unloaded or its memory is needed for another. ``prefix_cache_mib`` is how much memory, in
    MiB, may keep prompts that had to leave the context, so that they are not read again (0, as
    without it: none). ``adapters`` are LoRA files for this model with their scales, as pairs or as
    a mapping; a path alone has the scale 1. They stay as long as the model is loaded; a request
    may give them other scales (``GenerationOptions.adapters``).

    ``draft_model`` is a much smaller model with the same vocabulary, a GGUF or the name of one that
    ``ModelManager.load_model`` knows. It is loaded beside the model and guesses its next words,
    several of which the model checks in one step: wherever it is measured to be faster. Answers
    stay what they are without it, sampled ones too.

    ``batch_invariant`` keeps each answer from depending, even in its last bit, on what else is
    computed at the same time, on what is in the context, and on the number of threads: the same
    greedy or seeded request always gives the same text. It costs speed, a tenth with 500 tokens in
    the context and a third with 2,000 of a small model, and memory for moving the context about.
    It works on the CPU, for the quantizations whose kernels compute token by token (Q4_0, Q4_1 and
    Q8_0 on processors with AVX); a model for which that does not hold is not loaded.

    ``rpc`` are RPC servers of llama.cpp ("host:port"): processes ``ggml-rpc-server`` on other
    machines, whose memory and processors are used as GPUs are, for a model too large for this
    machine. The installed llama.cpp must be built with RPC. Prompts, answers and weights go there
    unencrypted, and whoever can reach a server can take it over: for trusted networks only. A
    server at a public address is refused unless ``rpc_public`` is set.

    ``chat_template`` replaces the chat template of the model's file: the path of a file in Jinja,
    or the template itself, which is a text with a brace in it.
    """

    device: str | None = None
    context_length: int | None = None
    kv_type: KvType | None = None
    flash_attention: bool | None = None
    gpu_layers: int | None = None
    cpu_experts: int | None = None
    threads: int | None = None
    parallel: int | None = None
    keep_alive: float | None = None
    prefix_cache_mib: int | None = None
    adapters: tuple[tuple[str, float], ...] | None = None
    draft_model: str | None = None
    batch_invariant: bool | None = None
    rpc: tuple[str, ...] | None = None
    rpc_public: bool | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapters", adapters_of(self.adapters))
        object.__setattr__(self, "rpc", _servers(self.rpc))
        object.__setattr__(self, "draft_model", _model_name(self.draft_model))
        object.__setattr__(self, "chat_template", _template(self.chat_template))
        check_number("keep_alive", self.keep_alive, 0, _MAX_KEEP_ALIVE_SECONDS)
        for name, (low, high) in _LOAD_RANGES.items():
            check_number(name, getattr(self, name), low, high, whole=True)
        if self.device is not None:
            object.__setattr__(self, "device", _device_name(self.device))
        if not isinstance(self.kv_type, str | None) or self.kv_type not in (None, *KV_TYPES):
            problem = f"must be one of {', '.join(KV_TYPES)} (got {shown(self.kv_type)})"
            raise InvalidOptionError("kv_type", problem)
        for name in ("flash_attention", "batch_invariant", "rpc_public"):
            value = getattr(self, name)
            if not isinstance(value, bool | None):
                raise InvalidOptionError(name, f"must be True or False (got {shown(value)})")
        if self.flash_attention is False and self.kv_type not in (None, "f16"):
            problem = f"{self.kv_type} requires flash attention, which is turned off"
            raise InvalidOptionError("kv_type", problem)
        if self.rpc and self.device == "CPU":
            raise InvalidOptionError("rpc", "cannot be combined with device CPU")
        if self.batch_invariant:
            self._check_invariance()

    def _check_invariance(self) -> None:
        if self.flash_attention is False:
            raise InvalidOptionError("batch_invariant", "requires flash attention")
        if self.gpu_layers or self.rpc or self.device not in (None, "CPU"):
            problem = "cannot be combined with a GPU or RPC servers; it works on the CPU only"
            raise InvalidOptionError("batch_invariant", problem)

    def merged(self, over: LoadOptions) -> LoadOptions:
        """These options with every value that ``over`` sets in its place."""
        return replace(self, **over.set_values())

    __repr__ = brief_repr

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


_MAX_KEEP_ALIVE_SECONDS = 1e9
_LOAD_RANGES: dict[str, tuple[float, float]] = {
    "context_length": (16, 2**31 - 1),
    "gpu_layers": (-1, 2**31 - 1),
    "cpu_experts": (-1, 2**31 - 1),
    "threads": (1, 1024),
    "parallel": (1, 256),
    "prefix_cache_mib": (0, 2**24),
}
_MOST_SERVERS = 16  # what llama.cpp can hold
_SERVER = re.compile(
    r"(?P<host>[a-z0-9]([a-z0-9._-]{0,252}[a-z0-9])?):(?P<port>\d{1,5})", re.I | re.A
)
_ONE_GPU = r"gpu ?(\d{1,3})(?: ?mig ?(\d{1,3}))?"
_DEVICE = re.compile(rf"cpu|gpu|{_ONE_GPU}(?: ?[+,] ?{_ONE_GPU})*", re.ASCII)


def _model_name(value: object) -> str | None:
    """A model's name, or its path as a text."""
    if value is None:
        return None
    if not isinstance(value, str | PurePath) or not str(value) or "\0" in str(value):
        raise InvalidOptionError(
            "draft_model", f"must be a path or a model's name (got {shown(value)})"
        )
    return str(value)


def _servers(value: object) -> tuple[str, ...] | None:
    """RPC servers as "host:port", from one or several; each once. Raises ``InvalidOptionError``."""
    if value is None:
        return None
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        raise InvalidOptionError(
            "rpc", f'must be "host:port", or a list of it (got {shown(value)})'
        )
    servers = tuple(dict.fromkeys(_server(each) for each in given))
    if len(servers) > _MOST_SERVERS:
        problem = f"must be at most {_MOST_SERVERS} servers (got {len(servers)})"
        raise InvalidOptionError("rpc", problem)
    return servers


def _server(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    found = _SERVER.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 2**16:
        problem = f'must be "host:port", such as "192.168.1.20:50052" (got {shown(value)})'
        raise InvalidOptionError("rpc", problem)
    return f"{found['host'].lower()}:{int(found['port'])}"


def _template(value: object) -> str | None:
    """A chat template, or its path as a text."""
    if value is None:
        return None
    if not isinstance(value, str | PurePath) or not str(value).strip():
        problem = f"must be a path or a template (got {shown(value)})"
        raise InvalidOptionError("chat_template", problem)
    path = None if isinstance(value, str) and not template_path(value) else Path(value)
    try:
        return str(value) if path is None else str(expanded(path))
    except ValueError as error:
        raise InvalidOptionError("chat_template", f"{shown(value)}: {error}") from None


def template_path(chat_template: str) -> Path | None:
    """The path that ``LoadOptions.chat_template`` names; None where it is the template itself."""
    return None if "{" in chat_template else Path(chat_template)


def _device_name(value: object) -> str:
    """A device as placements call it: "gpu0,gpu1" becomes "GPU 0 + GPU 1".

    An instance of a divided GPU is "GPU 0 MIG 1".
    """
    if not isinstance(value, str) or not _DEVICE.fullmatch(value.strip().lower()):
        raise InvalidOptionError(
            "device",
            f'must be "CPU", "GPU", or GPUs such as "GPU 0 + GPU 1" (got {shown(value)})',
        )
    labels = dict.fromkeys(
        f"GPU {int(index)}" + (f" MIG {int(part)}" if part else "")
        for index, part in re.findall(_ONE_GPU, value.lower())
    )
    return " + ".join(labels) or value.strip().upper()
