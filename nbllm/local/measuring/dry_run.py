"""Asks llama.cpp what a load would take, without doing it: ``python -m`` this module.

A process of its own, for a damaged file can end it. Reads one JSON object from its standard
input, ``{}`` or a load frame of ``protocol.py``, and writes one to its standard output:
``devices`` and ``system`` of llama.cpp always, and for a load frame either ``problem`` or
``kv`` (bytes of keys, values and states), ``compute`` (bytes by device) and
``flash_attention``, whether it is used.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as lib

from nbllm.local.llama.backends import start_backends
from nbllm.local.llama.gpu_devices import gpu_devices
from nbllm.local.llama.loading import BufferSizes, Settings, context_params, model_params
from nbllm.local.protocol import Frame

__all__ = ["main"]

# Without allocation the buffers of these report 0, but a line tells what would be in them.
_CACHE = re.compile(r"(?:kv_cache|memory_recurrent)\S*: size =\s+([\d.]+) MiB \(")
_NO_FLASH = "Flash Attention not supported"
_NO_LOAD_MODE = 0  # LLAMA_LOAD_MODE_NONE: a file that is not read cannot be mapped either


class _Log:
    """What is read out of llama.cpp's log."""

    def __init__(self) -> None:
        self.buffers = BufferSizes()
        self.kv = 0
        self.flash_attention = True
        self.callback = lib.llama_log_callback(self._write)
        lib.llama_log_set(self.callback, None)

    def _write(self, level: int, text: bytes, _: object) -> None:
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        self.buffers.read(line)
        self.kv += sum(round(float(size) * 2**20) for size in _CACHE.findall(line))
        self.flash_attention &= _NO_FLASH not in line


def main() -> None:
    """Read the question, write the answer."""
    question = json.loads(sys.stdin.read() or "{}")
    answer = sys.stdout
    sys.stdout = sys.stderr
    log = _Log()
    start_backends()
    reply: dict[str, Any] = {
        "build": f"llama-cpp-python {llama_cpp.__version__}",
        "supports_gpu": bool(lib.llama_supports_gpu_offload()),
        "devices": [[device.name, device.description] for device in gpu_devices()],
        "system": lib.llama_print_system_info().decode(errors="replace"),
    }
    if question:
        reply |= _measure(question, log)
    answer.write(json.dumps(reply))


def _measure(frame: Frame, log: _Log) -> dict[str, Any]:
    settings = Settings.from_frame(frame)
    try:
        params, kept = model_params(settings)
    except ValueError as error:
        return {"problem": str(error)}
    params.no_alloc, params.load_mode = True, _NO_LOAD_MODE
    model = lib.llama_model_load_from_file(os.fsencode(settings.path), params)
    kept.clear()
    if not model:
        return {"problem": "llama.cpp could not load the file"}
    context = lib.llama_init_from_model(model, context_params(settings))
    if not context:
        return {"problem": "llama.cpp could not create the context"}
    compute = {
        device: log.buffers.on(device).get("compute", 0) + log.buffers.on(device).get("output", 0)
        for device in ("CPU", *log.buffers.gpus)
    }
    return {"kv": log.kv, "compute": compute, "flash_attention": log.flash_attention}


if __name__ == "__main__":
    main()
