"""The GPUs that the installed llama.cpp can use, asked through ggml's own list of devices."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbllm.local.llama.backends import ggml_function

__all__ = ["GpuDevice", "device_array", "gpu_devices"]

_GPU, _INTEGRATED_GPU = 1, 2  # enum ggml_backend_dev_type of ggml-backend.h


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A device of ggml: its handle, its name such as "CUDA0", and the name of the hardware."""

    handle: int
    name: str
    description: str


def gpu_devices() -> list[GpuDevice]:
    """The GPUs in the order in which llama.cpp numbers them; the backend must be initialised."""
    count = ggml_function("ggml_backend_dev_count", ctypes.c_size_t)()
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    kind = ggml_function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    handles = [get(number) for number in range(count)]
    return [
        GpuDevice(handle, _text("ggml_backend_dev_name", handle), _description(handle))
        for handle in handles
        if kind(handle) in (_GPU, _INTEGRATED_GPU)
    ]


def device_array(positions: Sequence[int]) -> Any:
    """llama.cpp's list of the GPUs at these places among ``gpu_devices``; none for the CPU.

    Raises ``ValueError`` for a place that has no GPU.
    """
    known = gpu_devices()
    if any(position >= len(known) for position in positions):
        raise ValueError(
            f"llama.cpp lists {len(known)} GPUs, but number {max(positions)} is requested"
        )
    handles = [known[position].handle for position in positions]
    return (ctypes.c_void_p * (len(handles) + 1))(*handles, None)


def _description(handle: int) -> str:
    return _text("ggml_backend_dev_description", handle)


def _text(function: str, handle: int) -> str:
    text = ggml_function(function, ctypes.c_char_p, ctypes.c_void_p)(handle)
    return str(text.decode(errors="replace"))
