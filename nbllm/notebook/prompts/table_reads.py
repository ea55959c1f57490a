"""Arrays, columns and tables in prompts: the attributes, rows, cells and operators that are read.

A result is never much larger than what it comes of: labels that stand in a table twice, and
shapes that are stretched to fit, would multiply it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from nbllm.notebook.prompts.cell_checks import CELLS_A_STEP, check_extras, check_labels, is_numeric
from nbllm.notebook.prompts.data import weigh
from nbllm.notebook.prompts.limits import Budget, Refused
from nbllm.notebook.prompts.scalars import SCALARS, key, plain
from nbllm.notebook.prompts.value_kinds import kind_of, type_name, words

__all__ = ["Located", "combined", "table_attribute", "table_item"]

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
