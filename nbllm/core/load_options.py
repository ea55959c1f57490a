"""How a local model is put into memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_checks import check_number
from nbllm.core.placement import KV_TYPES, KvType

__all__ = ["LoadOptions"]


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
        check_number("keep_alive", self.keep_alive, 0, _MAX_KEEP_ALIVE_SECONDS)
        for name, (low, high) in _LOAD_RANGES.items():
            value = getattr(self, name)
            check_number(name, value, low, high)
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
        check_number("adapters", pair[1], -100, 100)
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
