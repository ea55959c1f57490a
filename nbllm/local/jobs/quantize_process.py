"""A process that quantizes one model: ``python -m nbllm.local.jobs.quantize_process``.

It speaks ``protocol.py`` as a worker does. Each message ``quantize`` has ``source``, ``target``,
``file_type``, ``threads``, ``dry_run``, ``imatrix`` (a file, or null) and ``sizes``: the bytes of
each tensor by its name. It is answered by frames ``fraction`` on the way and by ``done`` with
``types`` and ``fallbacks``, or by ``failed``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nbllm.core.errors import NbllmError
from nbllm.local import protocol
from nbllm.local.jobs.imatrix_file import read_imatrix
from nbllm.local.llama.backends import start_backends
from nbllm.local.llama.quantizer import quantize
from nbllm.local.outbox import Outbox, take_standard_output
from nbllm.local.protocol import Frame
from nbllm.local.stages import Stage

__all__ = ["main"]

_BYTES_A_SECOND = 1e5
"""The slowest types take some microseconds for each weight, on every machine seen."""


class _Progress:
    """Tells the finished fraction, by the bytes of the tensors whose turn is over."""

    def __init__(self, frame: Frame, outbox: Outbox, stage: Stage) -> None:
        self._number, self._sizes = frame["id"], frame["sizes"]
        self._total = sum(self._sizes.values()) or 1
        self._outbox, self._stage = outbox, stage
        self._done, self._current = 0, 0

    def on_tensor(self, name: str) -> None:
        """The turn of the tensor ``name`` begins."""
        self._done += self._current
        self._current = self._sizes.get(name, 0)
        self._stage.begin(self._current / _BYTES_A_SECOND)
        fraction = self._done / self._total
        self._outbox.send({"op": "fraction", "id": self._number, "fraction": fraction})


def main() -> None:
    """Do what standard input asks for, until it ends."""
    outbox, stage = Outbox(take_standard_output()), Stage()
    outbox.keep_beating({"quantize": stage})
    start_backends()
    for line in sys.stdin.buffer:
        frame = protocol.decode(line)
        if frame["op"] == "quantize":
            outbox.send({"id": frame["id"], **_reply(frame, outbox, stage)})
    os._exit(0)


def _reply(frame: Frame, outbox: Outbox, stage: Stage) -> Frame:
    progress = _Progress(frame, outbox, stage)
    try:
        imatrix = frame["imatrix"]
        with stage.at_work(60):
            converted = quantize(
                frame["source"],
                frame["target"],
                frame["file_type"],
                threads=frame["threads"],
                importances=read_imatrix(Path(imatrix)) if imatrix else None,
                dry_run=frame["dry_run"],
                on_tensor=lambda name: None if frame["dry_run"] else progress.on_tensor(name),
            )
    except (NbllmError, RuntimeError, ValueError, OSError) as error:
        return {"op": "failed", "problem": str(error)}
    fallbacks = [[*pair, count] for pair, count in converted.fallbacks.items()]
    return {"op": "done", "types": converted.types, "fallbacks": fallbacks}


if __name__ == "__main__":
    main()
