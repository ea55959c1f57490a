"""A process that quantizes one model: ``python -m nbllm.local.jobs.quantize_process``.

It serves any number of ``Quantize``, one after another; see ``nbllm.local.jobs.quantize``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from nbllm.core.errors import NbllmError
from nbllm.local.ipc.liveness import Stage
from nbllm.local.ipc.outbox import Outbox, take_standard_output
from nbllm.local.ipc.protocol import Cancel, Close, Failed, Fraction, decode
from nbllm.local.jobs.imatrix_file import read_imatrix
from nbllm.local.jobs.quantize import Quantize, QuantizeDone
from nbllm.local.llama.ggml_devices import start_backends
from nbllm.local.llama.quantizer import quantize

__all__ = ["main"]

_BYTES_A_SECOND = 1e5
"""The slowest types take some microseconds for each weight, on every machine seen."""
_OPERATIONS = msgspec.json.Decoder(Quantize | Cancel | Close)


class _Progress:
    """Tells the finished fraction, by the bytes of the tensors whose turn is over."""

    def __init__(self, operation: Quantize, outbox: Outbox, stage: Stage) -> None:
        self._number, self._sizes = operation.id, operation.sizes or {}
        self._total = sum(self._sizes.values()) or 1
        self._outbox, self._stage = outbox, stage
        self._done, self._current = 0, 0

    def on_tensor(self, name: str) -> None:
        """The turn of the tensor ``name`` begins."""
        self._done += self._current
        self._current = self._sizes.get(name, 0)
        self._stage.begin(self._current / _BYTES_A_SECOND)
        self._outbox.send(Fraction(self._number, self._done / self._total))


def main() -> None:
    """Do what standard input asks for, until it ends."""
    outbox, stage = Outbox(take_standard_output()), Stage()
    outbox.keep_beating({"quantize": stage})
    start_backends()
    for line in sys.stdin.buffer:
        operation = decode(line, _OPERATIONS)
        if isinstance(operation, Quantize):
            outbox.send(_reply(operation, outbox, stage))
    os._exit(0)


def _reply(operation: Quantize, outbox: Outbox, stage: Stage) -> QuantizeDone | Failed:
    progress = _Progress(operation, outbox, stage)
    imatrix, target = operation.imatrix, operation.target
    try:
        with stage.at_work(60):
            converted = quantize(
                os.fsdecode(operation.source),
                os.fsdecode(operation.source if target is None else target),
                operation.file_type,
                threads=operation.threads,
                importances=read_imatrix(Path(os.fsdecode(imatrix))) if imatrix else None,
                dry_run=target is None,
                on_tensor=lambda name: None if target is None else progress.on_tensor(name),
            )
    except (NbllmError, RuntimeError, ValueError, OSError) as error:
        return Failed(operation.id, str(error))
    fallbacks = [(*pair, count) for pair, count in converted.fallbacks.items()]
    return QuantizeDone(operation.id, converted.types, fallbacks)


if __name__ == "__main__":
    main()
