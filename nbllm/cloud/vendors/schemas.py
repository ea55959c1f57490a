"""JSON schemas in the narrower dialects that vendors follow exactly.

Sources: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas and
https://platform.claude.com/docs/en/build-with-claude/structured-outputs, with what the vendors'
own SDKs make of pydantic's schemas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["closed_schema", "openai_schema", "strict_schema", "wraps"]

_SUBSCHEMAS = ("properties", "$defs", "definitions")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_LOOSE = ("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")
"""What OpenAI's strict mode has not."""
_KINDS = {"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "properties"}
"""One of these says what a value is; strict mode has nothing that may be anything."""
_CLAUDE_KEYS = {
    *("type", "anyOf", "allOf", "enum", "const", "$ref", "$defs", "definitions", "description"),
    *("title", "properties", "required", "additionalProperties", "items", "format", "minItems"),
    "default",
}
_CLAUDE_FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
}


# ---------------------------------------------------------------- OpenAI


def wraps(schema: Mapping[str, Any] | None) -> bool:
    """Whether OpenAI is asked for an object around the value: it wants one at the root."""
    return schema is not None and ("$ref" in schema or schema.get("type") != "object")


def openai_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A schema for OpenAI, in an object if need be, and whether its strict mode can have it."""
    return strict_schema(_wrapped(schema) if wraps(schema) else schema)


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``{"value": …}``, with the definitions where the references look for them."""
    moved = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inner = {key: part for key, part in schema.items() if key not in moved}
    definitions = {**moved.pop("$defs", {}), _ROOT: inner}
    whole = {
        "type": "object",
        "properties": {"value": {"$ref": f"#/$defs/{_ROOT}"}},
        "required": ["value"],
        "additionalProperties": False,
        "$defs": definitions,
        **moved,
    }
    moved_references: dict[str, Any] = _with_references_moved(whole)
    return moved_references


_ROOT = "value"


def _with_references_moved(value: Any) -> Any:
    """A copy whose references to the old root lead to where that is now."""
    if isinstance(value, list | tuple):
        return [_with_references_moved(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _moved(part)
        if key == "$ref" and isinstance(part, str)
        else _with_references_moved(part)
        for key, part in value.items()
    }


def _moved(reference: str) -> str:
    stays = not reference.startswith("#") or reference.startswith(("#/$defs/", "#/definitions/"))
    return reference if stays else f"#/$defs/{_ROOT}{reference[1:]}"


def strict_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A schema for OpenAI's strict mode, and whether that mode can have it.

    Strict mode wants every object closed and every property required. An answer that follows such
    a schema follows the looser one too. An object with free keys cannot be said in strict mode:
    then the schema is given as it is, and the model does its best.
    """
    if _is_loose(schema):
        return dict(schema), False
    return _tightened(schema, required=True), True


def closed_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema for Anthropic, which wants objects closed and leaves properties optional.

    What it has no keyword for is put into the description, for the model to read.
    """
    return _described(_tightened(schema, required=False))


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _is_loose(schema: object) -> bool:
    if not isinstance(schema, Mapping):
        return schema is True
    is_said = schema.keys().isdisjoint(_LOOSE) and not schema.keys().isdisjoint(_KINDS)
    if not is_said or len(schema.get("allOf") or ()) > 1:
        return True
    if _is_object(schema):
        free = schema.get("additionalProperties")
        named = "properties" in schema or "$ref" in schema or "anyOf" in schema
        if free or (free is None and not named):
            return True
    return any(map(_is_loose, _children(schema)))


def _children(schema: Mapping[str, Any]) -> list[object]:
    found: list[object] = [schema["items"]] if "items" in schema else []
    for key in _SUBSCHEMAS:
        if isinstance(schema.get(key), Mapping):
            found += schema[key].values()
    for key in _SUBSCHEMA_LISTS:
        if isinstance(schema.get(key), list | tuple):
            found += schema[key]
    return found


def _tightened(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    def inner(value: Any) -> Any:
        return _tightened(value, required=required) if isinstance(value, Mapping) else value

    tight = dict(_plainer(schema))
    for key in _SUBSCHEMAS:
        if isinstance(tight.get(key), Mapping):
            tight[key] = {name: inner(value) for name, value in tight[key].items()}
    for key in _SUBSCHEMA_LISTS:
        if isinstance(tight.get(key), list | tuple):
            tight[key] = [inner(value) for value in tight[key]]
    if "items" in tight:
        tight["items"] = inner(tight["items"])
    if _is_object(tight):
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
    if "properties" in plain and plain.keys().isdisjoint(_KINDS - {"properties"}):
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


def _described(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Unknown keywords as a part of the description, as Anthropic's SDK does it."""
    kept = {key: value for key, value in schema.items() if _is_of_claude(key, value)}
    for key in _SUBSCHEMAS:
        if isinstance(kept.get(key), Mapping):
            kept[key] = {name: _inner(value) for name, value in kept[key].items()}
    for key in _SUBSCHEMA_LISTS:
        if isinstance(kept.get(key), list | tuple):
            kept[key] = [_inner(value) for value in kept[key]]
    if "items" in kept:
        kept["items"] = _inner(kept["items"])
    others = {key: value for key, value in schema.items() if key not in kept}
    if others and "$ref" not in kept:
        told = ", ".join(
            f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in others.items()
        )
        kept["description"] = "\n\n".join(filter(None, [kept.get("description"), f"{{{told}}}"]))
    return kept


def _inner(value: Any) -> Any:
    return _described(value) if isinstance(value, Mapping) else value


def _is_of_claude(key: str, value: Any) -> bool:
    if key == "format":
        return value in _CLAUDE_FORMATS
    if key == "additionalProperties":
        return value is False
    return key in _CLAUDE_KEYS and (key != "minItems" or value in (0, 1))
