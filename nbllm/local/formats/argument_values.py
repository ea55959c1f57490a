"""Arguments as models write them, turned into JSON: literals, and values that stand between marks.

Values as Python, JSON and Gemma write them are read by a parser of its own, linear and bounded in
depth: Python's would compile what a model wrote. A value between marks, as XML-like formats have
it, has no type there: the tool's schema says what it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.local.formats.base import NoCallError, Schema, property_of, referred
from nbllm.local.formats.call_places import Value
from nbllm.local.formats.json_calls import compact

__all__ = ["Literals", "allowed_types", "arguments_of", "typed"]

_DEEPEST = 64
_BLANK = re.compile(r"\s*")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(r"[A-Za-z_][\w.\-]*")
_KEYWORDS = {"true": "true", "false": "false", "null": "null", "none": "null"}
_STRING = re.compile(
    r'"""(?P<a>(?:[^\\]|\\.)*?)"""'
    r"|'''(?P<b>(?:[^\\]|\\.)*?)'''"
    r'|"(?P<c>(?:[^"\\]|\\.)*)"'
    r"|'(?P<d>(?:[^'\\]|\\.)*)'",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_ESCAPES |= {"0": "\0", "\n": "", "\\": "\\", "'": "'", '"': '"', "/": "/"}
_CLOSING = {"[": "]", "(": ")"}


@dataclass(slots=True)
class Literals:
    """Reads values of ``text`` from ``position`` on; every method moves it on.

    ``quotes`` are marks between which a text stands without escapes, ``bare_keys`` says that the
    keys of objects need no quotes.
    """

    text: str
    position: int = 0
    quotes: tuple[str, ...] = ()
    bare_keys: bool = False

    def peek(self, mark: str) -> bool:
        """Whether ``mark`` comes next, behind blanks."""
        blank = _BLANK.match(self.text, self.position)
        self.position = blank.end() if blank else self.position
        return self.text.startswith(mark, self.position)

    def take(self, mark: str) -> bool:
        """Whether ``mark`` came next; it is passed then."""
        found = self.peek(mark)
        self.position += len(mark) * found
        return found

    def expect(self, mark: str) -> None:
        """Pass ``mark``. Raises ``NoCallError`` where something else comes."""
        if not self.take(mark):
            raise NoCallError(f"{mark!r} is missing at character {self.position}")

    def word(self) -> str:
        """A name, which may have dots and hyphens."""
        self.peek("")
        found = _WORD.match(self.text, self.position)
        if found is None:
            raise NoCallError(f"a name is missing at character {self.position}")
        self.position = found.end()
        return found[0]

    @property
    def at_end(self) -> bool:
        """Whether nothing but blanks is left."""
        self.peek("")
        return self.position >= len(self.text)

    def value(self, depth: int = 0) -> str:
        """The next value, as JSON text."""
        if depth > _DEEPEST:
            raise NoCallError("this is nested too deeply")
        self.peek("")
        for quote in self.quotes:
            if self.take(quote):
                return self._until(quote)
        if self.peek("{"):
            return self._object(depth)
        if self.peek("[") or self.peek("("):
            return self._list(depth)
        return self._string() or self._number() or self._keyword()

    def _until(self, quote: str) -> str:
        end = self.text.find(quote, self.position)
        if end < 0:
            raise NoCallError(f"{quote!r} is missing")
        inside, self.position = self.text[self.position : end], end + len(quote)
        return json.dumps(inside, ensure_ascii=False)

    def _object(self, depth: int) -> str:
        self.expect("{")
        members = []
        while not self.take("}"):
            key = self._key(depth)
            self.expect(":")
            members.append(f"{key}: {self.value(depth + 1)}")
            if not self.take(","):
                self.expect("}")
                break
        return "{" + ", ".join(members) + "}"

    def _key(self, depth: int) -> str:
        if self.bare_keys and not any(map(self.peek, (*self.quotes, '"', "'"))):
            end = self.text.find(":", self.position)
            if end < 0:
                raise NoCallError("a key has no value")
            key, self.position = self.text[self.position : end].strip(), end
            return json.dumps(key, ensure_ascii=False)
        key = self.value(depth + 1)
        return key if key.startswith('"') else json.dumps(key)

    def _list(self, depth: int) -> str:
        close = _CLOSING[self.text[self.position]]
        self.position += 1
        items = []
        while not self.take(close):
            items.append(self.value(depth + 1))
            if not self.take(","):
                self.expect(close)
                break
        return "[" + ", ".join(items) + "]"

    def _string(self) -> str | None:
        found = _STRING.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        inside = found[found.lastgroup or "c"]
        joined = _ESCAPE.sub(_unescaped, inside).encode("utf-16-le", "surrogatepass")
        return json.dumps(joined.decode("utf-16-le", "replace"), ensure_ascii=False)

    def _number(self) -> str | None:
        found = _NUMBER.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        plain = found[0].removeprefix("+")
        if _JSON_NUMBER.fullmatch(plain):
            return plain
        if math.isinf(float(plain)):
            raise NoCallError(f"{plain} is too large a number")
        return json.dumps(float(plain))

    def _keyword(self) -> str:
        word = self.word()
        if word.lower() not in _KEYWORDS:
            raise NoCallError(f"{word!r} is no value")
        return _KEYWORDS[word.lower()]


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    if code:
        number = int(code, 16)
        return chr(number) if number < 0x110000 else "\ufffd"
    return _ESCAPES.get(escape[4], escape[0])


_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
_EVERY_TYPE = frozenset(_TYPES.values())
_DEEPEST_VALUE = 16


def arguments_of(values: Mapping[str, Value], schema: Schema) -> str:
    """Written values as the text of a JSON object. Raises ``NoCallError``."""
    pairs = (f"{compact(key)}: {_json(key, value, schema)}" for key, value in values.items())
    return "{" + ", ".join(pairs) + "}"


def _json(key: str, value: Value, schema: Schema) -> str:
    if value.is_text is not None:
        return compact(value.text) if value.is_text else _json_or_text(value.text)
    return typed(value.text, property_of(schema, key, schema), schema)


# ---------------------------------------------------------------- values


def typed(value: str, wanted: object, root: Schema) -> str:
    """A written value as JSON text, of a type that the schema ``wanted`` allows."""
    types = allowed_types(wanted, root)
    if types == {"string"}:
        return compact(value)
    parsed, is_json = _parsed(value, types)
    if is_json and _fits(parsed, types):
        is_number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
        return value.strip() if is_number else compact(parsed)
    word = value.strip().lower()
    if "boolean" in types and "string" not in types and word in ("true", "false"):
        return word
    if "null" in types and types != _EVERY_TYPE and word in ("null", "none"):
        return "null"
    return compact(value) if "string" in types or not is_json else compact(parsed)


def _json_or_text(value: str) -> str:
    parsed, is_json = _parsed(value, frozenset())
    return compact(parsed) if is_json else compact(value)


def _parsed(value: str, types: frozenset[str]) -> tuple[Any, bool]:
    """The value of JSON, and of Python's lists and dictionaries where no text is meant."""
    try:
        return json.loads(value, parse_constant=_refuse), True
    except (ValueError, RecursionError):
        if types & {"array", "object"} and "string" not in types:
            return _python_value(value)
        return None, False


def _python_value(value: str) -> tuple[Any, bool]:
    literals = Literals(value)
    try:
        text = literals.value()
        return (json.loads(text), True) if literals.at_end else (None, False)
    except (NoCallError, ValueError, RecursionError):
        return None, False


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _fits(value: object, types: frozenset[str]) -> bool:
    name = _TYPES[type(value)]
    is_whole = isinstance(value, float) and value.is_integer()
    return (
        name in types
        or (name == "integer" and "number" in types)
        or (is_whole and "integer" in types)
    )


def allowed_types(schema: object, root: Schema, depth: int = 0) -> frozenset[str]:
    """The types that a schema allows; all where it does not say."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST_VALUE:
        return _EVERY_TYPE
    told = schema.get("type")
    if isinstance(told, str):
        return frozenset({told} | ({"null"} if schema.get("nullable") is True else set()))
    if isinstance(told, list):
        return frozenset(each for each in told if isinstance(each, str))
    for key in ("enum", "const"):
        if key in schema:
            values = schema[key] if key == "enum" else [schema[key]]
            return frozenset(_TYPES.get(type(value), "string") for value in values)
    return _types_of_branches(schema, root, depth)


def _types_of_branches(schema: Schema, root: Schema, depth: int) -> frozenset[str]:
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return frozenset().union(*(allowed_types(s, root, depth + 1) for s in schema[key]))
    together = _EVERY_TYPE
    for part in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        together &= allowed_types(part, root, depth + 1)
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        together &= allowed_types(referred(root, reference), root, depth + 1)
    return together
