"""ggml's backends: the code that computes, of which some builds choose one for the processor."""

from __future__ import annotations

import ctypes
import os

import llama_cpp.llama_cpp as lib
from llama_cpp._ggml import libggml, libggml_base_path

__all__ = ["start_backends"]


def start_backends() -> None:
    """Initialise llama.cpp with a backend for each device that it can use.

    A build with ``GGML_BACKEND_DL`` has its backends in libraries of their own, of which ggml loads
    the best for this processor. It looks for them beside the Python executable, where a package
    puts none, so it is told where they are.
    """
    count = libggml.ggml_backend_reg_count
    count.restype, count.argtypes = ctypes.c_size_t, []
    if not count():
        load = libggml.ggml_backend_load_all_from_path
        load.restype, load.argtypes = None, [ctypes.c_char_p]
        load(os.fsencode(libggml_base_path))
    lib.llama_backend_init()
