"""Python expressions in prompts, evaluated so that a pasted text cannot do harm.

A prompt may hold text from anywhere, such as a page or a mail. So an expression may read, compute
and compare, and call only what changes nothing: some of Python's own functions, functions and
objects that the notebook itself defines, and methods of texts, numbers, containers, tables and
arrays that only look at them. Everything else raises ``Refused``.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Refused", "evaluate", "names_in", "parsed"]


class Refused(Exception):  # noqa: N818 - no failure: the braces stay as they are
    """The expression does what expressions in prompts may not do."""


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.MatMult: operator.matmul,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_ROOTS = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Call),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp),
)
"""What a whole expression can be: a text, a number, a set or a dict is JSON or code."""

_FUNCTIONS = (
    "abs all any ascii bin bool dict enumerate float hex int len list max min oct ord chr range "
    "repr reversed round set sorted str sum tuple type zip"
)
_PURE_FUNCTIONS = frozenset(getattr(builtins, name) for name in _FUNCTIONS.split())
_TEXT_METHODS = (
    "capitalize casefold center count decode encode endswith find index isalpha isdigit join "
    "ljust lower lstrip partition removeprefix removesuffix replace rfind rjust rpartition rsplit "
    "rstrip split splitlines startswith strip swapcase title upper zfill"
)
_CONTAINER_METHODS = "get items keys values copy union intersection difference"
_NUMBER_METHODS = "is_integer bit_length date time isoformat strftime timestamp total_seconds"
_TABLE_METHODS = (
    "head tail describe sample nlargest nsmallest sort_values sort_index value_counts unique "
    "nunique isna notna dropna fillna round abs sum mean median mode std var min max quantile "
    "corr cov cumsum diff idxmin idxmax argmin argmax groupby reset_index set_index "
    "to_dict to_list tolist transpose reshape ravel flatten astype "
    "all any item"
)
_METHODS = f"{_TEXT_METHODS} {_CONTAINER_METHODS} {_NUMBER_METHODS} {_TABLE_METHODS}"
_PURE_METHODS = frozenset(_METHODS.split())
_WRITES = frozenset({"inplace", "out", "buf"})
"""Arguments of tables' and arrays' methods that make them write."""

_SHAPES = frozenset({"reshape", "transpose"})
"""The methods of arrays of which no positional argument is one to write to."""

_DATA_PACKAGES = frozenset({"builtins", "collections", "datetime", "decimal", "fractions"})
_TABLE_PACKAGES = frozenset({"numpy", "pandas", "polars"})
_FRAME_PARTS = ("gi_", "cr_", "ag_", "f_")
"""How the attributes begin that lead from a generator into the frames of running code."""
MAX_REPEATS, MAX_EXPONENT = 10**6, 1_000
"""How far ``*`` may repeat a sequence and ``**`` raise a number, so that no prompt hangs."""


def parsed(source: str) -> ast.expr | None:
    """The expression of ``source``; None where it is none, or one of those that JSON has too."""
    try:
        root = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return root if isinstance(root, _ROOTS) else None


def names_in(expression: ast.expr) -> set[str]:
    """The variables that an expression reads."""
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def evaluate(expression: ast.expr, variables: Mapping[str, Any]) -> Any:
    """The value of ``expression``. Raises ``Refused``, and what the user's own objects raise."""
    return _Evaluation(variables).value(expression)


class _Evaluation:
    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self._variable(name)
            case ast.Attribute(owner, name):
                return getattr(self.value(owner), _public(name))
            case ast.Subscript(owner, index):
                return self.value(owner)[self.value(index)]
            case ast.Slice(lower, upper, step):
                return slice(*(bound and self.value(bound) for bound in (lower, upper, step)))
            case ast.Call(function, arguments, keywords):
                return self._call(function, arguments, keywords)
            case _:
                return self._computed(node)

    def _computed(self, node: ast.expr) -> Any:
        match node:
            case ast.BinOp(left, operation, right) if type(operation) in _BINARY:
                return _binary(type(operation), self.value(left), self.value(right))
            case ast.UnaryOp(operation, operand):
                return _UNARY[type(operation)](self.value(operand))
            case ast.Compare(left, operations, others):
                return self._compare(left, operations, others)
            case ast.BoolOp(ast.And(), values):
                return self._first(values, wanted=False)
            case ast.BoolOp(ast.Or(), values):
                return self._first(values, wanted=True)
            case ast.IfExp(test, then, otherwise):
                return self.value(then if self.value(test) else otherwise)
            case ast.List(elements):
                return [self.value(each) for each in elements]
            case ast.Tuple(elements):
                return tuple(self.value(each) for each in elements)
            case _:
                raise Refused(f"{type(node).__name__} is not evaluated within a prompt")

    def _variable(self, name: str) -> Any:
        if name in self._variables:
            return self._variables[name]
        return getattr(builtins, name)

    def _compare(self, left: ast.expr, operations: list[ast.cmpop], others: list[ast.expr]) -> Any:
        first, result = self.value(left), True
        for operation, other in zip(operations, others, strict=True):
            second = self.value(other)
            result = _COMPARE[type(operation)](first, second)
            if len(operations) > 1 and not result:
                return result
            first = second
        return result

    def _first(self, values: list[ast.expr], *, wanted: bool) -> Any:
        result: Any = None
        for node in values:
            result = self.value(node)
            if bool(result) is wanted:
                return result
        return result

    def _call(
        self, function: ast.expr, arguments: list[ast.expr], keywords: list[ast.keyword]
    ) -> Any:
        called = self.value(function)
        if not _is_allowed(called):
            raise Refused(
                f"{ast.unparse(function)} is not called within a prompt; "
                "put its result into a variable"
            )
        if any(isinstance(each, ast.Starred) for each in arguments):
            raise Refused("* is not evaluated within a prompt")
        named = {each.arg: self.value(each.value) for each in keywords if each.arg is not None}
        if (
            len(named) < len(keywords)
            or _WRITES.intersection(named)
            or _may_write(called, arguments)
        ):
            raise Refused(f"{ast.unparse(function)} could change something, called like this")
        return called(*map(self.value, arguments), **named)


def _public(name: str) -> str:
    if name.startswith(("_", *_FRAME_PARTS)):
        raise Refused(f"the attribute {name} is not read within a prompt")
    return name


def _binary(operation: type[ast.operator], left: Any, right: Any) -> Any:
    whole = [side for side in (left, right) if isinstance(side, int)]
    if operation is ast.Mult and len(whole) == 1 and whole[0] > MAX_REPEATS:
        raise Refused(f"nothing is repeated {whole[0]:,} times within a prompt")
    if operation is ast.Pow and isinstance(right, int) and right > MAX_EXPONENT:
        raise Refused(f"nothing is raised to the power of {right:,} within a prompt")
    return _BINARY[operation](left, right)


def _is_allowed(called: Any) -> bool:
    """Whether calling it only looks at things, or is the notebook's own code."""
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        return False
    if _is_pure_function(called):
        return True
    owner = getattr(called, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        return _module(type(owner)) == "__main__" or (
            getattr(called, "__name__", "") in _PURE_METHODS
            and _module(type(owner)).partition(".")[0] in _DATA_PACKAGES | _TABLE_PACKAGES
        )
    return _module(called) == "__main__"


def _may_write(called: Any, arguments: list[ast.expr]) -> bool:
    """Whether a method of an array could be given the array to write to by its position."""
    owner = type(getattr(called, "__self__", None))
    is_array = _module(owner).startswith("numpy")
    return is_array and len(arguments) > 1 and called.__name__ not in _SHAPES


def _is_pure_function(called: Any) -> bool:
    try:
        is_known = called in _PURE_FUNCTIONS
    except TypeError:  # not hashable
        return False
    return is_known or _module(called) in {"math", "statistics"}


def _module(thing: Any) -> str:
    return str(getattr(thing, "__module__", None))
