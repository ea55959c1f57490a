"""Python expressions in prompts, evaluated from a list of what they may do.

A prompt may hold text from anywhere, such as a page or a mail, so nothing runs that is not listed:

- names of the notebook's own variables, and literals;
- attributes without a leading underscore: those listed for numbers, times, arrays and tables, and
  what stands in an object itself (``attributes``); properties and ``__getattr__`` are not asked;
- subscripts and slices of Python's own containers and texts, arrays and tables;
- operators, comparisons, ``and``, ``or``, ``not`` and ``if`` over plain data (``operators``);
- calls of the listed functions (``functions``) and methods (``methods``) with plain data.

Plain data is told by its exact type, down to the elements of containers and the cells of tables
(``data``), so that no operator and no method reaches code of the notebook or of a package. Modules,
classes, functions and whatever else can be called never come out as values; the one exception is
a whole expression that is a bare name, which is shown, not called. What is shown in the end is
asked for its text, as ``print`` would (``values``): that is the only code of an object that runs.

Lengths, nesting, numbers, texts and time are limited (``limits``). All else raises ``Refused``.
"""

from __future__ import annotations

import ast
import builtins
import decimal
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from nbllm.notebook.prompts.attributes import attribute
from nbllm.notebook.prompts.evaluation import Budget, Call, Refused
from nbllm.notebook.prompts.functions import Called, function_named, function_of
from nbllm.notebook.prompts.methods import call_method
from nbllm.notebook.prompts.operators import binary, compare, truth, unary
from nbllm.notebook.prompts.plain_data import TABLES, check_keys, key, length, plain, weigh_scalar
from nbllm.notebook.prompts.table_methods import Groups, groups_item
from nbllm.notebook.prompts.table_reads import Accessor, Located, table_item
from nbllm.notebook.prompts.value_kinds import is_code, kind_of, type_name

__all__ = ["evaluate", "names_in", "parsed"]

_ROOTS = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Call),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp),
)
"""What a whole expression can be: a text, a number, a set or a dict is JSON or code."""
MAX_SOURCE, MAX_NODES, MAX_DEPTH = 1_000, 300, 40
"""Of an expression: characters, nodes that are evaluated, and nodes above one another."""
_PRECISION = 1_000
_SHORTEST_KEY = 8
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes)
_SEQUENCES = ("list", "tuple", "text", "bytes", "range")
_COPIED_A_STEP = 50


def parsed(source: str) -> ast.expr | None:
    """The expression of ``source``; None where it is none, or one of those that JSON has too."""
    if len(source) > MAX_SOURCE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in foreign text
            root = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return root if isinstance(root, _ROOTS) else None


def names_in(expression: ast.expr) -> set[str]:
    """The variables that an expression reads."""
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def evaluate(
    expression: ast.expr,
    variables: Mapping[str, Any],
    budget: Budget,
    holds_key: Callable[[str], bool],
) -> Any:
    """The value of ``expression``. Raises ``Refused``, and what Python's own operations raise.

    A text for which ``holds_key`` is true is not computed with, so that no part of a key comes out.
    """
    if isinstance(expression, ast.Name):
        return variables[expression.id]
    with warnings.catch_warnings(), decimal.localcontext() as context:
        warnings.simplefilter("ignore")
        context.prec = min(context.prec, _PRECISION)
        value = _Evaluation(variables, budget, holds_key).value(expression)
    if any(type(value) is each for each in (Groups, Located, Accessor)):
        raise Refused(
            "a grouped or located table, .str and .dt have no text; add a method, such as .sum(), "
            "or brackets"
        )
    return value


class _Evaluation:
    def __init__(
        self, variables: Mapping[str, Any], budget: Budget, holds_key: Callable[[str], bool]
    ) -> None:
        self._variables = variables
        self._budget = budget
        self._holds_key = holds_key
        self._depth = self._nodes = 0

    def value(self, node: ast.expr) -> Any:
        """The value of a node; never code."""
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise Refused("the expression is too long for a prompt; compute it in a variable first")
        self._budget.spend()
        value = self._value(node)
        self._depth -= 1
        if is_code(value):
            raise Refused(
                f"a {type_name(value)} is not data; assign what you need to a variable first"
            )
        if kind_of(value) in ("text", "bytes"):
            self._check_text(value)
        return value

    def _check_text(self, value: Any) -> None:
        self._budget.spend(weigh_scalar(value))
        text = value.decode("latin-1") if kind_of(value) == "bytes" else value
        if len(text) >= _SHORTEST_KEY and self._holds_key(text):
            raise Refused("its value seems to contain an API key")

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value) if type(value) in _CONSTANTS:
                return value
            case ast.Name(name):
                return self._variable(name)
            case ast.Attribute(owner, name):
                return attribute(self.value(owner), name, self._budget)
            case ast.Subscript(owner, index):
                return self._item(self.value(owner), self._index(index))
            case ast.Call():
                return self._call(node)
            case ast.List(elements):
                return [self.value(each) for each in elements]
            case ast.Tuple(elements):
                return tuple(self.value(each) for each in elements)
            case _:
                return self._computed(node)

    def _computed(self, node: ast.expr) -> Any:
        match node:
            case ast.BinOp(left, operation, right):
                return binary(type(operation), self.value(left), self.value(right), self._budget)
            case ast.UnaryOp(operation, operand):
                return unary(type(operation), self.value(operand), self._budget)
            case ast.Compare(left, operations, others):
                return self._compare(left, operations, others)
            case ast.BoolOp(ast.And(), values):
                return self._first(values, wanted=False)
            case ast.BoolOp(ast.Or(), values):
                return self._first(values, wanted=True)
            case ast.IfExp(test, then, otherwise):
                return self.value(then if truth(self.value(test)) else otherwise)
        raise Refused(f"{type(node).__name__} is not evaluated in a prompt")

    def _variable(self, name: str) -> Any:
        if name in self._variables:
            return self._variables[name]
        if hasattr(builtins, name):
            raise Refused(
                f"{name} is not data, and methods in a prompt take data only; assign the result "
                "to a variable first"
            )
        raise Refused(f"{name} is not a variable of the notebook")

    def _compare(self, left: ast.expr, operations: list[ast.cmpop], others: list[ast.expr]) -> Any:
        first, result = self.value(left), True
        for operation, other in zip(operations, others, strict=True):
            second = self.value(other)
            result = compare(type(operation), first, second, self._budget)
            if len(operations) > 1 and not truth(result):
                return result
            first = second
        return result

    def _first(self, values: list[ast.expr], *, wanted: bool) -> Any:
        result: Any = None
        for number, node in enumerate(values, 1):
            result = self.value(node)
            if number < len(values) and truth(result) is wanted:
                return result
        return result

    def _index(self, node: ast.expr) -> Any:
        match node:
            case ast.Slice(lower, upper, step):
                return slice(*(bound and self.value(bound) for bound in (lower, upper, step)))
            case ast.Tuple(elements):
                return tuple(self._index(each) for each in elements)
            case _:
                return self.value(node)

    def _item(self, owner: Any, index: Any) -> Any:
        kind = kind_of(owner)
        if type(owner) is Groups:
            return groups_item(owner, index, self._budget)
        if kind in TABLES or type(owner) is Located:
            return table_item(owner, index, self._budget)
        if type(owner) is Accessor:
            raise Refused("[…] of .str is not read in a prompt; assign it to a variable first")
        if kind == "dict" and type(index) is not slice:
            return _entry(owner, index, self._budget)
        if kind in _SEQUENCES:
            self._budget.spend(length(owner) // _COPIED_A_STEP if type(index) is slice else 1)
            return owner[_position(index)]
        raise Refused(
            f"[…] of a {type_name(owner)} is not read in a prompt; assign it to a variable first"
        )

    def _call(self, node: ast.Call) -> Any:
        if any(isinstance(each, ast.Starred) for each in node.args):
            raise Refused("* is not evaluated in a prompt")
        if any(each.arg is None for each in node.keywords):
            raise Refused("** is not evaluated in a prompt")
        function = self._function(node.func)
        owner = None if function else self.value(node.func.value)  # type: ignore[attr-defined]
        given = [self.value(each) for each in node.args]
        named = {str(each.arg): self.value(each.value) for each in node.keywords}
        if function:
            return function(self._budget, *given, **named)
        return call_method(owner, Call(node.func.attr, given, named, self._budget))  # type: ignore[attr-defined]

    def _function(self, called: ast.expr) -> Called | None:
        """The listed function that is called; None for a method. Raises ``Refused`` for others."""
        match called:
            case ast.Name(name):
                function = function_named(name, self._variables)
            case ast.Attribute(ast.Name(module), name) if module in self._variables:
                function = function_of(self._variables[module], name)
                if function is None and not is_code(self._variables[module]):
                    return None
            case ast.Attribute():
                return None
            case _:
                function = None
        if function is None:
            raise Refused(
                f"{ast.unparse(called)} is not called in a prompt; compute it in a variable first"
            )
        return function


def _entry(owner: dict[Any, Any], index: Any, budget: Budget) -> Any:
    check_keys(owner, budget)
    wanted = key(index)
    if wanted not in owner:
        raise KeyError(wanted)
    return dict.get(owner, wanted)


def _position(index: Any) -> Any:
    if type(index) is slice:
        return slice(*(_whole(each) for each in (index.start, index.stop, index.step)))
    return _whole(index)


def _whole(value: Any) -> Any:
    whole = plain(value)
    if whole is None or type(whole) is int or type(whole) is bool:
        return whole
    raise Refused(f"a {type_name(value)} is not a position")
