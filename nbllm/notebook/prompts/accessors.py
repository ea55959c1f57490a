"""``column.str`` and ``column.dt`` in prompts: what is listed of them, cell by cell.

Of texts nothing is listed that takes a pattern, which may take any time, or makes more of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbllm.notebook.prompts.calls import Call
from nbllm.notebook.prompts.data import weigh
from nbllm.notebook.prompts.limits import Budget, Refused
from nbllm.notebook.prompts.value_kinds import kind_of, words

__all__ = ["NAMES", "Accessor", "accessor_attribute", "accessor_of", "call_accessor"]

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
