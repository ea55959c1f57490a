"""ggml's backends: the code that computes, of which some builds choose one for the processor."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import llama_cpp.llama_cpp as lib
from llama_cpp._ggml import libggml, libggml_base_path
from llama_cpp.llama_cpp import _lib as libllama

__all__ = ["ggml_function", "start_backends"]

_NUMA = {
    "distribute": lib.GGML_NUMA_STRATEGY_DISTRIBUTE,
    "isolate": lib.GGML_NUMA_STRATEGY_ISOLATE,
    "numactl": lib.GGML_NUMA_STRATEGY_NUMACTL,
}


def start_backends(numa: str | None = None) -> None:
    """Initialise llama.cpp with a backend for each device that it can use.

    ``numa`` says how its threads are placed on several NUMA nodes.

    A build with ``GGML_BACKEND_DL`` has its backends in libraries of their own, of which ggml loads
    the best for this processor. It looks for them beside the Python executable, where a package
    puts none, so it is told where they are.
    """
    if not ggml_function("ggml_backend_reg_count", ctypes.c_size_t)():
        load = ggml_function("ggml_backend_load_all_from_path", None, ctypes.c_char_p)
        load(os.fsencode(libggml_base_path))
    lib.llama_backend_init()
    if numa is not None:
        lib.llama_numa_init(_NUMA[numa])


def ggml_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the very ggml that llama.cpp uses.

    A wheel holds no links, so ``libggml.so`` and the ``libggml.so.0`` that llama.cpp loads are two
    files, and each has its own list of backends. Asked of llama.cpp's library, the system looks
    into what that one loaded. Windows does not, but has one file only.
    """
    function = getattr(libllama, name, None) or getattr(libggml, name)
    function.restype, function.argtypes = result, list(arguments)
    return function
