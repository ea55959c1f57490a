"""The functions that a prompt may call: wrappers with limits, found by the function's identity.

A name stands for a listed function only while it is Python's own: what the notebook has put in
its place is not called.
"""

from __future__ import annotations

import builtins
import math
import statistics
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias

from nbllm.notebook.prompts.bounded_texts import value_text
from nbllm.notebook.prompts.evaluation import INT_BITS, Budget, Refused
from nbllm.notebook.prompts.plain_data import (
    SCALARS,
    TABLES,
    items,
    length,
    plain,
    weigh,
    weigh_scalar,
)
from nbllm.notebook.prompts.value_kinds import kind_of, kinds_of, type_name

__all__ = ["Called", "function_named", "function_of"]

Called: TypeAlias = "Callable[..., Any]"
"""Takes the budget and the arguments."""

_DIGITS = 300
_GROWING_LITTLE = {id(bool), id(int), id(float)}
_TEXT_STEPS = 64
"""Of a text that is read as a number: 4,000 characters."""


def _length(budget: Budget, value: Any) -> int:
    if kind_of(value) in ("none", "number", "time", ""):
        raise Refused(f"a {type_name(value)} has no length in a prompt")
    return length(value)


def _range(budget: Budget, *bounds: Any) -> range:
    return range(*map(_whole, bounds))


def _enumerate(budget: Budget, values: Any, start: Any = 0) -> list[Any]:
    return list(enumerate(items(values, budget), _whole(start)))


def _zip(budget: Budget, *iterables: Any) -> list[Any]:
    return list(zip(*(items(each, budget) for each in iterables), strict=False))


def _reversed(budget: Budget, values: Any) -> list[Any]:
    return items(values, budget)[::-1]


_SHALLOW: dict[str, Called] = {
    "len": _length,
    "range": _range,
    "enumerate": _enumerate,
    "zip": _zip,
    "reversed": _reversed,
    "list": lambda budget, values=(): items(values, budget),
    "tuple": lambda budget, values=(): tuple(items(values, budget)),
}
"""These look at no element, only at how many there are."""


def _whole(value: Any) -> int:
    whole = plain(value)
    if kind_of(whole) != "number" or not isinstance(whole, int) or whole.bit_length() > INT_BITS:
        raise Refused(f"a {type_name(value)} is not a whole number")
    return int(whole)


def _elements(values: tuple[Any, ...], budget: Budget) -> list[Any]:
    """Of the one container, or the arguments themselves; plain data, to be compared."""
    found = items(values[0], budget) if len(values) == 1 else list(values)
    budget.spend(weigh(found, budget))
    if kinds_of(found) & set(TABLES):
        raise Refused("tables are not compared with one another in a prompt")
    return found


def _sum(budget: Budget, values: Any, start: Any = 0) -> Any:
    found = [start, *_elements((values,), budget)]
    if not kinds_of(found) <= {"number", "time"}:
        raise Refused("only numbers and times are summed in a prompt")
    if not {id(type(each)) for each in found} <= _GROWING_LITTLE:
        return _summed_up(found)
    return sum(found[1:], start)


def _summed_up(values: list[Any]) -> Any:
    """The sum of numbers that could grow with every addition, such as fractions."""
    total = plain(values[0])
    for each in values[1:]:
        total = total + plain(each)
        weigh_scalar(total)
    return total


def _round(budget: Budget, number: Any, ndigits: Any = None) -> Any:
    digits = None if ndigits is None else _whole(ndigits)
    if kind_of(number) in ("array", "series"):
        raise Refused(f"round a {type_name(number)} with its method: x.round(2)")
    if kind_of(number) != "number" or (digits is not None and abs(digits) > _DIGITS):
        raise Refused(f"a number is rounded to {_DIGITS} digits at most")
    return round(number, digits) if digits is not None else round(number)


def _int(budget: Budget, value: Any = 0, base: Any = None) -> int:
    if kind_of(value) not in ("number", "text"):
        raise Refused(f"a {type_name(value)} is not a number")
    if kind_of(value) == "text" and len(value) > INT_BITS // 4:
        raise Refused("the text is too long for a number")
    return int(value) if base is None else int(value, _whole(base))


def _scalar_only(function: Callable[..., Any]) -> Called:
    def call(budget: Budget, *values: Any) -> Any:
        for each in values:
            if kind_of(each) not in SCALARS or weigh_scalar(each) > _TEXT_STEPS:
                raise Refused(f"a {type_name(each)} is not taken here in a prompt")
        return function(*map(plain, values))

    return call


def _numbers_only(function: Callable[..., Any]) -> Called:
    def call(budget: Budget, values: Any) -> Any:
        found = [plain(each) for each in _elements((values,), budget)]
        if not all(type(each) in (bool, int, float) for each in found):
            raise Refused("statistics are computed of numbers in a prompt")
        return function(found)

    return call


def _text(budget: Budget, value: Any = "") -> str:
    return value_text(value)


def _written(budget: Budget, value: Any) -> str:
    return value_text(value, quoted=True)


_DEEP: dict[str, Called] = {
    "all": lambda budget, values: all(_elements((values,), budget)),
    "any": lambda budget, values: any(_elements((values,), budget)),
    "max": lambda budget, *values: max(_elements(values, budget)),
    "min": lambda budget, *values: min(_elements(values, budget)),
    "sorted": lambda budget, values, *, reverse=False: sorted(
        _elements((values,), budget), reverse=bool(reverse)
    ),
    "set": lambda budget, values=(): set(_elements((values,), budget)),
    "sum": _sum,
    "round": _round,
    "int": _int,
    "abs": _scalar_only(abs),
    "bin": _scalar_only(bin),
    "bool": _scalar_only(bool),
    "chr": _scalar_only(chr),
    "float": _scalar_only(float),
    "hex": _scalar_only(hex),
    "oct": _scalar_only(oct),
    "ord": _scalar_only(ord),
    "str": _text,
    "repr": _written,
}


def _deep(call: Called) -> Called:
    def checked(budget: Budget, *values: Any, **named: Any) -> Any:
        for each in (*values, *named.values()):
            budget.spend(weigh(each, budget))
        return call(budget, *values, **named)

    return checked


_WRAPPERS = {**_SHALLOW, **{name: _deep(call) for name, call in _DEEP.items()}}
_MATH = (
    "acos asin atan atan2 ceil cos degrees exp fabs floor fmod hypot isfinite isinf isnan log "
    "log10 log2 radians sin sqrt tan trunc"
)
_MODULES = (math, statistics)
_STATISTICS = "fmean mean median mode pstdev stdev variance"
_OF_MODULES: dict[int, dict[str, Called]] = {
    id(math): {name: _deep(_scalar_only(getattr(math, name))) for name in _MATH.split()},
    id(statistics): {
        name: _deep(_numbers_only(getattr(statistics, name))) for name in _STATISTICS.split()
    },
}
_LISTED: dict[int, tuple[object, Called]] = {
    id(getattr(module, name)): (getattr(module, name), call)
    for module, calls in ((builtins, _WRAPPERS), *((m, _OF_MODULES[id(m)]) for m in _MODULES))
    for name, call in calls.items()
}
"""By ``id``; the functions are kept, so that nothing else gets theirs."""


def function_named(name: str, variables: Mapping[str, Any]) -> Called | None:
    """The listed function that ``name`` stands for in the notebook; None where there is none."""
    if name in variables:
        function, call = _LISTED.get(id(variables[name]), (None, None))
        return call if function is variables[name] else None
    return _WRAPPERS.get(name)


def function_of(module: object, name: str) -> Called | None:
    """A listed function of ``math`` or ``statistics``; None of anything else."""
    if type(module) is not ModuleType:
        return None
    return _OF_MODULES.get(id(module), {}).get(name)
