"""Operators in prompts, over plain data alone and within limits of size."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from nbllm.notebook.prompts.evaluation import (
    INT_BITS,
    TEXT_CHARACTERS,
    VALUE_STEPS,
    Budget,
    Refused,
)
from nbllm.notebook.prompts.plain_data import TABLES, length, plain, weigh
from nbllm.notebook.prompts.table_reads import combined
from nbllm.notebook.prompts.value_kinds import kind_of, type_name

__all__ = ["binary", "compare", "truth", "unary"]

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_JOINED = ("text", "bytes", "list", "tuple")
_BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor)
_SEARCHED_CHARACTERS = 10**8
_CONTAINERS = ("list", "tuple", "set", "dict", "range")


def binary(operation: type[ast.operator], left: Any, right: Any, budget: Budget) -> Any:
    """``left`` and ``right`` combined. Raises ``Refused`` for what is not listed, or too large."""
    if operation not in _ARITHMETIC:
        raise Refused(f"the operator {operation.__name__} is not evaluated in a prompt")
    left, right = plain(left), plain(right)
    budget.spend(weigh(left, budget) + weigh(right, budget))
    kinds = kind_of(left), kind_of(right)
    if set(kinds) & set(TABLES):
        return combined(_ARITHMETIC[operation], left, right)
    if not _combine(operation, *kinds):
        raise Refused(
            f"{type_name(left)} and {type_name(right)} are not combined like this in a prompt"
        )
    if operation is ast.Mult:
        _check_repeats(left, right)
    if operation is ast.Pow:
        _check_power(left, right)
    result = _ARITHMETIC[operation](left, right)
    weigh(result, budget)
    return result


def _combine(operation: type[ast.operator], left: str, right: str) -> bool:
    """Whether the operator is listed for these kinds."""
    match left, right:
        case ("number", "number"):
            return True
        case ("number" | "time", "number" | "time"):
            return operation not in (ast.Pow, *_BITWISE)
        case ("set", "set"):
            return operation is ast.Sub or operation in _BITWISE
        case ("dict", "dict"):
            return operation is ast.BitOr
    if operation is ast.Add:
        return left == right and left in _JOINED
    repeated = {left, right} - {"number"}
    return operation is ast.Mult and len(repeated) == 1 and repeated <= set(_JOINED)


def _check_repeats(left: Any, right: Any) -> None:
    for sequence, times in ((left, right), (right, left)):
        kind = kind_of(sequence)
        limit = TEXT_CHARACTERS if kind in ("text", "bytes") else VALUE_STEPS
        if kind in _JOINED and type(times) in (int, bool) and len(sequence) * times > limit:
            raise Refused(f"nothing is repeated {times:,} times in a prompt")


def _check_power(base: Any, exponent: Any) -> None:
    bits = max(_bits(base), 1) * _bits_shifted(exponent)
    if bits > INT_BITS:
        raise Refused("a power of this size is not computed in a prompt")


def _bits(number: Any) -> int:
    if type(number) is Fraction:
        return max(number.numerator.bit_length(), number.denominator.bit_length())
    return number.bit_length() if type(number) is int else 0


def _bits_shifted(exponent: Any) -> int:
    """By how much an exponent multiplies the bits of a whole number."""
    if type(exponent) is Fraction:
        return abs(exponent.numerator) if exponent.denominator == 1 else 1
    return abs(exponent) if type(exponent) is int else 1


def unary(operation: type[ast.unaryop], operand: Any, budget: Budget) -> Any:
    """``-x``, ``+x``, ``~x`` and ``not x``."""
    if operation is ast.Not:
        return not truth(operand)
    operand = plain(operand)
    budget.spend(weigh(operand, budget))
    if kind_of(operand) not in ("number", "time", "array", "series"):
        raise Refused(f"a {type_name(operand)} has no sign in a prompt")
    if kind_of(operand) in TABLES and getattr(operand.dtype, "kind", "O") not in "biufc":
        raise Refused("only numbers are computed with cell by cell in a prompt")
    return _UNARY[operation](operand)


def compare(operation: type[ast.cmpop], left: Any, right: Any, budget: Budget) -> Any:
    """A comparison of plain data; ``is`` looks at no more than identity."""
    if operation in (ast.Is, ast.IsNot):
        return (left is right) is (operation is ast.Is)
    left, right = plain(left), plain(right)
    budget.spend(weigh(left, budget) + weigh(right, budget))
    if operation in (ast.In, ast.NotIn):
        return _holds(right, left, budget) is (operation is ast.In)
    if {kind_of(left), kind_of(right)} & set(TABLES):
        return combined(_COMPARE[operation], left, right)
    return _COMPARE[operation](left, right)


def _holds(container: Any, element: Any, budget: Budget) -> bool:
    kind = kind_of(container)
    if kind in ("text", "bytes"):
        if kind_of(element) == kind and len(container) * len(element) > _SEARCHED_CHARACTERS:
            raise Refused("so long a text is not searched for in a prompt")
    elif kind not in _CONTAINERS or kind_of(element) in TABLES:
        raise Refused(f"a {type_name(container)} is not searched in a prompt")
    elif kind == "range" and type(element) not in (int, bool):
        budget.spend(length(container))
    return element in container


def truth(value: Any) -> bool:
    """Whether a scalar or container counts as true."""
    if kind_of(value) in ("none", "number", "text", "bytes", "time", *_CONTAINERS):
        return bool(value)
    raise Refused(f"a {type_name(value)} is neither true nor false in a prompt")
