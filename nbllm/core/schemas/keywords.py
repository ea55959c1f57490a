"""The keywords of JSON Schema, drafts 4 to 2020-12 and OpenAPI, that nbllm knows.

Source: https://json-schema.org/draft/2020-12 and its predecessors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nbllm.core.schemas.plain import pointer

__all__ = ["KINDS", "TYPES", "Schema", "kinds_meant", "subschemas"]

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
