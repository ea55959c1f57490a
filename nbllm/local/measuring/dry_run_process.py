"""Asks llama.cpp what a load would take, without doing it: ``python -m`` this module.

A process of its own, for a damaged file can end it. It reads one ``DryRun`` and writes one
``DryRunAnswer``.
"""

from __future__ import annotations

import os
import re
import sys

import nbllm.local.llama  # noqa: F401 - defers the rest of llama_cpp

# isort: split
import llama_cpp.llama_cpp as lib
import msgspec

from nbllm.core.hardware.engine_devices import EngineDevice
from nbllm.local.ipc.liveness import Stage
from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.ipc.outbox import Outbox, job_input, take_standard_output
from nbllm.local.llama.ggml_devices import engine_devices, engine_version, start_backends
from nbllm.local.llama.loading import BufferSizes, context_params, model_params
from nbllm.local.llama.rpc_servers import ServerError, add_servers, give_up, watch_servers
from nbllm.local.measuring.dry_runs import BufferBytes, DryRun, DryRunAnswer

__all__ = ["main"]

_QUESTION = msgspec.json.Decoder(DryRun)
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
    outbox = Outbox(take_standard_output())
    question = job_input(_QUESTION)
    log = _Log()
    asking = Stage()
    asking.begin()
    watch_servers(load=Stage(), steps=[asking])
    start_backends()
    try:
        add_servers(question.rpc)
    except ServerError as error:
        give_up(str(error))
    devices = tuple(engine_devices(question.rpc))
    outbox.send(
        DryRunAnswer(
            engine_version(),
            bool(lib.llama_supports_gpu_offload()),
            devices,
            _sizes(question.settings, devices, log) if question.settings else None,
        )
    )
    os._exit(0)


def _sizes(
    settings: LoadSettings, devices: tuple[EngineDevice, ...], log: _Log
) -> BufferBytes | None:
    """What the load would take; None where llama.cpp refuses it, as standard error tells."""
    try:
        params, kept = model_params(settings)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return None
    params.no_alloc, params.load_mode = True, _NO_LOAD_MODE
    model = lib.llama_model_load_from_file(settings.path, params)
    kept.clear()
    context = model and lib.llama_init_from_model(model, context_params(settings))
    if not context:
        return None
    compute = {
        device: log.buffers.on(device).get("compute", 0) + log.buffers.on(device).get("output", 0)
        for device in ("CPU", *log.buffers.gpus)
    }
    return BufferBytes(
        log.kv, compute, log.flash_attention, tuple(device.buffer_name for device in devices)
    )


if __name__ == "__main__":
    main()
