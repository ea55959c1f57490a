"""The methods of arrays, columns and tables that a prompt may call.

They are given their arguments by listed names, so that none can be a function, or something to
write to; and only what their result needs no more room for than the table itself is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbllm.notebook.prompts.evaluation import Budget, Call, Refused
from nbllm.notebook.prompts.plain_data import SCALARS, check_extras, is_numeric, plain, weigh
from nbllm.notebook.prompts.table_reads import table_item
from nbllm.notebook.prompts.value_kinds import kind_of, type_name, words

__all__ = ["Groups", "call_array", "call_groups", "call_index", "call_table", "groups_item"]

_ROWS = {"head": "n", "tail": "n", "sample": "n"}
"""These look at no cell."""
_SHARED = {
    **dict.fromkeys(words("abs count cumsum describe drop_duplicates dropna duplicated mode"), ""),
    **dict.fromkeys(words("idxmax idxmin isna isnull notna notnull"), ""),
    **dict.fromkeys(words("all any max min nunique"), "axis"),
    **dict.fromkeys(words("mean median std sum var"), "axis numeric_only"),
    **dict.fromkeys(words("diff pct_change"), "periods"),
    "fillna": "value",
    "isin": "values",
    "quantile": "q numeric_only",
    "reset_index": "drop",
    "round": "decimals",
    "sort_index": "ascending",
}
_FRAME = {
    **_SHARED,
    **dict.fromkeys(words("corr cov"), "numeric_only"),
    **dict.fromkeys(words("nlargest nsmallest"), "n columns"),
    "set_index": "keys drop",
    "sort_values": "by ascending",
    "to_dict": "orient",
}
_SERIES = {
    **_SHARED,
    **dict.fromkeys(words("argmax argmin item to_dict to_list tolist unique"), ""),
    **dict.fromkeys(words("nlargest nsmallest"), "n"),
    **dict.fromkeys(words("max min"), ""),
    "between": "left right inclusive",
    "nunique": "dropna",
    "sort_values": "ascending",
    "value_counts": "normalize sort ascending",
}
_INDEX = words("max min nunique to_list tolist unique")
_ARRAY = {
    **dict.fromkeys(words("all any argmax argmin cumsum max mean min std sum var"), "axis"),
    "round": "decimals",
}
_SHAPED = words("flatten item ravel reshape tolist transpose")
"""The methods of arrays that take numbers by position, and compute nothing."""
_GROUPED = words("count first last max mean median min nunique size std sum var")
_NUMERIC = words("abs corr cov cumsum diff mean median pct_change quantile round std sum var")
"""Of numbers alone: these would add the texts of a column up one by one, or fail on them."""
_PAIRED = frozenset({"corr", "cov"})
_SORT_COST = 10
_LISTED_LABELS = 1_000
_MAGNITUDE = 10**9


@dataclass(frozen=True, slots=True)
class Groups:
    """``table.groupby(by)``, and ``[columns]`` of it, before a method makes a table of it."""

    table: Any
    by: Any
    columns: Any = None


def call_array(array: Any, call: Call) -> Any:
    """A method of an array, with numbers alone as arguments."""
    call.budget.spend(weigh(array, call.budget))
    if call.name in _SHAPED and not call.named:
        call.budget.spend(array.size if call.name == "tolist" else 1)
        return getattr(array, call.name)(*map(_shape, call.given))
    if call.name not in _ARRAY or not is_numeric(array):
        raise call.not_listed(array)
    return getattr(array, call.name)(**_arguments(call, _ARRAY[call.name]))


def _shape(number: Any) -> Any:
    if kind_of(number) == "tuple":
        return tuple(map(_shape, number))
    if type(number) is not int:
        raise Refused("a shape is made of whole numbers")
    return number


def call_index(index: Any, call: Call) -> Any:
    """A method of an index, without arguments."""
    call.budget.spend(weigh(index, call.budget) + len(index))
    if call.name not in _INDEX:
        raise call.not_listed(index)
    return getattr(index, call.name)(**call.bound(""))


def call_table(table: Any, call: Call) -> Any:
    """A method of a column or table."""
    check_extras(table)
    if call.name in _ROWS:
        return getattr(table, call.name)(**_arguments(call, _ROWS[call.name]))
    if call.name == "groupby":
        return Groups(table, **_arguments(call, "by"))
    is_frame = kind_of(table) == "frame"
    listed = _FRAME if is_frame else _SERIES
    if call.name not in listed:
        raise call.not_listed(table)
    arguments = _arguments(call, listed[call.name])
    call.budget.spend(weigh(table, call.budget) * _cost(table, call.name, arguments))
    if is_frame and "numeric_only" in listed[call.name]:
        arguments["numeric_only"] = True
    else:
        arguments.pop("numeric_only", None)
        _check_numeric(table, call.name)
    found = getattr(table, call.name)(**arguments)
    is_array = call.name == "unique" and kind_of(found) != "array"
    return found.tolist() if is_array else found  # pandas' own arrays are nobody's data


def _check_numeric(table: Any, name: str) -> None:
    if name not in _NUMERIC:
        return
    is_frame = kind_of(table) == "frame"
    columns = (table.iloc[:, n] for n in range(table.shape[1])) if is_frame else (table,)
    if not all(map(is_numeric, columns)):
        raise Refused(f"{name} is computed of numbers in a prompt; choose columns of numbers first")


def _cost(table: Any, name: str, arguments: dict[str, Any]) -> int:
    """How many times longer it takes than looking at each cell."""
    listed = max([1, *(len(each) for each in arguments.values() if kind_of(each) == "list")])
    return int(listed * max(_SORT_COST, table.shape[1] if name in _PAIRED else 1))


def call_groups(groups: Groups, call: Call) -> Any:
    """A method of a grouped table, which makes a table of it again."""
    if call.name not in _GROUPED:
        raise Refused(
            f"{call.name} of a grouped table is not called in a prompt; put its result into a "
            "variable first"
        )
    call.bound("")
    call.budget.spend(weigh(groups.table, call.budget) * _SORT_COST)
    # Only the groups that there are: all that categories could make need not fit into memory.
    grouped = groups.table.groupby(groups.by, observed=True)
    if groups.columns is not None:
        grouped = grouped[groups.columns]
    return getattr(grouped, call.name)(**({"numeric_only": True} if call.name in _NUMERIC else {}))


def groups_item(groups: Groups, columns: Any, budget: Budget) -> Groups:
    """``table.groupby(by)[columns]``."""
    if groups.columns is not None or kind_of(columns) not in (*SCALARS, "list"):
        raise Refused("a grouped table is read by the names of its columns")
    if kind_of(groups.table) != "frame":
        raise Refused("a grouped column has no columns; call a method of it, such as mean()")
    try:
        table_item(groups.table, columns, budget)
    except KeyError:
        raise Refused(
            f"a grouped table has no column {columns!r:.80}, and no more than its columns is read "
            "in a prompt; assign the result to a variable first"
        ) from None
    return Groups(groups.table, groups.by, columns)


def _arguments(call: Call, listed: str) -> dict[str, Any]:
    return {name: _argument(each) for name, each in call.bound(listed).items()}


def _argument(value: Any) -> Any:
    """A scalar of a usual size, or a list of a few labels."""
    value = plain(value)
    if kind_of(value) in ("list", "tuple") and len(value) <= _LISTED_LABELS:
        return [_argument(each) for each in value]
    if kind_of(value) not in SCALARS or (type(value) is int and abs(value) > _MAGNITUDE):
        raise Refused(f"a {type_name(value)} is not given to a table's method in a prompt")
    return value
