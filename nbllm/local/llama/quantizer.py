"""llama.cpp's own quantization of a file, with what its log tells of the tensors."""

from __future__ import annotations

import ctypes
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

__all__ = ["Converted", "Importances", "quantize"]

Importances = Mapping[str, npt.NDArray[np.float32]]
"""An importance matrix: for each tensor the mean square of what its columns are multiplied by."""

_TENSOR = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)\s+- \[")
_OLD_TYPE = re.compile(r"type =\s*(\w+),")
_NEW_TYPE = re.compile(r"converting to (\w+) \.\.|MiB \((\w+)\)\s*$")
_FALLBACK = re.compile(r"required for type\s+(\w+)\)\s*-> falling back to\s+(\w+)")
_ERROR_LEVEL = 4
_MOST_LINE = 65_536


@dataclass(slots=True)
class Converted:
    """What became of the tensors: their types, and how many fell back from which to which."""

    types: dict[str, str] = field(default_factory=dict)
    fallbacks: Counter[tuple[str, str]] = field(default_factory=Counter)


class _Log:
    """Reads llama.cpp's log line by line; a line comes in several pieces."""

    def __init__(self, on_tensor: Callable[[str], None]) -> None:
        self.converted = Converted()
        self.problem = ""
        self._line, self._on_tensor = "", on_tensor
        self.callback = lib.llama_log_callback(self._write)

    def _write(self, level: int, text: bytes, _: object) -> None:
        piece = text.decode(errors="replace")
        if level == _ERROR_LEVEL and (problem := piece.strip()):
            self.problem = problem.rpartition("failed to quantize: ")[2]
        self._line = (self._line + piece)[-_MOST_LINE:]
        if tensor := _TENSOR.search(piece):
            self._on_tensor(tensor[3])
        *whole, self._line = self._line.split("\n")
        for line in whole:
            self._read(line)

    def _read(self, line: str) -> None:
        for meant, used in _FALLBACK.findall(line):
            self.converted.fallbacks[meant.upper(), used.upper()] += 1
        tensor, old, new = _TENSOR.search(line), _OLD_TYPE.search(line), _NEW_TYPE.search(line)
        if tensor and old:
            label = next(filter(None, new.groups())) if new else old[1]
            self.converted.types[tensor[3]] = label.upper()


def quantize(
    source: str,
    target: str,
    file_type: int,
    *,
    threads: int,
    importances: Importances | None = None,
    dry_run: bool = False,
    on_tensor: Callable[[str], None] = lambda name: None,
) -> Converted:
    """Quantize ``source`` to a new file; with ``dry_run`` only find out what it would be.

    ``file_type`` is a number of ``enum llama_ftype``. ``on_tensor`` gets the name of each tensor
    as its turn comes. Raises ``RuntimeError`` with llama.cpp's reason.
    """
    log = _Log(on_tensor)
    lib.llama_log_set(log.callback, None)
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    params.allow_requantize, params.dry_run = True, dry_run
    entries, kept = _entries(importances or {})
    if kept:
        params.imatrix = entries
    status = lib.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if status != 0:
        raise RuntimeError(log.problem or "llama.cpp could not quantize the file")
    kept.clear()
    return log.converted


def _entries(importances: Importances) -> tuple[Any, list[Any]]:
    """The matrix as C has it, ended by an empty entry, and the numbers that it points to."""
    kept: list[Any] = [np.ascontiguousarray(row, np.float32) for row in importances.values()]
    rows = [
        lib.llama_model_imatrix_data(
            os.fsencode(name), row.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), row.size
        )
        for name, row in zip(importances, kept, strict=True)
    ]
    return (lib.llama_model_imatrix_data * (len(rows) + 1))(*rows), kept
