"""What the narrower dialects of JSON schema have in common that vendors follow exactly.

It is what the vendors' own SDKs make of pydantic's schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["KINDS", "SUBSCHEMAS", "SUBSCHEMA_LISTS", "is_object", "subschemas", "tightened"]

SUBSCHEMAS = ("properties", "$defs", "definitions")
SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
KINDS = {"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "properties"}
"""One of these says what a value is; strict mode has nothing that may be anything."""


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether a schema is of an object, maybe among other types."""
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def subschemas(schema: Mapping[str, Any]) -> list[object]:
    """The schemas that stand directly in a schema."""
    found: list[object] = [schema["items"]] if "items" in schema else []
    for key in SUBSCHEMAS:
        if isinstance(schema.get(key), Mapping):
            found += schema[key].values()
    for key in SUBSCHEMA_LISTS:
        if isinstance(schema.get(key), list | tuple):
            found += schema[key]
    return found


def tightened(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    """The schema with every object closed and, if ``required``, every property required."""

    def inner(value: Any) -> Any:
        return tightened(value, required=required) if isinstance(value, Mapping) else value

    tight = dict(_plainer(schema))
    for key in SUBSCHEMAS:
        if isinstance(tight.get(key), Mapping):
            tight[key] = {name: inner(value) for name, value in tight[key].items()}
    for key in SUBSCHEMA_LISTS:
        if isinstance(tight.get(key), list | tuple):
            tight[key] = [inner(value) for value in tight[key]]
    if "items" in tight:
        tight["items"] = inner(tight["items"])
    if is_object(tight):
        tight.setdefault("additionalProperties", False)
        if required and isinstance(tight.get("properties"), Mapping):
            tight["required"] = list(tight["properties"])
    return tight


def _plainer(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the words that both vendors have.

    They take no ``oneOf``, no default of None, and no title or the like beside a ``$ref``; where
    there is only one ``allOf``, it may as well be here itself.
    """
    plain = dict(schema)
    if "properties" in plain and plain.keys().isdisjoint(KINDS - {"properties"}):
        plain["type"] = "object"
    if "oneOf" in plain and "anyOf" not in plain:
        plain["anyOf"] = plain.pop("oneOf")
        plain.pop("discriminator", None)
    if plain.get("default", 0) is None:
        del plain["default"]
    several = plain.get("allOf")
    if isinstance(several, list | tuple) and len(several) == 1 and isinstance(several[0], Mapping):
        only = several[0]
        if plain.keys().isdisjoint(only.keys() - {"title", "description"}):
            del plain["allOf"]
            plain = {**only, **plain}
    if "$ref" in plain:
        for key in ("title", "description", "default", "examples", "deprecated"):
            plain.pop(key, None)
    return plain


# ---------------------------------------------------------------- Anthropic
