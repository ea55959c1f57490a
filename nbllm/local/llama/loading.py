"""How a model is loaded, in llama.cpp's own terms: the same for a load and for a dry run of it."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import llama_cpp.llama_cpp as lib

from nbllm.core.fitting.model_shape import EXPERT_TENSORS
from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.llama.ggml_devices import device_array, ggml_function

__all__ = ["BufferSizes", "context_params", "model_params"]

_BF16 = 30  # of ggml.h, which the bindings leave out
_KV_TYPES = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0, "q4_0": lib.GGML_TYPE_Q4_0}
_BUFFER = re.compile(r"(\S+)\s+(model|LoRA|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
# The CPU's memory has many names: mapped, repacked, pinned for a GPU.
_HOST = re.compile(r"CPU|AMX$|BLAS$|.*_Host$|.*_Mapped$")
_MAPPED, _REPACKED = "CPU_Mapped", "CPU_REPACK"


def model_params(settings: LoadSettings) -> tuple[Any, list[object]]:
    """llama.cpp's parameters of the model, and what must live as long as they are used.

    Raises ``ValueError`` for a GPU that llama.cpp does not list.
    """
    params = lib.llama_model_default_params()
    devices = device_array(settings.gpus)
    params.devices = ctypes.cast(devices, ctypes.c_void_p)
    params.n_gpu_layers = settings.gpu_layers
    params.load_mode = lib.llama_load_mode_from_str(settings.load_mode.encode())
    params.use_extra_bufts = not _repacks_for_amx()
    shares = settings.tensor_split or (0.0,)
    split = (ctypes.c_float * max(int(lib.llama_max_devices()), len(shares)))(*shares)
    if settings.tensor_split:
        params.tensor_split = split
    overrides = _in_main_memory(settings.cpu_experts)
    if overrides:
        params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    return params, [devices, split, overrides]


class _Override(ctypes.Structure):
    """``llama_model_tensor_buft_override``: where the tensors with such names are put."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _in_main_memory(layers: int) -> Any:
    """llama.cpp's list of overrides for the experts of so many layers, the first ones."""
    if not layers:
        return None
    numbers = "|".join(map(str, range(layers)))
    pattern = rf"^blk\.({numbers}){EXPERT_TENSORS}"
    main_memory = ggml_function("ggml_backend_cpu_buffer_type", ctypes.c_void_p)()
    return (_Override * 2)(_Override(pattern.encode(), main_memory), _Override(None, None))


def context_params(settings: LoadSettings) -> Any:
    """llama.cpp's parameters of the context that answers requests.

    Flash attention on the CPU has three ways to compute, which round differently: for one token
    from 512 cells on, for 64 tokens and more, and for all else. The first two want keys and
    values of one type, 16 or 32 bits wide; so with values in bfloat16 the third is always taken,
    which computes each token by itself.
    """
    params = lib.llama_context_default_params()
    params.n_ctx = settings.context_length
    params.n_batch = params.n_ubatch = settings.batch_tokens
    params.n_seq_max = settings.sequences
    params.n_outputs_max = settings.max_outputs
    params.n_threads, params.n_threads_batch = settings.threads, settings.batch_threads
    params.type_k = params.type_v = _KV_TYPES[settings.kv_type]
    if settings.flash_attention is not None:
        params.flash_attn_type = int(settings.flash_attention)
    elif settings.kv_type != "f16" or settings.batch_invariant:
        # It is needed, so there must be no falling back.
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
    if settings.batch_invariant and settings.kv_type == "f16":
        params.type_v = _BF16
    params.kv_unified = settings.kv_unified
    params.no_perf = True
    return params


class BufferSizes:
    """The sizes of buffers that llama.cpp reports in its log, in bytes by device and kind."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, str], int] = {}
        self.is_unlocked = False
        """Whether memory could not be locked that should have been."""

    def read(self, line: str) -> None:
        """Note the sizes in a line of the log."""
        self.is_unlocked |= "failed to mlock" in line or "mlock not supported" in line
        for device, kind, mebibytes in _BUFFER.findall(line):
            key = (device, kind)
            self._sizes[key] = self._sizes.get(key, 0) + round(float(mebibytes) * 2**20)

    @property
    def gpus(self) -> list[str]:
        """The GPUs that have a buffer, by llama.cpp's names."""
        names = dict.fromkeys(device for device, _ in self._sizes if not _HOST.match(device))
        return [*names]

    def on(self, device: str) -> dict[str, int]:
        """The bytes on a GPU, or on the "CPU" under all its names, by llama.cpp's kinds."""
        sizes: dict[str, int] = {}
        for (name, kind), size in self._sizes.items():
            if name == device or (device == "CPU" and _HOST.match(name)):
                sizes[kind] = sizes.get(kind, 0) + size
        return sizes

    def total(self, host_weights: int | None = None) -> int:
        """All of them. Weights that were repacked are not counted where they were mapped too.

        A mapping spans what lies between its tensors in the file, those on GPUs as well: of it
        only ``host_weights`` are counted, where these are known.
        """
        twice = self._sizes.get((_REPACKED, "model"), 0)
        mapped = self._sizes.get((_MAPPED, "model"), 0)
        needless = twice if host_weights is None else max(0, mapped + twice - host_weights)
        return sum(self._sizes.values()) - min(needless, mapped)


def _repacks_for_amx() -> bool:
    """Whether llama.cpp would repack weights for Intel's AMX, whose kernels crash.

    Seen here at batches of two tokens and more, and by others on Sapphire Rapids since March
    2026 (https://github.com/ggml-org/llama.cpp/issues/20824). The kernels for AVX-512 are used
    instead; llama.cpp has one switch for all repacking.
    """
    return b"AMX_INT8 = 1" in lib.llama_print_system_info()
