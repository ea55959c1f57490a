"""How to answer and how to load: options with the ranges that they are checked against."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.placement import KV_TYPES, KvType

__all__ = ["ENGINE_OPTIONS", "GenerationOptions", "LoadOptions", "Tool"]

ENGINE_OPTIONS = (
    "typical_p",
    "top_n_sigma",
    "dynatemp_range",
    "dynatemp_exponent",
    "xtc_probability",
    "xtc_threshold",
    "repeat_last_n",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_sequence_breakers",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "grammar",
    "ignore_eos",
)
"""Options of llama.cpp, by its server's names; servers like it take them, vendors do not."""

Priority = Literal["interactive", "background"]
OnFull = Literal["stop", "shift"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; ``parameters`` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How to answer. None leaves the choice to the model's config, then to the engine or vendor.

    ``max_tokens`` bounds the answer; without it a local model may go on to the end of its context.
    ``temperature`` 0 is greedy. ``top_p``, ``min_p`` are probabilities, ``top_k`` a count (0: off).
    ``repeat_penalty`` divides (1: off), the other two penalties subtract, as in OpenAI's API.
    The same ``seed`` on the same prompt gives the same text where the engine can promise it.
    Generation ends before any of the ``stop`` strings. ``response_schema`` is a JSON schema that
    the answer must follow. ``reasoning_effort`` is the vendor's word, such as "low" or "high".
    ``extra`` is merged into a vendor's request body as it is.

    ``logit_bias`` adds to the logits of tokens before anything else looks at them: pairs, or a
    mapping, of a token's id or a text, all of whose tokens are meant, and a number; -100 forbids.
    ``logprobs`` asks for the log-probability of each token of the answer, and for those of so many
    of the likeliest in its place (0: of none).

    What follows is llama.cpp's own and stays at its server's defaults unless it is set.
    ``typical_p`` keeps locally typical tokens (1: off), ``top_n_sigma`` those within so many
    standard deviations of the best (0: off). ``dynatemp_range`` lets the temperature move so far
    either way with the entropy, shaped by ``dynatemp_exponent``. XTC drops, with
    ``xtc_probability`` (0: off), all but the least likely of the tokens above ``xtc_threshold``.
    The penalties look back over ``repeat_last_n`` tokens. DRY subtracts ``dry_multiplier`` (0: off)
    times ``dry_base`` to the power of how much longer than ``dry_allowed_length`` a token would
    make a repetition; ``dry_sequence_breakers`` end one. ``mirostat`` 1 or 2 keeps the surprise at
    ``mirostat_tau``, learning at ``mirostat_eta``, in place of every other way to narrow the
    choice. ``grammar`` is GBNF that the answer must follow, its first rule named ``root``.
    ``ignore_eos`` forbids the tokens that end an answer. Generation also ends at any of
    ``stop_tokens``, each an id or the text of one token.

    The next three are of the scheduling of local models. While there are requests of ``priority``
    "interactive", the default, those of "background" are served with what is left. ``on_full`` says
    what happens where the context is full: "stop" ends the answer, "shift" drops the older half of
    all that is behind the system message, and goes on. ``prompt_lookup`` False never guesses words
    by what followed their like before; otherwise that is done as long as it saves time, and
    changes no answer.

    The last four are about time, and are never sent: how many seconds connecting, the first token
    and each pause after it may take, and for how many seconds after a request began a failure is
    answered by another attempt (0: never). Of these, local models know ``stall_timeout``: how long
    their process may give no sign of life, 60 s if nothing is said.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    response_schema: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | None = None
    extra: Mapping[str, Any] | None = None
    logit_bias: tuple[tuple[int | str, float], ...] | None = None
    logprobs: int | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repeat_last_n: int | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    grammar: str | None = None
    ignore_eos: bool | None = None
    stop_tokens: tuple[int | str, ...] | None = None
    priority: Priority | None = None
    on_full: OnFull | None = None
    prompt_lookup: bool | None = None
    connect_timeout: float | None = None
    first_token_timeout: float | None = None
    stall_timeout: float | None = None
    max_retry_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("stop", "dry_sequence_breakers", "stop_tokens"):
            object.__setattr__(self, name, _listed(getattr(self, name)))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        for name, (low, high) in _OPTION_RANGES.items():
            _check_number(name, getattr(self, name), low, high)
        for name in _WHOLE:
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise InvalidOptionError(name, f"{value!r} is not a whole number")
        for name in ("stop", "dry_sequence_breakers"):
            _check_texts(name, getattr(self, name) or ())
        if not all(map(_is_token, self.stop_tokens or ())):
            raise InvalidOptionError("stop_tokens", "give the ids of tokens, or their texts")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise InvalidOptionError(name, f"{value!r} is none of {', '.join(choices)}")
        if not isinstance(self.prompt_lookup, bool | None):
            problem = f"{self.prompt_lookup!r} is neither true nor false"
            raise InvalidOptionError("prompt_lookup", problem)
        if self.response_schema is not None and self.grammar is not None:
            raise InvalidOptionError("grammar", "an answer follows it or response_schema; drop one")

    def merged(self, over: GenerationOptions) -> GenerationOptions:
        """These options with every value that ``over`` sets in its place."""
        return replace(self, **over.set_values())

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


_CHOICES: dict[str, tuple[str, ...]] = {
    "priority": get_args(Priority),
    "on_full": get_args(OnFull),
}
_OPTION_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, math.inf),
    "temperature": (0, math.inf),
    "top_p": (0, 1),
    "top_k": (0, math.inf),
    "min_p": (0, 1),
    "repeat_penalty": (1e-3, math.inf),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (0, 2**63 - 1),
    "logprobs": (0, 100),
    "typical_p": (0, 1),
    "top_n_sigma": (0, math.inf),
    "dynatemp_range": (0, math.inf),
    "dynatemp_exponent": (0, math.inf),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "repeat_last_n": (0, 2**20),
    "dry_multiplier": (0, math.inf),
    "dry_base": (1, math.inf),
    "dry_allowed_length": (0, 2**20),
    "mirostat": (0, 2),
    "mirostat_tau": (0, math.inf),
    "mirostat_eta": (0, 1),
    "connect_timeout": (1e-3, math.inf),
    "first_token_timeout": (1e-3, math.inf),
    "stall_timeout": (1e-3, math.inf),
    "max_retry_seconds": (0, math.inf),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to put a local model into memory. None leaves the choice to nbllm.

    ``device`` is "CPU", "GPU" (whichever fit), or GPUs by their index: "GPU 0", "GPU 0 + GPU 1".
    ``context_length`` is in tokens, shared by all requests that run at the same time.
    ``kv_type`` says how keys and values are stored ("q8_0" takes half of "f16", "q4_0" a
    quarter), ``flash_attention`` whether attention is computed in blocks, without which keys and
    values cannot be quantized. ``gpu_layers`` counts the layers on GPUs (-1: all). ``threads`` is
    the number of CPU threads; without it as many are used as other processes leave cores.
    ``parallel`` bounds the requests that are answered at the same time. After ``keep_alive``
    seconds without a request the model is unloaded, cloud models too; without it, it stays until
    it is unloaded or its memory is needed for another. ``prefix_cache_mib`` is how much memory, in
    MiB, may keep prompts that had to leave the context, so that they are not read again (0, as
    without it: none). ``adapters`` are LoRA files for this model with their scales, as pairs or as
    a mapping; a path alone has the scale 1. They stay as long as the model is loaded.
    """

    device: str | None = None
    context_length: int | None = None
    kv_type: KvType | None = None
    flash_attention: bool | None = None
    gpu_layers: int | None = None
    threads: int | None = None
    parallel: int | None = None
    keep_alive: float | None = None
    prefix_cache_mib: int | None = None
    adapters: tuple[tuple[str, float], ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapters", _adapters(self.adapters))
        _check_number("keep_alive", self.keep_alive, 0, _MAX_KEEP_ALIVE_SECONDS)
        for name, (low, high) in _LOAD_RANGES.items():
            value = getattr(self, name)
            _check_number(name, value, low, high)
            if value is not None and not isinstance(value, int):
                raise InvalidOptionError(name, f"{value!r} is not a whole number")
        if self.device is not None:
            object.__setattr__(self, "device", _device_name(self.device))
        if self.kv_type not in (None, *KV_TYPES):
            problem = f"{self.kv_type!r} is none of {', '.join(KV_TYPES)}"
            raise InvalidOptionError("kv_type", problem)
        if not isinstance(self.flash_attention, bool | None):
            problem = f"{self.flash_attention!r} is neither true nor false"
            raise InvalidOptionError("flash_attention", problem)
        if self.flash_attention is False and self.kv_type not in (None, "f16"):
            problem = f"{self.kv_type} needs flash attention, which is turned off"
            raise InvalidOptionError("kv_type", problem)

    def merged(self, over: LoadOptions) -> LoadOptions:
        """These options with every value that ``over`` sets in its place."""
        return replace(self, **over.set_values())

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


def _adapters(value: Any) -> tuple[tuple[str, float], ...] | None:
    """Pairs of path and scale, from a mapping, pairs, or paths alone."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = tuple(value.items())
    listed = (value,) if isinstance(value, str | PurePath) else value
    if not isinstance(listed, list | tuple):
        raise InvalidOptionError("adapters", "give paths, or pairs of a path and a scale")
    pairs = [(item, 1.0) if isinstance(item, str | PurePath) else tuple(item) for item in listed]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str | PurePath) or not str(pair[0]):
            raise InvalidOptionError("adapters", f"{pair!r} is not a path with a scale")
        _check_number("adapters", pair[1], -100, 100)
    return tuple((str(Path(path).expanduser()), float(scale)) for path, scale in pairs)


_MAX_KEEP_ALIVE_SECONDS = 1e9
_LOAD_RANGES: dict[str, tuple[float, float]] = {
    "context_length": (16, 2**31 - 1),
    "gpu_layers": (-1, 2**31 - 1),
    "threads": (1, 1024),
    "parallel": (1, 256),
    "prefix_cache_mib": (0, 2**24),
}
_ONE_GPU = r"gpu ?(\d{1,3})(?: ?mig ?(\d{1,3}))?"
_DEVICE = re.compile(rf"cpu|gpu|{_ONE_GPU}(?: ?[+,] ?{_ONE_GPU})*", re.ASCII)


def _device_name(value: object) -> str:
    """A device as placements call it: "gpu0,gpu1" becomes "GPU 0 + GPU 1".

    An instance of a divided GPU is "GPU 0 MIG 1".
    """
    if not isinstance(value, str) or not _DEVICE.fullmatch(value.strip().lower()):
        raise InvalidOptionError(
            "device", f'{value!r} is none of "CPU", "GPU", "GPU 0" and "GPU 0 + GPU 1"'
        )
    labels = dict.fromkeys(
        f"GPU {int(index)}" + (f" MIG {int(part)}" if part else "")
        for index, part in re.findall(_ONE_GPU, value.lower())
    )
    return " + ".join(labels) or value.strip().upper()


_WHOLE = (
    "max_tokens",
    "top_k",
    "seed",
    "logprobs",
    "repeat_last_n",
    "dry_allowed_length",
    "mirostat",
)


def _listed(value: Any) -> Any:
    """One value, or several, as a tuple; None stays what it is."""
    if value is None:
        return None
    return (value,) if isinstance(value, str | int) else tuple(value)


def _biases(value: Any) -> tuple[tuple[int | str, float], ...] | None:
    """Pairs of token and bias, from a mapping or from pairs."""
    if value is None:
        return None
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        biases = tuple((token, bias) for token, bias in pairs)
    except (TypeError, ValueError):
        raise InvalidOptionError("logit_bias", "give pairs of a token and a number") from None
    for token, bias in biases:
        if not _is_token(token):
            raise InvalidOptionError("logit_bias", f"{token!r} is neither a token's id nor a text")
        _check_number("logit_bias", bias, -math.inf, 1e6)
    return biases


def _is_token(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_texts(name: str, texts: tuple[Any, ...]) -> None:
    if not all(isinstance(text, str) and text for text in texts):
        raise InvalidOptionError(name, "give one or more texts, none of them empty")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOptionError(name, f"{value!r} is not a number")
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise InvalidOptionError(name, f"{value!r} is not {bounds}")
