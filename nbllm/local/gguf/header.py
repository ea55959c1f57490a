"""The header of a GGUF file, read from an untrusted file in bounded time and memory.

The format is that of ``docs/gguf.md`` of ggml and of its reference reader, ``gguf.cpp``:
magic, version, counts, key-value pairs, tensor descriptions, padding, weights. The weights
are never read. What the reference reader refuses is refused here too, with a reason.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import TensorInfo, Value
from nbllm.core.paths import file_status, open_regular, reason
from nbllm.local.gguf.cursor import Cursor, foreign_format
from nbllm.local.gguf.tensor_table import DEFAULT_ALIGNMENT, MAX_NAME_BYTES, read_tensors, short

__all__ = ["Header", "alignment_of", "read_header"]

# Far above any real model (some thousand tensors, some hundred keys), and low enough to bound the
# work that a hostile file can cause.
_MAX_KEYS = 2**16
_MAX_TENSORS = 2**17
_MAX_KEPT_TEXT_BYTES = 2**20
_MAX_KEPT_ARRAY = 4096
_MAX_KEPT_BYTES = 16 * 2**20

_TEXT, _ARRAY = 8, 9
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the weights. ``array_lengths`` counts the elements of every array.

    It ends at ``end_offset``; the weights begin at ``data_offset``, behind padding.
    """

    version: int
    byte_order: Literal["little", "big"]
    metadata: Mapping[str, Value]
    array_lengths: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    end_offset: int
    data_offset: int
    file_size_bytes: int


def read_header(path: Path, *, samples: bool = False) -> Header:
    """Read the header of the GGUF at ``path``; for ``samples`` see ``Cursor``.

    Raises ``ModelFileError`` where the file is absent, unreadable, no GGUF, truncated or damaged.
    """
    try:
        status = file_status(path)
        with open_regular(path) as file:
            return _read(Cursor(file, status.st_size, str(path), samples=samples))
    except OSError as error:
        raise ModelFileError(str(path), f"cannot be read: {reason(error)}") from error


def _read(cursor: Cursor) -> Header:
    version = _read_version(cursor)
    tensor_count, key_count = map(int, cursor.numbers("QQ"))
    if tensor_count > _MAX_TENSORS or key_count > _MAX_KEYS:
        raise cursor.damaged(f"its header claims {tensor_count} tensors and {key_count} keys")
    metadata, array_lengths = _read_metadata(cursor, key_count)
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if isinstance(alignment, bool) or not isinstance(alignment, int):
        raise cursor.damaged(f"general.alignment is {alignment!r}, not an integer")
    if alignment <= 0 or alignment & (alignment - 1):
        raise cursor.damaged(f"general.alignment is {alignment}, not a power of two")
    tensors, data_offset = read_tensors(cursor, tensor_count, alignment)
    return Header(
        version=version,
        byte_order="little" if cursor.order == "<" else "big",
        metadata=MappingProxyType(metadata),
        array_lengths=MappingProxyType(array_lengths),
        tensors=tensors,
        end_offset=cursor.offset,
        data_offset=data_offset,
        file_size_bytes=cursor.size,
    )


def _read_version(cursor: Cursor) -> int:
    """Check magic and version, and learn the byte order from the latter."""
    start = cursor.take(min(cursor.size, 512))
    if start[:4] != b"GGUF":
        raise ModelFileError(cursor.model, f"is not a GGUF: it {foreign_format(start)}")
    cursor.move_to(4)
    version = cursor.whole("I")
    if version & 0xFFFF == 0:
        cursor.order = ">"
        cursor.move_to(4)
        version = cursor.whole("I")
    if version not in (2, 3):
        hint = "convert the model again" if version == 1 else "nbllm reads versions 2 and 3"
        raise ModelFileError(cursor.model, f"is GGUF version {version}; {hint}")
    return version


# ---------------------------------------------------------------- metadata


def _read_metadata(cursor: Cursor, count: int) -> tuple[dict[str, Value], dict[str, int]]:
    metadata: dict[str, Value] = {}
    array_lengths: dict[str, int] = {}
    seen: set[str] = set()
    kept_bytes = 0
    for number in range(count):
        cursor.reading = f"key number {number + 1} of {count}"
        key = cursor.text(MAX_NAME_BYTES).decode("utf-8", "replace")
        cursor.reading = f"key {short(key)}"
        if not key or key in seen:
            raise cursor.damaged("duplicate key" if key else "empty key")
        seen.add(key)
        value, length = _read_value(cursor)
        if length is not None:
            array_lengths[key] = length
        if value is not None and kept_bytes < _MAX_KEPT_BYTES:
            kept_bytes += len(key) + (len(value) * 8 if isinstance(value, str | tuple) else 8)
            metadata[key] = value
    return metadata, array_lengths


def _read_value(cursor: Cursor) -> tuple[Value | None, int | None]:
    """The next value, None where it is passed over; and its length where it is an array."""
    kind = cursor.whole("I")
    if kind in _NUMBERS:
        return cursor.numbers(_NUMBERS[kind])[0], None
    if kind == _TEXT:
        return _read_text(cursor), None
    if kind == _ARRAY:
        return _read_array(cursor)
    raise cursor.damaged(f"unknown value type {kind}")


def _read_text(cursor: Cursor) -> str | None:
    count = cursor.whole("Q")
    if count > _MAX_KEPT_TEXT_BYTES:
        cursor.move_to(cursor.offset + count)
        return None
    return cursor.take(count).decode("utf-8", "replace")


def _read_array(cursor: Cursor) -> tuple[Value | None, int]:
    kind, count = map(int, cursor.numbers("IQ"))
    if kind == _TEXT:
        cursor.skip_texts(count)
        return None, count
    if kind not in _NUMBERS:
        problem = (
            "arrays of arrays are not allowed" if kind == _ARRAY else f"unknown value type {kind}"
        )
        raise cursor.damaged(problem)
    if count <= _MAX_KEPT_ARRAY:
        return cursor.numbers(f"{count}{_NUMBERS[kind]}"), count
    cursor.move_to(cursor.offset + count * struct.calcsize("=" + _NUMBERS[kind]))
    return None, count


def alignment_of(metadata: Mapping[str, Value]) -> int:
    """What tensors are padded to, in bytes, by a header that was read and so has been checked."""
    alignment = metadata.get("general.alignment")
    return alignment if isinstance(alignment, int) else DEFAULT_ALIGNMENT
