"""``--schema list[Person]``: types as they are written in annotations, and what they mean.

What may stand there is a list: names, public attributes, subscripts, ``|``, and constants for
``Literal``. So no flag of a pasted cell calls anything.
"""

from __future__ import annotations

import ast
import builtins
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import capped

__all__ = ["TypeExpression", "named_type"]

_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "\"'"
_BLANKS = re.compile(r"\s*")


class TypeExpression(str):
    """What is behind ``--schema``: one word as Python sees it, ``dict[str, int]`` and ``P | Q``."""

    __slots__ = ()

    @staticmethod
    def first_word(text: str) -> tuple[str, str]:
        """The expression that ``text`` begins with, and what is behind it.

        Quotes around all of it are left out, those in it stay.
        """
        quote = text[:1]
        end = text.find(quote, 1) if quote and quote in _QUOTES else -1
        if end > 0 and text[end + 1 : end + 2] in ("", " ", "\t"):
            return text[1:end], text[end + 1 :].lstrip()
        end = next(_ends(text), len(text))
        return text[:end], text[end:].lstrip()


def _ends(text: str) -> Iterator[int]:
    """The blanks outside of brackets and quotes that do not stand beside a ``|``."""
    depth, quote = 0, ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in _QUOTES:
            quote = sign
        elif sign in _OPEN + _CLOSE:
            depth += 1 if sign in _OPEN else -1
        elif sign.isspace() and depth <= 0 and not text[:place].endswith("|"):
            following = _BLANKS.match(text, place)
            assert following is not None  # noqa: S101 - it matches anything
            is_inside = text[following.end() : following.end() + 1] == "|"
            if not is_inside and not text[:place].rstrip().endswith("|"):
                yield place


def named_type(written: str, namespace: Mapping[str, Any]) -> Any:
    """What an expression means where ``namespace`` holds the variables.

    The names of ``typing`` and of the builtin types are known besides. Raises
    ``InvalidOptionError``.
    """
    try:
        tree = ast.parse(written.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(written, "is not a type; write it as in an annotation") from None
    try:
        return _Meaning(namespace).of(tree.body)
    except InvalidOptionError:
        raise
    except _NotATypeError as error:
        raise _refused(written, f"is not a type: {error}") from None
    except Exception as error:  # noqa: BLE001 - of a class's own subscript; an error of the reader's
        problem = str(error) or type(error).__name__
        raise _refused(written, f"is not a type: {capped(problem)}") from None


def _refused(written: str, problem: str) -> InvalidOptionError:
    return InvalidOptionError("schema", f"{capped(written, 80)} {problem}")


class _NotATypeError(Exception):
    """A part of an expression has no place in a type; the text says which."""


class _Meaning:
    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def of(self, node: ast.expr) -> Any:
        """The value of a part."""
        match node:
            case ast.Name(name):
                return self._named(name)
            case ast.Constant(value):
                return value
            case ast.Attribute(value, name) if not name.startswith("_"):
                return getattr(self.of(value), name)
            case ast.Subscript(value, index):
                return self.of(value)[self.of(index)]
            case ast.BinOp(left, ast.BitOr(), right):
                return self.of(left) | self.of(right)
            case ast.Tuple(parts):
                return tuple(map(self.of, parts))
            case ast.List(parts):
                return list(map(self.of, parts))
            case ast.UnaryOp(ast.USub(), ast.Constant(int() as number)):
                return -number
            case _:
                raise _NotATypeError(
                    f"{capped(ast.unparse(node), 60)} is not allowed in a type; assign it to a "
                    "variable in a cell, and name that"
                )

    def _named(self, name: str) -> Any:
        if name in self._namespace:
            return self._namespace[name]
        builtin = getattr(builtins, name, None)
        if isinstance(builtin, type):
            return builtin
        if name in typing.__all__:
            return getattr(typing, name)
        classes = [
            key
            for key, value in list(self._namespace.items())
            if isinstance(value, type | types.GenericAlias | dict) and not key.startswith("_")
        ]
        hint = did_you_mean(name, classes)
        raise InvalidOptionError(
            "schema", f"there is no variable {name:.60}; define it in a cell.{hint}"
        )
