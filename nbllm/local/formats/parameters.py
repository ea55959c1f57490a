"""Arguments that stand between marks, each by itself, as XML-like formats have them.

A value has no type there: the tool's schema says what it is.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.local.formats.base import Schema
from nbllm.local.formats.json_calls import compact

__all__ = ["Marks", "allowed_types", "read_parameters", "referred", "typed"]

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
_DEEPEST = 16
_LOOK_AHEAD = 200


@dataclass(frozen=True, slots=True)
class Marks:
    """``open`` has a group ``key``, and perhaps one ``text``, "true" where the value is a text.

    ``close`` ends a value; ``ends`` are marks that end the last one where its own is lost.
    """

    open: re.Pattern[str]
    close: str
    ends: tuple[str, ...] = ()


def read_parameters(body: str, marks: Marks, schema: Schema) -> str:
    """The arguments in ``body`` as the text of a JSON object. Raises ``NoCallError``."""
    declared = schema.get("properties")
    properties = declared if isinstance(declared, Mapping) else {}
    members = {}
    for opened, value in _Body(body, marks, properties).values():
        key = opened["key"].strip()
        told = opened.groupdict().get("text")
        wanted = properties.get(key, True)
        members[key] = _told(value, told) if told else typed(value, wanted, schema)
    pairs = (f"{compact(key)}: {value}" for key, value in members.items())
    return "{" + ", ".join(pairs) + "}"


class _Body:
    """Where parameters begin and end in ``text``; every mark is looked for once."""

    def __init__(self, text: str, marks: Marks, properties: Mapping[str, Any]) -> None:
        self._text, self._marks = text, marks
        self._opened = list(marks.open.finditer(text))
        self._declared = [o.start() for o in self._opened if o["key"].strip() in properties]
        closes = [close.start() for close in re.finditer(re.escape(marks.close), text)]
        self._closes, self._sure = closes, [at for at in closes if self._is_sure(at)]
        ends = "|".join(map(re.escape, marks.ends)) or r"\Z"
        self._ends = [end.start() for end in re.finditer(ends, text)]

    def values(self) -> Iterator[tuple[re.Match[str], str]]:
        """Each opening mark with what stands behind it up to where its value ends."""
        after = 0
        for opened in self._opened:
            if opened.start() >= after:
                after = self._end(opened.end())
                yield opened, _trimmed(self._text[opened.end() : after])

    def _is_sure(self, close: int) -> bool:
        """Whether a parameter or the end follows a closing mark: a text may hold the mark."""
        behind = close + len(self._marks.close)
        rest = self._text[behind : behind + _LOOK_AHEAD].lstrip()
        return not rest or bool(self._marks.open.match(rest)) or rest.startswith(self._marks.ends)

    def _end(self, start: int) -> int:
        """Where a value ends; where a declared parameter begins first, its mark was lost."""
        following = _first(self._declared, start)
        close = _first(self._sure, start) or _first(self._closes, start)
        if close is None and following is None:
            return _first(self._ends, start) or len(self._text)
        return min(at for at in (close, following) if at is not None)


def _first(places: list[int], start: int) -> int | None:
    """The first of ascending places from ``start`` on."""
    at = bisect_left(places, start)
    return places[at] if at < len(places) else None


def _trimmed(value: str) -> str:
    """Without the line break that the format puts at both ends."""
    return value.removeprefix("\n").removesuffix("\n")


def _told(value: str, is_text: str) -> str:
    return compact(value) if is_text == "true" else _json_or_text(value)


def typed(value: str, wanted: object, root: Schema) -> str:
    """A written value as JSON text, of a type that the schema ``wanted`` allows."""
    types = allowed_types(wanted, root)
    if types == {"string"}:
        return compact(value)
    parsed, is_json = _parsed(value)
    if is_json and _fits(parsed, types):
        is_number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
        return value.strip() if is_number else compact(parsed)
    if types == {"boolean"} and value.strip().lower() in ("true", "false"):
        return value.strip().lower()
    if "null" in types and value.strip().lower() in ("null", "none"):
        return "null"
    return compact(value) if "string" in types or not is_json else compact(parsed)


def _json_or_text(value: str) -> str:
    parsed, is_json = _parsed(value)
    return compact(parsed) if is_json else compact(value)


def _parsed(value: str) -> tuple[Any, bool]:
    try:
        return json.loads(value, parse_constant=_refuse), True
    except (ValueError, RecursionError):
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
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return _EVERY_TYPE
    told = schema.get("type")
    if isinstance(told, str):
        return frozenset({told})
    if isinstance(told, list):
        return frozenset(each for each in told if isinstance(each, str))
    for key in ("enum", "const"):
        if key in schema:
            values = schema[key] if key == "enum" else [schema[key]]
            return frozenset(_TYPES.get(type(value), "string") for value in values)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            return frozenset().union(*(allowed_types(s, root, depth + 1) for s in schema[key]))
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        return allowed_types(referred(root, reference), root, depth + 1)
    return _EVERY_TYPE


def referred(root: object, reference: str) -> object:
    """The part of a schema that a reference such as ``#/$defs/A`` leads to; None where none is."""
    for key in reference[2:].split("/"):
        name = key.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, Mapping) else None
    return root
