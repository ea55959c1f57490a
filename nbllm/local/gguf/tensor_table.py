"""The table of tensors in a GGUF's header: name, shape, type and place of each.

A header has hundreds of rows, and a listing reads hundreds of headers. So the rows that lie in
memory are split by one regular expression, and what rows have in common is worked out once.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import NamedTuple, TypeAlias

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import TensorInfo
from nbllm.local.gguf.cursor import Cursor
from nbllm.local.gguf.tensor_types import TENSOR_TYPES, tensor_type_label

__all__ = ["DEFAULT_ALIGNMENT", "MAX_NAME_BYTES", "padded", "read_tensors", "short"]

DEFAULT_ALIGNMENT = 32
MAX_NAME_BYTES = 2**16
"""The longest name of a key or a tensor; real ones have some ten bytes."""
_MAX_DIMENSIONS = 4
_NEWEST_TYPE = 255

_FORMS = rb"\x01\0{3}.{12}|\x02\0{3}.{20}|\x03\0{3}.{28}|\x04\0{3}.{36}"
_ROW = re.compile(rb"(.)\0{7}([ -\xff]{1,255})(%b)(.{8})" % _FORMS, re.DOTALL)
"""A row in little-endian order whose name is short and has no control characters.

The name ends at the first of these, the number of dimensions, so that there is one way to split.
"""
_ROWS = re.compile(rb"(?:.\0{7}[ -\xff]{1,255}(?:%b).{8})*" % _FORMS, re.DOTALL)

_Row: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""As stored: the length's lowest byte; the name; the form, which is the number of dimensions, these
and the type; the place of the weights, in bytes from the beginning of all weights."""


def read_tensors(cursor: Cursor, count: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
    """The next ``count`` tensors, and where in the file the weights of the first begin.

    Raises ``ModelFileError`` where the rows contradict each other or the file's size.
    """
    rows = _read_rows(cursor, count)
    data_offset = padded(cursor.offset, alignment)
    if not rows:
        return (), data_offset
    _, stored, forms, places = zip(*rows, strict=True)
    names = [name.decode("utf-8", "replace") for name in stored]
    if len({*names}) < count:
        raise cursor.damaged("two tensors have the same name")
    offsets = struct.unpack(f"{cursor.order}{count}Q", b"".join(places))
    bounds = [*offsets, cursor.size - data_offset]
    tensors = _placed(cursor, zip(names, forms, pairwise(bounds), strict=True), alignment)
    _check_end(cursor, names[-1], data_offset + offsets[-1] + tensors[-1].size_bytes)
    return tuple(tensors), data_offset


def _placed(
    cursor: Cursor, rows: Iterable[tuple[str, bytes, tuple[int, int]]], alignment: int
) -> list[TensorInfo]:
    """The tensors, whose weights must lie one behind the other; with where the next ones begin."""
    order, step, mask = cursor.order, alignment - 1, -alignment
    tensors: list[TensorInfo] = []
    expected = 0
    for name, form, (offset, end) in rows:
        measure = _measure(form, order)
        if offset != expected or isinstance(measure, str) or measure.size_bytes is None:
            cursor.reading = f"tensor {short(name)}"
            measure = _measured_by_place(cursor, measure, offset, expected, end)
        tensor = TensorInfo._make((name, *measure))
        tensors.append(tensor)
        expected = offset + (tensor.size_bytes + step & mask)
    return tensors


def _measured_by_place(
    cursor: Cursor, measure: _Measure | str, offset: int, expected: int, end: int
) -> _Measure:
    """Of a type that is new: it ends where the next tensor begins. Raises for all that is wrong."""
    if offset != expected:
        problem = f"its weights begin at {offset}, but the previous ones end at {expected}"
        raise cursor.damaged(problem)
    if isinstance(measure, str):
        raise cursor.damaged(measure)
    if end < offset:
        raise cursor.damaged(f"unknown tensor type {measure.type_number}")
    return measure._replace(size_bytes=end - offset)


def _check_end(cursor: Cursor, last: str, end: int) -> None:
    cursor.reading = f"tensor {short(last)}"
    if end > cursor.size:
        raise ModelFileError(
            cursor.model,
            f"is truncated: its weights end at byte {end}, but the file ends at {cursor.size} "
            f"({cursor.size / end:.0%} of it is there). Download it again.",
        )


# ---------------------------------------------------------------- rows


def _read_rows(cursor: Cursor, count: int) -> list[_Row]:
    rows: list[_Row] = []
    while len(rows) < count:
        rows += _rows_in_window(cursor, count - len(rows))
        if len(rows) < count:
            rows.append(_read_row(cursor, len(rows) + 1, count))
    return rows


def _rows_in_window(cursor: Cursor, most: int) -> list[_Row]:
    """The rows that lie whole in memory, up to one that needs another look."""
    if cursor.order == ">":
        return []
    window, at = cursor.window
    whole = _ROWS.match(window, at)
    found = _ROW.findall(window, at, whole.end())[:most] if whole else []
    untrue = (number for number, row in enumerate(found) if row[0][0] != len(row[1]))
    rows: list[_Row] = found[: next(untrue, None)]
    cursor.move_by(sum(len(name) + len(form) + 16 for _, name, form, _ in rows))
    return rows


def _read_row(cursor: Cursor, number: int, count: int) -> _Row:
    cursor.reading = f"tensor number {number} of {count}"
    name = cursor.text(MAX_NAME_BYTES)
    dimensions = cursor.whole("I")
    if dimensions > _MAX_DIMENSIONS:
        raise cursor.damaged(f"{dimensions} dimensions (at most {_MAX_DIMENSIONS} are possible)")
    start = struct.pack(f"{cursor.order}I", dimensions)
    return b"", name, start + cursor.take(8 * dimensions + 4), cursor.take(8)


class _Measure(NamedTuple):
    """What all tensors of a form have in common; no size where the type is new."""

    shape: tuple[int, ...]
    type_number: int
    label: str
    elements: int
    size_bytes: int | None


@lru_cache(maxsize=4096)
def _measure(form: bytes, order: str) -> _Measure | str:
    """Or what is wrong with them."""
    *dimensions, type_number = struct.unpack(f"{order}{(len(form) - 8) // 8}QI", form[4:])
    shape = tuple(dimensions)
    elements = prod(shape)
    if not 0 < elements < 2**63:
        return f"its shape {shape} has {elements} elements"
    label, known = tensor_type_label(type_number), TENSOR_TYPES.get(type_number)
    if known is None:
        if type_number > _NEWEST_TYPE:
            return f"unknown tensor type {type_number}"
        return _Measure(shape, type_number, label, elements, None)
    if prod(shape[:1]) % known.block_elements:
        return f"rows of {shape[0]} cannot be stored as {known.label}"
    size = elements // known.block_elements * known.block_bytes
    return _Measure(shape, type_number, label, elements, size)


def padded(size: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """The size of what is stored, in bytes, with the padding up to the next tensor."""
    return -(-size // alignment) * alignment


def short(name: str) -> str:
    """A name for a message; in a damaged file it can be anything."""
    return repr(name if len(name) <= 80 else f"{name[:80]}…")
