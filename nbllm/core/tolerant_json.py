"""JSON as models write it, in linear time: what has one meaning is read, all else is refused.

Beyond JSON are read Python's quotes and constants, unquoted keys, comments, a comma before a
closing bracket, line breaks inside strings, and escapes that JSON doesn't have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nbllm.core.texts import well_formed

__all__ = ["Reader"]

_BLANK = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*|/\*.{0,2000}?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_WORD = re.compile(r"-?[A-Za-z_$][\w$-]*")
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_ESCAPES |= {sign: sign for sign in "\"'\\/"}
_CONSTANTS: Mapping[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}


class Reader:
    """Reads objects and arrays of ``text``; ``has_read`` says whether any part of one was read."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.has_read = False

    def read(self, start: int) -> tuple[Any, int]:
        """The object or array that begins at ``start``, and where it ends.

        Raises ``json.JSONDecodeError`` with the place, in the words of ``json``, and
        ``RecursionError``.
        """
        self._at, self.has_read = start, False
        return self._value(), self._at

    def _value(self) -> Any:
        match self._next():
            case "{":
                return self._object()
            case "[":
                return self._array()
            case '"' | "'":
                return self._string()
        return self._scalar()

    def _next(self) -> str:
        """The next character that is neither blank nor in a comment; "" at the end."""
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        return self._text[self._at : self._at + 1]

    def _array(self) -> list[Any]:
        self._at += 1
        values: list[Any] = []
        while self._next() != "]":
            values.append(self._value())
            self.has_read = True
            self._separate("]")
        self._at += 1
        return values

    def _object(self) -> dict[str, Any]:
        self._at += 1
        values: dict[str, Any] = {}
        while self._next() != "}":
            key = self._key()
            if self._next() != ":":
                raise self._error("Expecting ':' delimiter")
            self._at += 1
            values[key] = self._value()
            self.has_read = True
            self._separate("}")
        self._at += 1
        return values

    def _separate(self, closer: str) -> None:
        sign = self._next()
        if sign == ",":
            self._at += 1
        elif sign != closer:
            raise self._error("Expecting ',' delimiter")

    def _key(self) -> str:
        if self._next() in ("'", '"'):
            key = self._string()
            self.has_read = True
            return key
        match = _WORD.match(self._text, self._at) or _NUMBER.match(self._text, self._at)
        if match is None:
            raise self._error("Expecting property name enclosed in double quotes")
        self._at = match.end()
        return match.group()

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            self.has_read = True
            raise self._error("Unterminated string starting at")
        self._at = match.end()
        return well_formed(_ESCAPE.sub(_unescaped, match.group()[1:-1]))

    def _scalar(self) -> Any:
        word = _WORD.match(self._text, self._at)
        if word is not None and word.group() in _CONSTANTS:
            self._at = word.end()
            return _CONSTANTS[word.group()]
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            raise self._error("Expecting value")
        try:
            value = _number(number.group())
        except ValueError:
            raise self._error("it holds a number that is too long") from None
        self._at = number.end()
        return value

    def _error(self, problem: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(problem, self._text, self._at)


def _number(text: str) -> int | float:
    """Raises ``ValueError`` for whole numbers of more digits than Python reads."""
    return float(text) if set(text) & set(".eE") else int(text)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(int(code, 16))
    return _ESCAPES.get(match[4], match.group())
