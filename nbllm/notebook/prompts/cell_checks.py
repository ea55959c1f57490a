"""Whether arrays and tables hold plain data alone, down to cells, labels and names."""

from __future__ import annotations

from typing import Any

from nbllm.notebook.prompts.limits import VALUE_STEPS, Budget, Refused
from nbllm.notebook.prompts.scalars import key, weigh_scalar
from nbllm.notebook.prompts.value_kinds import is_a, kind_of, module_of, type_name

__all__ = ["CELLS_A_STEP", "TABLES", "check_extras", "check_labels", "is_numeric", "weigh_table"]

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
