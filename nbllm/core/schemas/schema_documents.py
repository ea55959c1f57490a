"""A schema with all that it refers to, checked as a whole before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from nbllm.core.schemas.patterns import read_pattern
from nbllm.core.schemas.schema_keywords import (
    TYPES,
    Schema,
    SchemaError,
    plain_copy,
    pointer,
    subschemas,
)
from nbllm.core.texts import shown

__all__ = ["REFERENCES", "Document"]

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class Document:
    """A schema whose every part is well formed and whose references lead to its own parts.

    Raises ``SchemaError``, which names the part and the reason; takes time in proportion to the
    size of ``schema``.
    """

    def __init__(self, schema: object) -> None:
        self.root: Schema = _a_schema(plain_copy(schema), "")
        self._is_draft_4 = isinstance(self.root, dict) and "draft-04" in str(
            self.root.get("$schema")
        )
        self._bases: dict[int, str] = {}
        self._places: dict[int, str] = {}
        self._resources: dict[str, Any] = {}
        self._anchors: dict[str, Any] = {}
        self._targets: dict[int, list[Schema]] = {}
        self._referring: list[dict[str, Any]] = []
        self._visit(self.root, "", "")
        self._resources.setdefault("", self.root)
        self._follow_references()
        self._refuse_cycles()

    def place(self, schema: Schema) -> str:
        """The JSON pointer of a part."""
        return self._places.get(id(schema), "")

    def targets(self, schema: dict[str, Any]) -> list[Schema]:
        """The schemas that a part refers to, and which hold beside its own keywords."""
        return self._targets.get(id(schema), [])

    # ------------------------------------------------------------ reading

    def _visit(self, schema: Any, place: str, base: str) -> None:
        """Check a part and those in it, and note their names."""
        todo = [(schema, place, base)]
        while todo:
            part, here, base = todo.pop()
            if isinstance(part, bool) or id(part) in self._places:
                continue
            _check(_a_schema(part, here), here)
            base = self._named(part, base)
            self._places[id(part)], self._bases[id(part)] = here, base
            if not part.keys().isdisjoint(REFERENCES):
                self._referring.append(part)
            todo += [(inner, where, base) for inner, where in subschemas(part, here)]

    def _named(self, part: dict[str, Any], base: str) -> str:
        """Note the names of a part; the base of the references in it."""
        name = part.get("$id", part.get("id") if self._is_draft_4 else None)
        if isinstance(name, str):
            address = _joined(base, name)
            if name.startswith("#"):
                self._anchors.setdefault(address, part)
            else:
                base = urldefrag(address).url
                self._resources.setdefault(base, part)
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.get(key), str):
                self._anchors.setdefault(f"{base}#{part[key]}", part)
        return base

    def _follow_references(self) -> None:
        """Resolve all references; what they lead to may hold further ones."""
        while self._referring:
            part = self._referring.pop()
            found = [self._resolved(part, key) for key in REFERENCES if key in part]
            self._targets[id(part)] = found

    def _resolved(self, part: dict[str, Any], key: str) -> Schema:
        place, base = self._places[id(part)], self._bases[id(part)]
        reference = part[key]
        address, fragment = urldefrag(_joined(base, reference))
        resource = self._resources.get(address)
        if resource is None:
            raise SchemaError(
                pointer(place, key),
                f"{shown(reference)} refers outside the schema; put its target under $defs",
            )
        if fragment and not fragment.startswith("/"):
            target = self._anchors.get(f"{address}#{unquote(fragment)}")
        else:
            target = _at(resource, fragment)
        if not isinstance(target, dict | bool):
            raise SchemaError(pointer(place, key), f"{shown(reference)} does not refer to a schema")
        if isinstance(target, dict) and id(target) not in self._places:
            self._visit(target, unquote(fragment), address)
        return target

    # ------------------------------------------------------------ cycles

    def _refuse_cycles(self) -> None:
        """Refuse parts that mean themselves, through ``$ref`` and ``allOf`` alone."""
        finished: set[int] = set()
        for start in list(self._targets):
            path: list[tuple[int, Iterator[Any]]] = [(start, iter(self._targets[start]))]
            on_path = {start}
            while path:
                number, rest = path[-1]
                part = next((p for p in rest if isinstance(p, dict)), None)
                if part is None:
                    path.pop()
                    on_path.discard(number)
                    finished.add(number)
                elif id(part) in on_path:
                    raise SchemaError(self.place(part), "its $ref refers back to itself")
                elif id(part) not in finished:
                    on_path.add(id(part))
                    path.append((id(part), iter([*self.targets(part), *part.get("allOf", ())])))


@lru_cache(maxsize=4096)
def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:
        return f"invalid:{reference}"


def _at(value: Any, fragment: str) -> Any:
    """What a JSON pointer leads to; None where that is nothing."""
    for step in fragment.split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and len(key) < 9:
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


# ---------------------------------------------------------------- the form of a part


def _a_schema(part: Any, place: str) -> Schema:
    if not isinstance(part, dict | bool):
        raise SchemaError(place, f"{shown(part)} is not a schema; give an object, true or false")
    return part


def _check(schema: Schema, place: str) -> None:
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in _FORMS:
            is_right, wanted = _FORMS[key]
            if not is_right(value):
                raise SchemaError(pointer(place, key), f"must be {wanted} (got {shown(value)})")
        if key == "pattern":
            _check_pattern(value, pointer(place, key))
        elif key == "patternProperties":
            for name in value:
                _check_pattern(name, pointer(place, key))


def _check_pattern(pattern: str, place: str) -> None:
    try:
        read_pattern(pattern)
    except ValueError as error:
        raise SchemaError(place, f"the pattern {shown(pattern)} has {error}") from None


def _is_count(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_type(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(t, str) and t in TYPES for t in value)
    return isinstance(value, str) and value in TYPES


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one of {', '.join(TYPES)}, or a list of them"),
    "required": (
        lambda value: isinstance(value, bool) or _is_texts(value),
        "a list of property names",
    ),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of values"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "pattern": (lambda value: isinstance(value, str), "a string"),
    "format": (lambda value: isinstance(value, str), "a string"),
    "dependencies": (
        lambda value: (
            isinstance(value, dict)
            and all(_is_texts(names) for names in value.values() if isinstance(names, list))
        ),
        "an object of schemas and lists of names",
    ),
    "dependentRequired": (
        lambda value: isinstance(value, dict) and all(map(_is_texts, value.values())),
        "an object of lists of names",
    ),
    **dict.fromkeys(REFERENCES, (lambda value: isinstance(value, str), "a string")),
    **dict.fromkeys(
        ("maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"),
        (_is_count, "an integer of at least 0"),
    ),
    **dict.fromkeys(("maximum", "minimum"), (_is_number, "a number")),
    **dict.fromkeys(
        ("exclusiveMaximum", "exclusiveMinimum"),
        (lambda value: isinstance(value, int | float), "a number"),
    ),
    **dict.fromkeys(
        (
            "$defs",
            "definitions",
            "dependentSchemas",
            "patternProperties",
            "properties",
        ),
        (lambda value: isinstance(value, dict), "an object"),
    ),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), (_is_schemas, "a list of schemas")),
    "prefixItems": (lambda value: isinstance(value, list), "a list of schemas"),
}
