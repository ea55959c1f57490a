"""``llama_cpp.Llama`` as a peer of benchmarks, on machines where it would crash too."""

from __future__ import annotations

from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as lib


def load_llama(path: str, context_length: int, *, flash_attention: bool = False) -> Any:
    """The model with the class's own defaults, but without the kernels for AMX, which crash."""
    if b"AMX_INT8 = 1" in lib.llama_print_system_info():
        defaults = lib.llama_model_default_params

        def without_repacking() -> Any:
            params = defaults()
            params.use_extra_bufts = False
            return params

        llama_cpp.llama_cpp.llama_model_default_params = without_repacking
    return llama_cpp.Llama(path, n_ctx=context_length, verbose=False, flash_attn=flash_attention)
