"""The parameters that a tool's schema declares, wherever in it they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nbllm.local.formats.base import Schema

__all__ = ["declared_in", "items_of", "property_of", "referred"]


def declared_in(schema: Schema) -> dict[str, Any]:
    """The parameters of a tool by their names, those of all branches."""
    found: dict[str, Any] = {}
    for part in _parts(schema, schema):
        properties = part.get("properties")
        found = {**(properties if isinstance(properties, Mapping) else {}), **found}
    return found


def property_of(schema: object, key: str, root: Schema) -> object:
    """What a property must follow, True where nothing is said; ``schema`` is a part of ``root``."""
    told = [part.get("properties") for part in _parts(schema, root)]
    known = [each[key] for each in told if isinstance(each, Mapping) and key in each]
    return known[0] if len(known) == 1 else {"anyOf": known} if known else True


def items_of(schema: object, root: Schema) -> object:
    """What the items of a list must follow."""
    known = [part["items"] for part in _parts(schema, root) if "items" in part]
    return known[0] if len(known) == 1 else {"anyOf": known} if known else True


def _parts(schema: object, root: Schema) -> Iterator[Schema]:
    """A schema, what it refers to, and all that it may consist of; each once."""
    todo: list[object] = [schema]
    seen: set[int] = set()
    while todo:
        schema = todo.pop(0)
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            todo.append(referred(root, reference))
        for key in ("allOf", "anyOf", "oneOf"):
            branches = schema.get(key)
            todo += branches if isinstance(branches, list) else ()


def referred(root: object, reference: str) -> object:
    """The part of a schema that a reference such as ``#/$defs/A`` leads to; None where none is."""
    for key in reference[1:].split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, Mapping) else None
    return root
