"""What a model's weights are multiplied by, collected while it reads a text.

As ``tools/imatrix/imatrix.cpp`` of llama.cpp does it: for each matrix the sum of the squares of its
inputs, column by column, and how many inputs there were; of a mixture of experts for each expert.
llama.cpp calls back for every node of its graph; a node is read by the layout of
``struct ggml_tensor`` in ``ggml/include/ggml.h``, which is checked against ggml's own answers
before it is trusted.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.llama.ggml_devices import ggml_function
from nbllm.local.llama.native import NativeModel, NotLoadableError

__all__ = ["ImportanceCollector", "ObservedModel"]

_FEWEST_ROWS = 16  # llama-imatrix ignores smaller batches
_F32, _I32 = 0, 26
_MUL_MAT, _MUL_MAT_ID = b"MUL_MAT", b"MUL_MAT_ID"


class _Tensor(ctypes.Structure):
    """``struct ggml_tensor``."""


_Tensor._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
)


class ImportanceCollector:
    """Sums up what llama.cpp shows it; ``problem`` says what kept it from doing so."""

    def __init__(self) -> None:
        self.sums: dict[str, npt.NDArray[np.float32]] = {}
        self.counts: dict[str, npt.NDArray[np.float32]] = {}
        self.problem = ""
        self._op_name = ggml_function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
        self._get_name = ggml_function("ggml_get_name", ctypes.c_void_p, ctypes.c_void_p)
        self._bytes = ggml_function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
        self._fetch = ggml_function(
            "ggml_backend_tensor_get",
            None,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_size_t,
        )
        self._ops: dict[int, bytes] = {}
        self._is_checked = False

    def callback(self, address: int, asks: bool, _: Any) -> bool:  # noqa: FBT001 - C calls it
        """``ggml_backend_sched_eval_callback``: whether the node is wanted, and then the node."""
        if self.problem:
            return False
        node = _Tensor.from_address(address)
        if not self._is_checked and not self._check(address, node):
            return False
        op = self._op(node.op)
        if op not in (_MUL_MAT, _MUL_MAT_ID):
            return not asks
        weights, inputs = node.src[0].contents, node.src[1].contents
        name = _tensor_name(weights.name)
        if asks:
            wanted = op == _MUL_MAT_ID or inputs.ne[1] >= _FEWEST_ROWS
            return wanted and inputs.type == _F32 and name.startswith("blk.")
        try:
            if op == _MUL_MAT_ID:
                self._add_experts(name, weights, inputs, node.src[2].contents)
            else:
                self._add(name, weights, inputs)
        except ValueError as error:
            self.problem = f"{name}: {error}"
        return not self.problem

    def _check(self, address: int, node: _Tensor) -> bool:
        """Whether the layout is the one that this llama.cpp has."""
        place = address + _Tensor.name.offset
        self._is_checked = self._get_name(address) == place and all(n >= 0 for n in node.ne)
        if not self._is_checked:
            self.problem = "this version of llama.cpp keeps its tensors in an unknown layout"
        return self._is_checked

    def _op(self, number: int) -> bytes:
        if number not in self._ops:
            self._ops[number] = self._op_name(number) or b""
        return self._ops[number]

    def _data(self, tensor: _Tensor, kind: str) -> npt.NDArray[Any]:
        """The tensor's numbers, strides and all, copied from its device."""
        size = int(self._bytes(ctypes.addressof(tensor)))
        data = np.empty(size, np.uint8)
        self._fetch(ctypes.addressof(tensor), data.ctypes.data, 0, size)
        shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
        return np.ndarray(shape, kind, buffer=data, strides=strides)

    def _add(self, name: str, weights: _Tensor, inputs: _Tensor) -> None:
        rows = self._data(inputs, "<f4")
        matrices = int(weights.ne[2] * weights.ne[3])
        squares = np.einsum("abrc,abrc->abc", rows, rows, dtype=np.float32)
        added = np.zeros((matrices, rows.shape[-1]), np.float32)
        for i3, plane in enumerate(squares):
            for i2, sums in enumerate(plane):
                added[(i3 % weights.ne[3]) * weights.ne[2] + i2 % weights.ne[2]] += sums
        count = rows.shape[0] * rows.shape[1] * rows.shape[2] / matrices
        self._note(name, added, np.array([count], np.float32))

    def _add_experts(self, name: str, weights: _Tensor, inputs: _Tensor, choices: _Tensor) -> None:
        rows = self._data(inputs, "<f4")[0]  # (token, one or each used expert, column)
        chosen = self._data(choices, "<i4")[0, 0]  # (token, used expert)
        experts = int(weights.ne[2])
        added = np.zeros((experts, rows.shape[-1]), np.float32)
        counts = np.zeros(experts, np.float32)
        for place in range(chosen.shape[1]):
            squares = np.square(rows[:, place % rows.shape[1]])
            np.add.at(added, chosen[:, place], squares)
            np.add.at(counts, chosen[:, place], 1)
        self._note(name, added, counts)

    def _note(
        self, name: str, added: npt.NDArray[np.float32], counts: npt.NDArray[np.float32]
    ) -> None:
        if not np.isfinite(added).all():
            raise ValueError("its inputs are not finite numbers")
        if name in self.sums:
            self.sums[name] += added
            self.counts[name] += counts
        else:
            self.sums[name], self.counts[name] = added, counts


class ObservedModel(NativeModel):
    """A model whose computation a collector watches. Raises ``NotLoadableError``."""

    def __init__(self, settings: LoadSettings, collector: ImportanceCollector) -> None:
        self._collector = collector
        super().__init__(settings, lambda fraction: None)

    def _context_params(self) -> Any:
        params = super()._context_params()
        watch = lib.ggml_backend_sched_eval_callback(self._collector.callback)
        params.cb_eval = self._keep(watch)
        return params

    def read(self, tokens: Sequence[int]) -> None:
        """Read a chunk from its beginning. Raises ``NotLoadableError`` where it fails."""
        self.cells.forget(0, 0)
        self.batch.clear()
        self.batch.add(tokens, 0, 0, logits=len(tokens))
        if self.decode() != 0:
            raise NotLoadableError("llama.cpp failed while it read the text")


def _tensor_name(name: bytes) -> str:
    """Without what the scheduler adds to a copy's name, as in "CUDA0#blk.0.ffn_up.weight#0"."""
    text = name.decode(errors="replace")
    return text.split("#")[1] if text.count("#") >= 2 else text
