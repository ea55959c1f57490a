"""Plain data: values of which every part is of a listed type, and what their size is.

Operators, functions and methods are given plain data only, so that they can run no code but
Python's own, numpy's and pandas'. That holds down to the cells, labels and names of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from nbllm.notebook.prompts.evaluation import (
    INT_BITS,
    TEXT_CHARACTERS,
    VALUE_STEPS,
    Budget,
    Refused,
)
from nbllm.notebook.prompts.value_kinds import is_a, kind_of, known_zone, module_of, type_name

__all__ = [
    "CELLS_A_STEP",
    "SCALARS",
    "TABLES",
    "check_extras",
    "check_keys",
    "check_labels",
    "is_numeric",
    "items",
    "key",
    "length",
    "plain",
    "weigh",
    "weigh_scalar",
]

SCALARS = ("none", "number", "text", "bytes", "time")
TEXT_A_STEP = 64
"""Characters that cost as much as an element."""
_DECIMAL_EXPONENT = 1_000


def weigh_scalar(value: Any) -> int:
    """What a scalar costs to compute with, in steps. Raises ``Refused`` for all else."""
    match kind_of(value):
        case "none":
            return 1
        case "text" | "bytes":
            return _weigh_text(value)
        case "number":
            return _weigh_number(value)
        case "time":
            return _weigh_time(value)
    raise Refused(
        f"a {type_name(value)} is not computed with in a prompt; "
        "assign what you need to a variable first"
    )


def too_large(value: object) -> Refused:
    """The refusal of a value of which computing would take too long."""
    return Refused(
        f"the {type_name(value)} is too large to compute with in a prompt; "
        "compute it in a variable first"
    )


def _weigh_text(value: Any) -> int:
    if len(value) > TEXT_CHARACTERS:
        raise too_large(value)
    return 1 + len(value) // TEXT_A_STEP


def _weigh_number(value: Any) -> int:
    if type(value) is int and value.bit_length() > INT_BITS:
        raise too_large(value)
    if type(value) is Fraction:
        return _weigh_number(value.numerator) + _weigh_number(value.denominator)
    if type(value) is Decimal and value.is_finite() and value:
        digits = len(value.as_tuple().digits)
        if abs(value.adjusted()) > _DECIMAL_EXPONENT or digits > _DECIMAL_EXPONENT:
            raise too_large(value)
    return 1


def _weigh_time(value: Any) -> int:
    if not known_zone(getattr(value, "tzinfo", None)):
        raise Refused("its time zone has code of its own; assign its text to a variable")
    return 1


def plain(value: Any) -> Any:
    """A whole number or text of numpy as Python's own; all else as it is."""
    if kind_of(value) in ("number", "text", "bytes") and type(value).__module__ == "numpy":
        return value.item() if value.dtype.kind in "biuSU" else value
    return value


def key(value: Any) -> Any:
    """``value``, if it can be a key without code of its own. Raises ``Refused``."""
    value = plain(value)
    if kind_of(value) == "tuple":
        return tuple(map(key, value))
    weigh_scalar(value)
    return value


TABLES = ("array", "frame", "series", "index")
CELLS_A_STEP = 50
"""An operation of numpy takes about as long for so many cells as Python for one element."""
_OBJECTS_A_STEP = 5
_ARRAY_KINDS = "biufcmMSU"


def weigh_table(table: Any, budget: Budget) -> int:
    """The cells of a table in steps. Raises ``Refused`` where one holds more than plain data."""
    kind = kind_of(table)
    if kind == "array":
        weight = 1 + int(table.size) // CELLS_A_STEP
        columns = [table]
    else:
        width = max(1, table.shape[1]) if kind == "frame" else 1
        weight = 1 + width + len(table) * width // CELLS_A_STEP
        columns = []
    if weight > VALUE_STEPS:
        return weight  # which whoever asked refuses
    if kind in ("frame", "series"):
        check_extras(table)
        check_labels(table.index, budget)
        columns = _object_columns(table)
    if kind == "frame":
        check_labels(table.columns, budget)
    if kind == "index":
        check_labels(table, budget)
    for column in columns:
        _check_values(column, budget)
    return weight


def check_extras(table: Any) -> None:
    """Raises ``Refused`` for attributes with code of their own: pandas copies them with a table."""
    for name, attribute in table.attrs.items():
        key(name)
        weigh_scalar(attribute)
    if kind_of(table) == "series":
        key(table.name)


def check_labels(index: Any, budget: Budget) -> None:
    """Raises ``Refused`` where labels could answer a look-up with code of their own."""
    if id(index) in budget.keyed:
        return
    if kind_of(index) != "index":
        raise Refused(f"an index of the type {type_name(index)} is not read in a prompt")
    for name in index.names:
        key(name)
    for level in index.levels if type_name(index) == "MultiIndex" else [index]:
        _check_values(level, budget)
    budget.keyed[id(index)] = index


def is_numeric(column: Any) -> bool:
    """Whether the values of an array, column or index are numbers, or truth values."""
    return getattr(column.dtype, "kind", "O") in "biufc" and kind_of(column.dtype) != "categories"


def _object_columns(table: Any) -> list[Any]:
    """The columns that have to be looked into, or refused: those not of numpy's number types."""
    if kind_of(table) == "series":
        return [table]
    types = table.dtypes.tolist()
    return [
        table.iloc[:, number] for number, dtype in enumerate(types) if not _is_plain_numpy(dtype)
    ]


def _is_plain_numpy(dtype: Any) -> bool:
    return is_a(dtype, "numpy", "dtype") and dtype.kind in _ARRAY_KINDS


def _check_values(column: Any, budget: Budget) -> None:
    dtype = column.dtype
    if _is_plain_numpy(dtype):
        return
    if is_a(dtype, "numpy", "dtype") and dtype.kind == "O":
        _check_objects(column if kind_of(column) == "array" else column.to_numpy(), budget)
        return
    kind = kind_of(dtype)
    is_pandas = kind and module_of(type(column.array)).partition(".")[0] == "pandas"
    if is_pandas and kind == "categories":
        _check_values(dtype.categories, budget)
    elif not is_pandas and not is_a(dtype, "pandas", "IntervalDtype"):
        raise Refused(f"values of the type {type_name(dtype)} are not computed with in a prompt")


def _check_objects(array: Any, budget: Budget) -> None:
    budget.spend(array.size // _OBJECTS_A_STEP)
    for each in array.flat:
        key(each)


_DEPTH = 30
_COMMON_KEYS = frozenset(map(id, (str, int, float, bool, type(None))))
_KEYS_A_STEP = 10


def weigh(value: Any, budget: Budget) -> int:
    """How many elements an operation on ``value`` may have to look at, at all depths.

    Raises ``Refused`` for what is no plain data, or too large to compute with. What is nested in
    two places counts twice, as it costs twice.
    """
    known = budget.weights.get(id(value))
    if known is not None:
        return known[1]
    weight = _weigh_parts(value, budget)
    if weight > 1:
        budget.weights[id(value)] = (value, weight)
    return weight


def _weigh_parts(value: Any, budget: Budget) -> int:
    waiting, weight = [(value, 0)], 0
    while waiting:
        each, depth = waiting.pop()
        parts = _parts(each)
        if parts is None:
            leaf = _weigh_leaf(each, budget)
            if leaf > 1:  # one was counted with its container
                budget.spend(leaf - 1)
            weight += leaf
        elif depth == _DEPTH:
            raise Refused(f"the {type_name(value)} is nested too deeply to compute with")
        else:
            budget.spend(1 + len(parts))
            alike = _weigh_alike(parts)
            weight += 1 + (alike or 0)
            waiting += [(part, depth + 1) for part in parts] if alike is None else []
        if weight + len(waiting) > VALUE_STEPS:
            raise too_large(value)
    return weight


def _weigh_alike(parts: Sequence[Any]) -> int | None:
    """The weight of many elements of one common type, in a fraction of the time; else None."""
    types = {id(type(each)) for each in parts}
    if types == {id(float)} or types == {id(bool)}:
        return len(parts)
    if types == {id(int)} and max(max(parts), -min(parts)).bit_length() <= INT_BITS:
        return len(parts)
    if types == {id(str)} and max(map(len, parts)) <= TEXT_CHARACTERS:
        return len(parts) + sum(map(len, parts)) // TEXT_A_STEP
    return None


def _parts(value: Any) -> Sequence[Any] | None:
    """The elements of a container, keys and values of a dict; None of all else."""
    kind = kind_of(value)
    if kind not in ("list", "tuple", "set", "dict"):
        return None
    if len(value) > VALUE_STEPS:
        raise too_large(value)
    return [*value, *value.values()] if kind == "dict" else [*value]


def _weigh_leaf(value: Any, budget: Budget) -> int:
    kind = kind_of(value)
    if kind == "range":
        return 1
    return weigh_table(value, budget) if kind in TABLES else weigh_scalar(value)


def check_keys(value: dict[Any, Any], budget: Budget) -> None:
    """Raises ``Refused`` where a key of the dict could answer a look-up with code of its own."""
    if id(value) in budget.keyed:
        return
    budget.spend(len(value) // _KEYS_A_STEP)
    if not {id(type(each)) for each in value} <= _COMMON_KEYS:
        for each in value:
            key(each)
    budget.keyed[id(value)] = value


def items(value: Any, budget: Budget) -> list[Any]:
    """The elements of a container or a range, or the values of a column, as a list."""
    kind = kind_of(value)
    if kind in ("series", "index") or (kind == "array" and value.ndim == 1):
        budget.spend(weigh(value, budget) + len(value))
        return list(value.tolist())
    if kind in ("list", "tuple", "set", "dict", "range", "text", "bytes"):
        budget.spend(length(value))
        return list(value)
    raise Refused(f"the elements of a {type_name(value)} are not read in a prompt")


def length(value: Any) -> int:
    """The number of elements, also of a range that is longer than ``len`` can say."""
    if kind_of(value) == "range":
        count: int = -((value.start - value.stop) // value.step)
        return max(0, count)
    return len(value)
