"""LoRA adapters over a model's weights (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as lib

__all__ = ["Adapters"]


class Adapters:
    """The adapters that were read for a model; ``scales`` are those that they came with.

    A context computes with one set of scales at a time. Raises ``ValueError`` for a file that
    is no adapter of this model.
    """

    def __init__(self, model: Any, files: Sequence[tuple[str, float]]) -> None:
        self.scales = tuple(float(scale) for _, scale in files)
        self._handles = [_read(model, path) for path, _ in files]

    def apply(self, context: Any, scales: Sequence[float]) -> None:
        """Have a context compute with these scales, one for each adapter, from now on."""
        count = len(self._handles)
        if count:
            handles = (lib.llama_adapter_lora_p_ctypes * count)(*self._handles)
            lib.llama_set_adapters_lora(context, handles, count, (ctypes.c_float * count)(*scales))


def _read(model: Any, path: str) -> Any:
    adapter = lib.llama_adapter_lora_init(model, os.fsencode(path))
    if not adapter:
        raise ValueError(
            f"the adapter {path} cannot be used: it is not a LoRA adapter in GGUF, or was made for "
            "another model"
        )
    return ctypes.cast(adapter, lib.llama_adapter_lora_p_ctypes)
