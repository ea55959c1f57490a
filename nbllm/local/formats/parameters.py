"""Arguments that stand between marks, each by itself, as XML-like formats have them.

A value has no type there: the tool's schema says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbllm.local.formats.base import NoCallError, Schema, property_of, referred
from nbllm.local.formats.call_places import Value
from nbllm.local.formats.json_calls import compact
from nbllm.local.formats.literals import Literals

__all__ = ["allowed_types", "arguments_of", "typed"]

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
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
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
