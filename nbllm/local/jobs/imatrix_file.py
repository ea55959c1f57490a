"""Importance matrices as llama.cpp keeps them: a GGUF, or the older format (.dat).

Sources: ``tools/imatrix/imatrix.cpp`` and ``load_imatrix`` in ``tools/quantize/quantize.cpp`` of
llama.cpp. A GGUF of the kind "imatrix" has, for each tensor NAME of the model, ``NAME.in_sum2``
(the sums of squares, one row for each expert) and ``NAME.counts``; the older format has means
times a number of calls.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nbllm.core.errors import ModelFileError
from nbllm.core.paths import file_status, open_regular
from nbllm.local.gguf.header import Header, alignment_of, read_header
from nbllm.local.gguf.tensor_table import padded

__all__ = ["Rows", "read_imatrix", "write_imatrix"]

Rows = dict[str, npt.NDArray[np.float32]]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MOST_BYTES = 4 * 2**30
_MOST_ENTRIES = 2**17
_MOST_NAME = 1024
_F32, _TEXT, _U32, _ARRAY = 0, 8, 4, 9


def read_imatrix(path: Path) -> Rows:
    """The mean squares by tensor. Raises ``ModelFileError`` for a file that holds none."""
    size = file_status(path).st_size
    if size > _MOST_BYTES:
        raise ModelFileError(str(path), f"is no importance matrix: {size:,} bytes are too many")
    with open_regular(path) as file:
        start = file.read(4)
    rows = _read_gguf(path) if start == b"GGUF" else _read_old(path)
    rows = {name: row for name, row in rows.items() if row.size and np.isfinite(row).all()}
    if not rows:
        raise ModelFileError(str(path), "has no entries of an importance matrix")
    return rows


def _read_gguf(path: Path) -> Rows:
    header = read_header(path)
    if header.metadata.get("general.type") != "imatrix":
        raise ModelFileError(str(path), "is a GGUF, but not an importance matrix")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    offsets = dict(_offsets(header))
    rows: Rows = {}
    with open_regular(path) as file:
        for name, sums in tensors.items():
            counts = tensors.get(f"{name.removesuffix(_SUMS)}{_COUNTS}")
            if not name.endswith(_SUMS) or counts is None:
                continue
            if {sums.type_label, counts.type_label} != {"F32"}:
                raise ModelFileError(str(path), f"stores {name} in {sums.type_label}, not in F32")
            pair = []
            for tensor in (sums, counts):
                file.seek(offsets[tensor.name])
                pair.append(np.frombuffer(file.read(tensor.size_bytes), "<f4"))
            rows[name.removesuffix(_SUMS)] = _means(*pair)
    return rows


def _offsets(header: Header) -> Iterator[tuple[str, int]]:
    """Where each tensor begins: one after another, each padded."""
    position = header.data_offset
    for tensor in header.tensors:
        yield tensor.name, position
        position += padded(tensor.size_bytes, alignment_of(header.metadata))


def _means(
    sums: npt.NDArray[np.float32], counts: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """An expert that was never used gets ones, as llama-quantize gives it."""
    if not counts.size or sums.size % counts.size:
        return np.empty(0, np.float32)
    by_expert = sums.reshape(counts.size, -1)
    used = counts > 0
    means = np.ones_like(by_expert)
    means[used] = by_expert[used] / counts[used, None]
    return means.ravel()


def _read_old(path: Path) -> Rows:
    with open_regular(path) as file:
        data = file.read(_MOST_BYTES)
    try:
        return dict(_entries(data))
    except (struct.error, ValueError, UnicodeDecodeError):
        raise ModelFileError(str(path), "is not an importance matrix, or is damaged") from None


def _entries(data: bytes) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    (count,) = struct.unpack_from("<i", data)
    if not 0 < count <= _MOST_ENTRIES:
        raise ValueError(count)
    position = 4
    for _ in range(count):
        (length,) = struct.unpack_from("<i", data, position)
        if not 0 < length <= _MOST_NAME:
            raise ValueError(length)
        name = data[position + 4 : position + 4 + length].decode()
        position += 4 + length
        calls, values = struct.unpack_from("<ii", data, position)
        if values < 0:
            raise ValueError(values)
        row = np.frombuffer(data, "<f4", values, position + 8)
        position += 8 + 4 * values
        yield name, row / calls if calls > 0 else row


# ---------------------------------------------------------------- writing


def write_imatrix(sums: Rows, counts: Rows, *, chunks: int, chunk_tokens: int) -> bytes:
    """A GGUF of sums of squares and counts by tensor, as llama-imatrix writes it."""
    tensors = [
        item
        for name in sorted(sums)
        for item in ((f"{name}{_SUMS}", sums[name]), (f"{name}{_COUNTS}", counts[name]))
    ]
    keys = [
        _text_key("general.type", "imatrix"),
        _key("imatrix.chunk_count", _U32, struct.pack("<I", chunks)),
        _key("imatrix.chunk_size", _U32, struct.pack("<I", chunk_tokens)),
        _key("imatrix.datasets", _ARRAY, struct.pack("<IQ", _TEXT, 0)),
    ]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys)
    position = 0
    for name, row in tensors:
        shape = (row.shape[-1], row.shape[0]) if row.ndim > 1 else (row.size,)
        head += _text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}QIQ", *shape, _F32, position)
        position += padded(row.nbytes)
    body = b"".join(_aligned(row.astype("<f4").tobytes()) for _, row in tensors)
    return _aligned(head) + body


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _text(name) + struct.pack("<I", kind) + value


def _text_key(name: str, value: str) -> bytes:
    return _key(name, _TEXT, _text(value))


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(data: bytes) -> bytes:
    return data + bytes(padded(len(data)) - len(data))
