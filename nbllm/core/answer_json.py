"""The JSON of an answer: found in prose and fences, read if unambiguous, closed where it was cut.

Beyond JSON are read Python's quotes and constants, unquoted keys, comments, a comma before a
closing bracket, line breaks inside strings, and escapes that JSON doesn't have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import AnswerFormError
from nbllm.core.texts import well_formed

__all__ = [
    "Block",
    "Reader",
    "blocks_of",
    "closed",
    "json_of",
]

_TOKEN = re.compile(
    r"""\s+ | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [\[\]{}:,"'] | [^\s\[\]{}:,"']+""",
    re.DOTALL | re.VERBOSE,
)
_CLOSERS = {"[": "]", "{": "}"}


def closed(text: str) -> str:
    """What is complete of JSON that was cut off, with its brackets closed.

    Of an array those elements stay that are complete; if there's none, as much of the first one as
    there is. Text without a bracket, and JSON that is complete or broken, stays as it is.

    >>> closed('[{"name": "Ann", "age": 34}, {"name": "Bo')
    '[{"name": "Ann", "age": 34}]'
    """
    start, end, elements_end = _start(text), None, 0
    is_array, is_key = text[start : start + 1] == "[", False
    open_ends, closers = list[str](), ""
    for match in _TOKEN.finditer(text, start):
        part = match.group()
        if part.isspace():
            continue
        if part in _CLOSERS:
            open_ends.append(_CLOSERS[part])
        elif part in ("]", "}"):
            if open_ends.pop() != part or not open_ends:
                return text
        elif part in (",", ":"):
            is_key = part == "," and open_ends[-1] == "}"
            continue
        elif part in ('"', "'"):
            break
        elif is_key or match.end() == len(text):
            continue
        is_key = part == "{"
        end, closers = match.end(), "".join(reversed(open_ends))
        if is_array and len(open_ends) == 1 and part != "[":
            elements_end = end
    if elements_end:
        return text[start:elements_end] + "]"
    return text if end is None else text[start:end] + closers


def _start(text: str) -> int:
    found = re.search(r"[\[{]", text)
    return found.start() if found else len(text)


_BLANK = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*)*")
_MOST_COMMENT = 2000
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


class BrokenJsonError(ValueError):
    """What is wrong at a place of a text, in the words of ``json``.

    Unlike ``json.JSONDecodeError`` it counts no lines before somebody asks: prose may have
    thousands of brackets that begin nothing, and counting at each would take quadratic time.
    """

    def __init__(self, problem: str, text: str, position: int) -> None:
        super().__init__(problem)
        self.position, self._problem, self._text = position, problem, text

    def __str__(self) -> str:
        line = self._text.count("\n", 0, self.position) + 1
        column = self.position - self._text.rfind("\n", 0, self.position)
        return f"broken JSON at line {line}, column {column}: {self._problem}"


class Reader:
    """Reads objects and arrays of ``text``; ``has_read`` says whether any part of one was read."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.has_read = False

    def read(self, start: int) -> tuple[Any, int]:
        """The object or array that begins at ``start``, and where it ends.

        Raises ``BrokenJsonError`` and ``RecursionError``.
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
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if not self._text.startswith("/*", self._at):
                return self._text[self._at : self._at + 1]
            end = self._text.find("*/", self._at + 2, self._at + _MOST_COMMENT)
            if end < 0:
                return "/"
            self._at = end + 2

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

    def _error(self, problem: str) -> BrokenJsonError:
        return BrokenJsonError(problem, self._text, self._at)


def _number(text: str) -> int | float:
    """Raises ``ValueError`` for whole numbers of more digits than Python reads."""
    return float(text) if set(text) & set(".eE") else int(text)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(int(code, 16))
    return _ESCAPES.get(match[4], match.group())


_OPENING = re.compile(r"( {0,3})(`{3,}|~{3,})")
_JSON_LANGUAGES = ("", "json", "json5", "jsonc", "jsonl", "ndjson")
_JSON_START = re.compile(r"[\[{]")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its ``language`` in small letters, "" where none is told, and its text."""

    language: str
    text: str


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks in order; one that is not closed goes to the end."""
    lines = iter(text.split("\n"))
    for line in lines:
        match = _OPENING.match(line)
        info = line[match.end() :].strip() if match else ""
        if match is None or (match[2][0] == "`" and "`" in info):
            continue
        body = _body(lines, match[2], len(match[1]))
        language = info.split()[0].lower() if info else ""
        yield Block(language, "\n".join(body).rstrip("\n"))


def _body(lines: Iterator[str], fence: str, indent: int) -> Iterator[str]:
    """The lines up to the closing fence, without as much of ``indent`` as each of them has."""
    for line in lines:
        closing = line.strip()
        if closing.startswith(fence) and not closing.strip("`~") and _OPENING.match(line):
            return
        yield line[min(indent, len(line) - len(line.lstrip(" "))) :]


def json_of(text: str) -> Any:
    """The JSON value of an answer: all of it, a fenced block, or what stands in its prose.

    Objects on lines of their own are a list. What is nearly JSON is read as far as it has one
    meaning (see ``Reader``). Raises ``AnswerFormError`` with the place where it is broken.

    >>> json_of("Here you are: {'name': 'Ann', 'age': 34,} // from the text")
    {'name': 'Ann', 'age': 34}
    """
    blocks = [block.text for block in blocks_of(text) if block.language in _JSON_LANGUAGES]
    for load in (json.loads, _json_lines):
        for candidate in (text, *blocks):
            with suppress(ValueError, RecursionError):
                return load(candidate)
    for block in blocks:
        with suppress(AnswerFormError):
            return _json_in_prose(block)
    return _json_in_prose(text)


def _json_lines(text: str) -> list[Any]:
    """The objects of "JSON Lines" (https://jsonlines.org). Raises ``ValueError``."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not all(line.lstrip().startswith("{") for line in lines):
        raise ValueError("these are not objects on lines of their own")
    return [json.loads(line) for line in lines]


def _json_in_prose(text: str) -> Any:
    """The longest object or array of the text; none is taken out of one that is broken."""
    found: list[tuple[int, Any]] = []
    position, first_problem = 0, None
    reader = Reader(text)
    while (match := _JSON_START.search(text, position)) is not None:
        start = match.start()
        try:
            value, position = reader.read(start)
            found.append((position - start, value))
        except BrokenJsonError as error:
            if reader.has_read:
                raise AnswerFormError("JSON", str(error), text=text) from None
            first_problem = first_problem or error
            position = max(error.position, start + 1)
        except RecursionError:
            raise AnswerFormError("JSON", "it is nested too deeply", text=text) from None
    if not found:
        problem = str(first_problem or "it has no object or array")
        raise AnswerFormError("JSON", problem, text=text)
    return max(found, key=lambda sized: sized[0])[1]
