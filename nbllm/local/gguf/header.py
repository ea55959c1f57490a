"""The header of a GGUF file, read from an untrusted file in bounded time and memory.

The format is that of ``docs/gguf.md`` of ggml and of its reference reader, ``gguf.cpp``:
magic, version, counts, key-value pairs, tensor descriptions, padding, weights. The weights
are never read. What the reference reader refuses is refused here too, with a reason.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import TensorInfo, Value
from nbllm.core.paths import file_status, open_regular, reason
from nbllm.local.gguf.cursor import Cursor, foreign_format, layout
from nbllm.local.gguf.tensor_types import TENSOR_TYPES, tensor_type_label

__all__ = ["DEFAULT_ALIGNMENT", "Header", "alignment_of", "padded", "read_header"]

# Far above any real model (some thousand tensors, some hundred keys), and low enough to bound the
# work that a hostile file can cause.
_MAX_KEYS = 2**16
_MAX_TENSORS = 2**17
_MAX_NAME_BYTES = 2**16
_MAX_KEPT_TEXT_BYTES = 2**20
_MAX_KEPT_ARRAY = 4096
_MAX_KEPT_BYTES = 16 * 2**20
_MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
_NEWEST_TYPE = 255

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
    tensors, data_offset = _read_tensors(cursor, tensor_count, alignment)
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
        key = cursor.text(_MAX_NAME_BYTES)
        cursor.reading = f"key {_short(key)}"
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


# ---------------------------------------------------------------- tensors


class _Placed(NamedTuple):
    """A tensor and where its weights begin, in bytes from the beginning of all weights."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
    """The tensors, and where in the file the weights of the first begin."""
    placed: list[_Placed] = []
    while len(placed) < count:
        placed += _read_window(cursor, count - len(placed))
        if len(placed) < count:
            placed.append(_read_tensor(cursor, len(placed) + 1, count))
    if len({tensor.name for tensor in placed}) < count:
        raise cursor.damaged("two tensors have the same name")
    data_offset = padded(cursor.offset, alignment)
    tensors, expected = [], 0
    for number, (name, shape, type_number, offset) in enumerate(placed, 1):
        measure = _measure(shape, type_number)
        if offset != expected or isinstance(measure, str):
            cursor.reading = f"tensor {_short(name)}"
            raise cursor.damaged(
                f"its weights begin at {offset}, but the previous ones end at {expected}"
                if offset != expected
                else str(measure)
            )
        label, elements, size = measure
        if size is None:
            end = placed[number].offset if number < count else cursor.size - data_offset
            size = _size_to(end, cursor, placed[number - 1])
        tensors.append(TensorInfo(name, shape, type_number, label, elements, size))
        expected = offset + (size + alignment - 1 & -alignment)
    if placed:
        cursor.reading = f"tensor {_short(placed[-1].name)}"
        _check_end(cursor, data_offset + placed[-1].offset + tensors[-1].size_bytes)
    return tuple(tensors), data_offset


def _size_to(end: int, cursor: Cursor, tensor: _Placed) -> int:
    """Of a tensor whose type is new to nbllm, with the padding."""
    if end < tensor.offset:
        cursor.reading = f"tensor {_short(tensor.name)}"
        raise cursor.damaged(f"unknown tensor type {tensor.type_number}")
    return end - tensor.offset


def _read_window(cursor: Cursor, most: int) -> list[_Placed]:
    """The descriptions that lie whole in memory, up to one that is damaged or ends outside.

    A header has hundreds of them, and a listing reads hundreds of headers, hence the bareness.
    """
    layouts = [layout(f"{cursor.order}{number}QIQ") for number in range(_MAX_DIMENSIONS + 1)]
    count_at = layout(f"{cursor.order}Q").unpack_from
    whole_at = layout(f"{cursor.order}I").unpack_from
    window, at = cursor.window
    placed: list[_Placed] = []
    try:
        while len(placed) < most:
            begin = at + 8
            end = begin + count_at(window, at)[0]
            rest = layouts[whole_at(window, end)[0]]
            numbers = rest.unpack_from(window, end + 4)
            if end - begin > _MAX_NAME_BYTES:
                break
            name = window[begin:end].decode("utf-8", "replace")
            placed.append(_Placed(name, numbers[:-2], numbers[-2], numbers[-1]))
            at = end + 4 + rest.size
    except (struct.error, IndexError, OverflowError):
        pass  # the next one is read with its checks, and from the file where it has to be
    cursor.move_by(at - cursor.window[1])
    return placed


def _read_tensor(cursor: Cursor, number: int, count: int) -> _Placed:
    cursor.reading = f"tensor number {number} of {count}"
    name = cursor.text(_MAX_NAME_BYTES)
    dimensions = cursor.whole("I")
    if dimensions > _MAX_DIMENSIONS:
        raise cursor.damaged(f"{dimensions} dimensions (at most {_MAX_DIMENSIONS} are possible)")
    *shape, type_number, offset = map(int, cursor.numbers(f"{dimensions}QIQ"))
    return _Placed(name, tuple(shape), type_number, offset)


class _Measure(NamedTuple):
    """What all tensors of a shape and a type have in common; no size where the type is new."""

    label: str
    elements: int
    size_bytes: int | None


@lru_cache(maxsize=4096)
def _measure(shape: tuple[int, ...], type_number: int) -> _Measure | str:
    """Or what is wrong with them."""
    elements = prod(shape)
    if not 0 < elements < 2**63:
        return f"its shape {shape} has {elements} elements"
    label, known = tensor_type_label(type_number), TENSOR_TYPES.get(type_number)
    if known is None:
        if type_number > _NEWEST_TYPE:
            return f"unknown tensor type {type_number}"
        return _Measure(label, elements, None)
    if prod(shape[:1]) % known.block_elements:
        return f"rows of {shape[0]} cannot be stored as {known.label}"
    return _Measure(label, elements, elements // known.block_elements * known.block_bytes)


def _check_end(cursor: Cursor, end: int) -> None:
    if end > cursor.size:
        raise ModelFileError(
            cursor.model,
            f"is truncated: its weights end at byte {end}, but the file ends at {cursor.size} "
            f"({cursor.size / end:.0%} of it is there). Download it again.",
        )


def alignment_of(metadata: Mapping[str, Value]) -> int:
    """What tensors are padded to, in bytes, by a header that was read and so has been checked."""
    alignment = metadata.get("general.alignment")
    return alignment if isinstance(alignment, int) else DEFAULT_ALIGNMENT


def padded(size: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """The size of what is stored, in bytes, with the padding up to the next tensor."""
    return -(-size // alignment) * alignment


def _short(name: str) -> str:
    """A name for a message; in a damaged file it can be anything."""
    return repr(name if len(name) <= 80 else f"{name[:80]}…")
