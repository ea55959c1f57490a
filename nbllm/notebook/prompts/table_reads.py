"""What is read of arrays, columns and tables: attributes, rows, cells, ``.str`` and ``.dt``.

A result is never much larger than what it comes of: labels that stand in a table twice, and
shapes that are stretched to fit, would multiply it. Of a column's texts nothing is listed that
takes a pattern, which may take any time, or makes more of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from nbllm.notebook.prompts.evaluation import Budget, Call, Refused
from nbllm.notebook.prompts.plain_data import (
    CELLS_A_STEP,
    SCALARS,
    check_extras,
    check_labels,
    is_numeric,
    key,
    plain,
    weigh,
)
from nbllm.notebook.prompts.value_kinds import kind_of, type_name, words

__all__ = [
    "NAMES",
    "Accessor",
    "Located",
    "accessor_attribute",
    "accessor_of",
    "call_accessor",
    "combined",
    "table_attribute",
    "table_item",
]

_ATTRIBUTES = {
    "array": words("shape ndim size T"),
    "index": words("shape size name"),
    "series": words("shape size name index empty"),
    "frame": words("shape size columns index dtypes empty T"),
}
_LOCATORS = ("loc", "iloc")
_LABELS = 1_000
"""How many labels may be listed at once."""
_WORD_BITS = 63
_STEPS_A_TRANSPOSED_CELL = 2


@dataclass(frozen=True, slots=True)
class Located:
    """``table.loc`` or ``table.iloc``, before its brackets."""

    table: Any
    by: str


def table_attribute(table: Any, name: str, budget: Budget) -> Any:
    """An attribute of an array or table, or the column of that name."""
    kind = kind_of(table)
    if kind in ("frame", "series"):
        check_extras(table)
        if name in _LOCATORS:
            return Located(table, name)
    if name in _ATTRIBUTES[kind]:
        if name == "T" and kind == "frame":
            budget.spend(table.size * _STEPS_A_TRANSPOSED_CELL)
        return getattr(table, name)
    if kind == "frame":
        check_labels(table.columns, budget)
        if name in table.columns:
            return table[name]
    raise Refused(
        f"{type_name(table)}.{name} is not read in a prompt; assign it to a variable first"
    )


def table_item(table: Any, index: Any, budget: Budget) -> Any:
    """``table[index]``."""
    kind = kind_of(table)
    if type(table) is Located:
        return _located(table, index, budget)
    if kind == "array":
        return table[_array_index(table, index, budget)]
    if kind == "index":
        return table[_position(index)]
    check_extras(table)
    reads_rows = kind == "series" or kind_of(index) == "series" or type(index) is slice
    axis = table.index if reads_rows else table.columns
    return table[_labels(axis, table.index, index, budget)]


def _located(located: Located, index: Any, budget: Budget) -> Any:
    table, by = located.table, located.by
    axes = [table.index, table.columns] if kind_of(table) == "frame" else [table.index]
    given = index if kind_of(index) == "tuple" else (index,)
    if len(given) > len(axes):
        raise Refused("a table is read by a row and a column")
    budget.spend(sum(len(each) for each in given if kind_of(each) == "list") * _longest(axes))
    if by == "iloc":
        return table.iloc[_key(list(map(_position, given)))]
    read = [_labels(axis, axis, each, budget) for axis, each in zip(axes, given, strict=False)]
    return table.loc[_key(read)]


def _key(read: list[Any]) -> Any:
    """A row, or a row and a column: pandas 3 takes no tuple of one."""
    return read[0] if len(read) == 1 else tuple(read)


def _longest(axes: list[Any]) -> int:
    return 1 + max(map(len, axes)) // CELLS_A_STEP


def _position(index: Any) -> Any:
    """A number, a slice of numbers, or a list of a few."""
    if type(index) is slice:
        bounds = (index.start, index.stop, index.step)
        return slice(*(None if each is None else _whole(each) for each in bounds))
    if kind_of(index) == "list" and len(index) <= _LABELS:
        return [_whole(each) for each in index]
    return _whole(index)


def _whole(value: Any) -> int:
    whole = plain(value)
    if type(whole) is int and whole.bit_length() <= _WORD_BITS:
        return whole
    raise Refused(f"a {type_name(value)} is not a position")


def _labels(axis: Any, rows: Any, index: Any, budget: Budget) -> Any:
    """What selects along ``axis``: a label, a slice, a list of labels, or a mask over ``rows``."""
    check_labels(axis, budget)
    if kind_of(index) == "series":
        return _mask(rows, index, budget)
    if type(index) is slice:
        return slice(*(key(each) for each in (index.start, index.stop, index.step)))
    if kind_of(index) != "list":
        return key(index)
    if len(index) > _LABELS or not axis.is_unique:
        raise Refused(f"at most {_LABELS:,} labels are listed, and of an axis without duplicates")
    budget.spend(len(rows) * len(index) // CELLS_A_STEP)
    return [key(each) for each in index]


def _mask(rows: Any, mask: Any, budget: Budget) -> Any:
    weigh(mask, budget)
    check_labels(rows, budget)
    if getattr(mask.dtype, "kind", "") != "b" or not mask.index.equals(rows):
        raise Refused("a table is filtered by a column of truth values of its own rows")
    return mask


def _array_index(array: Any, index: Any, budget: Budget) -> Any:
    if kind_of(index) == "array":
        weigh(index, budget)
        if index.dtype.kind == "b" and index.shape == array.shape[: index.ndim]:
            return index
        raise Refused("an array is filtered by truth values of its own shape")
    given = index if kind_of(index) == "tuple" else (index,)
    if any(kind_of(each) == "list" for each in given):
        raise Refused("an array is read by numbers and slices in a prompt")
    return tuple(map(_position, given))


def combined(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """An operator over columns, arrays and tables, cell by cell. Both are plain data."""
    sides = left, right
    if not (_fit(left, right) and all(map(_is_small, sides))):
        raise Refused(
            "in a prompt a table is combined with a number, a text or a time, and a column or "
            "array with one of the same rows"
        )
    if operation not in _COMPARISONS and not all(map(_computes, sides)):
        raise Refused("only numbers are computed with cell by cell in a prompt")
    return operation(left, right)


_COMPARISONS = frozenset(
    {operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge}
)


def _fit(left: Any, right: Any) -> bool:
    kinds = {kind_of(left), kind_of(right)}
    if kinds == {"series"}:
        return bool(left.index.equals(right.index))
    if kinds == {"array"}:
        return bool(left.shape == right.shape)
    return len(kinds & set(SCALARS)) == 1 and len(kinds) > 1


def _is_small(value: Any) -> bool:
    """Whether numpy computes with it in words of its own, and not in Python's objects."""
    if type(value) is int:
        return value.bit_length() <= _WORD_BITS
    return type(value) not in (Decimal, Fraction)


def _computes(value: Any) -> bool:
    match kind_of(value):
        case "number" | "time":
            return True
        case "frame":
            return all(getattr(each, "kind", "O") in "biufc" for each in value.dtypes.tolist())
        case "array" | "series" | "index":
            return is_numeric(value) or getattr(value.dtype, "kind", "O") in "mM"
    return False


_TEXTS = {
    **dict.fromkeys(words("upper lower title capitalize swapcase casefold"), ""),
    **dict.fromkeys(words("strip lstrip rstrip len isalpha isdigit isnumeric isspace"), ""),
    **dict.fromkeys(words("startswith endswith"), "pat"),
}
_TIMES = dict.fromkeys(words("day_name month_name total_seconds normalize"), "")
_PARTS = words(
    "year month day hour minute second microsecond date time dayofweek day_of_week weekday "
    "dayofyear day_of_year quarter days seconds is_month_start is_month_end is_year_start "
    "is_year_end is_leap_year"
)
_COST = 10
NAMES = ("str", "dt")


@dataclass(frozen=True, slots=True)
class Accessor:
    """``column.str`` or ``column.dt``, before what is read or called of it."""

    column: Any
    name: str


def accessor_of(column: Any, name: str, budget: Budget) -> Accessor:
    """The accessor of a column of texts or times. Raises ``Refused`` for another."""
    budget.spend(weigh(column, budget) * _COST)
    kind = getattr(column.dtype, "kind", "O")
    if name == "dt" and kind not in "mM":
        raise Refused(f"a column of {column.dtype} holds no times, so that it has no .dt")
    if name == "str" and not all(
        kind_of(cell) == "text" or cell is None or cell != cell for cell in column.tolist()
    ):
        raise Refused("a column that holds more than texts has no .str in a prompt")
    return Accessor(column, name)


def accessor_attribute(accessor: Accessor, name: str) -> Any:
    """A part of each time, such as its year."""
    if accessor.name != "dt" or name not in _PARTS:
        raise _refused(accessor, name)
    return getattr(accessor.column.dt, name)


def call_accessor(accessor: Accessor, call: Call) -> Any:
    """A method of each text or time."""
    listed = _TIMES if accessor.name == "dt" else _TEXTS
    if call.name not in listed:
        raise _refused(accessor, call.name)
    arguments = call.bound(listed[call.name])
    if not all(kind_of(each) == "text" for each in arguments.values()):
        raise Refused(f"{call.name} takes a text in a prompt")
    return getattr(getattr(accessor.column, accessor.name), call.name)(**arguments)


def _refused(accessor: Accessor, name: str) -> Refused:
    return Refused(
        f"Series.{accessor.name}.{name} is not used in a prompt; assign its result to a variable "
        "first"
    )
