"""Batches of tokens in the form that llama.cpp takes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

__all__ = ["TokenBatch"]


class TokenBatch:
    """A ``llama_batch`` whose arrays are numpy's, so that rows are written as slices."""

    def __init__(self, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros((capacity, 1), np.int32)
        self._sequence_counts = np.ones(capacity, np.int32)
        self._wants_logits = np.zeros(capacity, np.int8)
        self._row_addresses = self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self.capacity = capacity
        self.raw = lib.llama_batch(
            0,
            _pointer(self._tokens, ctypes.c_int32),
            None,
            _pointer(self._positions, ctypes.c_int32),
            _pointer(self._sequence_counts, ctypes.c_int32),
            self._row_addresses.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            _pointer(self._wants_logits, ctypes.c_int8),
        )

    @property
    def size(self) -> int:
        """Rows in the batch."""
        return int(self.raw.n_tokens)

    def clear(self) -> None:
        """Take all rows out."""
        self.raw.n_tokens = 0

    def want_all(self) -> None:
        """Ask for the outputs of all rows, which pooling needs."""
        self._wants_logits[: self.size] = 1

    def add(self, tokens: Sequence[int], position: int, sequence: int, *, logits: int) -> int:
        """Append ``tokens`` of a sequence from ``position`` on; the last row's index.

        ``logits`` says of how many rows, the last ones, the logits are wanted.
        """
        start = self.size
        end = start + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens))
        self._sequences[start:end, 0] = sequence
        self._wants_logits[start:end] = 0
        self._wants_logits[end - logits : end] = 1
        self.raw.n_tokens = end
        return end - 1


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
