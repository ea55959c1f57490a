"""Schemas as plain JSON, copied within limits, and the keywords of theirs that nbllm knows.

Source: https://json-schema.org/draft/2020-12 and its predecessors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nbllm.core.texts import sentence, shown

__all__ = [
    "KINDS",
    "TYPES",
    "Schema",
    "SchemaError",
    "kinds_meant",
    "plain_copy",
    "pointer",
    "subschemas",
]

_MOST_VALUES = 200_000
_MOST_CHARACTERS = 4_000_000
_MOST_NESTING = 100
_MOST_BITS = 1_330  # of a number: 400 digits


class SchemaError(ValueError):
    """A schema cannot be used. ``place`` is a JSON pointer to the part that is at fault."""

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(sentence(place or "the schema", problem))


def pointer(place: str, key: object) -> str:
    """The JSON pointer of a part of what is at ``place`` (RFC 6901)."""
    return f"{place}/{str(key).replace('~', '~0').replace('/', '~1')}"


def plain_copy(schema: Any) -> Any:
    """A copy of dictionaries, lists, texts, numbers, booleans and None, and nothing else.

    Raises ``SchemaError`` for what is not JSON, what cannot be sent, and what is too large. Each
    dictionary of the copy is at one place only, whatever the original shares.
    """
    return _Copier().copy(schema, "", 0)


class _Copier:
    def __init__(self) -> None:
        self._values = self._characters = 0

    def copy(self, value: Any, place: str, depth: int) -> Any:
        self._count(value, place, depth)
        if isinstance(value, Mapping):
            return {
                self._text(key, place): self.copy(part, pointer(place, key), depth + 1)
                for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.copy(part, pointer(place, n), depth + 1) for n, part in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, bool | None):
            return value
        if isinstance(value, int | float):
            return self._number(value, place)
        raise SchemaError(place, f"a value of type {type(value).__name__} is not JSON")

    def _count(self, value: Any, place: str, depth: int) -> None:
        self._values += 1
        self._characters += len(value) if isinstance(value, str) else 0
        if depth > _MOST_NESTING:
            problem = f"it is nested more than {_MOST_NESTING} levels deep, or contains itself"
            raise SchemaError(place[:60] + "…", problem)
        if self._values > _MOST_VALUES or self._characters > _MOST_CHARACTERS:
            raise SchemaError(
                place,
                f"the schema is too large: at most {_MOST_VALUES:,} values and "
                f"{_MOST_CHARACTERS:,} characters are supported",
            )

    def _text(self, value: object, place: str) -> str:
        if not isinstance(value, str):
            raise SchemaError(place, f"keys must be strings (got {shown(value)})")
        self._characters += len(value)
        lone = next((c for c in value if "\ud800" <= c <= "\udfff"), None)
        if lone:
            raise SchemaError(place, f"must not contain a lone surrogate (U+{ord(lone):04X})")
        return str(value)

    def _number(self, value: float, place: str) -> float:
        if isinstance(value, float):
            if not math.isfinite(value):
                raise SchemaError(place, f"{value} is not a JSON number")
            return float(value)
        if value.bit_length() > _MOST_BITS:
            raise SchemaError(place, "must have at most 400 digits")
        return int(value)


Schema = bool | dict[str, Any]

TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")

_ONE = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_LISTS = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_MAPS = (
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
)

KINDS: Mapping[str, tuple[str, ...]] = {
    "object": (
        "additionalProperties",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "maxProperties",
        "minProperties",
        "patternProperties",
        "properties",
        "propertyNames",
        "required",
        "unevaluatedProperties",
    ),
    "array": (
        "additionalItems",
        "contains",
        "items",
        "maxItems",
        "minItems",
        "prefixItems",
        "unevaluatedItems",
        "uniqueItems",
    ),
    "string": ("format", "maxLength", "minLength", "pattern"),
    "number": ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"),
}
"""Keywords that say something of one type only."""


def subschemas(schema: Mapping[str, Any], place: str) -> Iterator[tuple[Any, str]]:
    """What stands where a schema is to stand, each with its place."""
    for key, value in schema.items():
        here = pointer(place, key)
        if isinstance(value, dict) and key in _MAPS:
            for name, part in value.items():
                if key != "dependencies" or not isinstance(part, list):
                    yield part, pointer(here, name)
        elif isinstance(value, list) and key in _LISTS:
            yield from ((part, pointer(here, n)) for n, part in enumerate(value))
        elif key in _ONE and (key != "items" or not isinstance(value, list)):
            yield value, here


def kinds_meant(schema: Mapping[str, Any]) -> set[str]:
    """The types of which a schema without ``type`` says something."""
    return {kind for kind, names in KINDS.items() if not schema.keys().isdisjoint(names)}
