"""ggml's backends, of which some builds choose one for the processor, and the GPUs in its list.

RPC servers that were added are among them, behind the machine's own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as lib
from llama_cpp._ggml import libggml, libggml_base_path
from llama_cpp.llama_cpp import _lib as libllama

from nbllm.core.hardware.engine_devices import EngineDevice

__all__ = [
    "device_array",
    "engine_devices",
    "engine_version",
    "ggml_function",
    "gpu_handles",
    "start_backends",
]

_NUMA = {
    "distribute": lib.GGML_NUMA_STRATEGY_DISTRIBUTE,
    "isolate": lib.GGML_NUMA_STRATEGY_ISOLATE,
    "numactl": lib.GGML_NUMA_STRATEGY_NUMACTL,
}


def engine_version() -> str:
    """The release of the bindings, and so of llama.cpp: "llama-cpp-python 0.3.36"."""
    from importlib import metadata  # it takes 20 ms, and few workers ask

    try:
        version = metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:  # a build under another package's name
        version = llama_cpp.__version__
    return f"llama-cpp-python {version}"


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


_GPU, _INTEGRATED_GPU = 1, 2  # enum ggml_backend_dev_type of ggml-backend.h


class _Props(ctypes.Structure):
    """``ggml_backend_dev_props``; what is behind these fields is left room for."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("caps", ctypes.c_bool * 64),
    )


def gpu_handles() -> list[int]:
    """The GPUs in the order in which llama.cpp numbers them; the backend must be initialised."""
    count = ggml_function("ggml_backend_dev_count", ctypes.c_size_t)()
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    kind = ggml_function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    handles = [get(number) for number in range(count)]
    return [handle for handle in handles if kind(handle) in (_GPU, _INTEGRATED_GPU)]


def engine_devices(servers: Sequence[str]) -> list[EngineDevice]:
    """The same with what ggml tells of each; those of ``servers`` ("address:port") are theirs."""
    return [_described(handle, servers) for handle in gpu_handles()]


def _described(handle: int, servers: Sequence[str]) -> EngineDevice:
    props = _Props()
    ask = ggml_function("ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.c_void_p)
    ask(handle, ctypes.addressof(props))
    memory = ggml_function("ggml_backend_dev_buffer_type", ctypes.c_void_p, ctypes.c_void_p)
    name = ggml_function("ggml_backend_buft_name", ctypes.c_char_p, ctypes.c_void_p)
    description = _text(props.description)
    return EngineDevice(
        name=_text(props.name),
        description=description,
        pci_bus_id=_text(props.device_id) or None,
        total_bytes=props.memory_total,
        free_bytes=props.memory_free,
        buffer_name=_text(name(memory(handle))),
        server=description if description in servers else None,
    )


def device_array(positions: Sequence[int]) -> Any:
    """llama.cpp's list of the GPUs at these places among ``gpu_handles``; none for the CPU.

    Raises ``ValueError`` for a place that has no GPU.
    """
    known = gpu_handles()
    if any(position >= len(known) for position in positions):
        raise ValueError(
            f"llama.cpp lists {len(known)} GPUs, but number {max(positions)} is requested"
        )
    handles = [known[position] for position in positions]
    return (ctypes.c_void_p * (len(handles) + 1))(*handles, None)


def _text(text: bytes | None) -> str:
    return (text or b"").decode(errors="replace")
