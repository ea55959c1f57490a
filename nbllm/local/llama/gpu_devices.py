"""The GPUs that the installed llama.cpp can use, asked through ggml's own list of devices.

RPC servers that were added are among them, behind the machine's own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from nbllm.core.hardware.engine_devices import EngineDevice
from nbllm.local.llama.backends import ggml_function

__all__ = ["device_array", "engine_devices", "gpu_handles"]

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
