"""Whether a value follows a schema, and where it does not.

All keywords of JSON Schema 2020-12 and its predecessors count but ``format`` and ``content…``,
which that standard calls annotations. Takes bounded time, whatever the schema.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_keywords import Schema
from nbllm.core.schemas.value_checks import key_of, listed, matching, number, size, test_of
from nbllm.core.texts import sentence, shown

__all__ = ["following", "violation"]

_MOST_CHECKS = 100_000
_MOST_SECONDS = 5.0
_MOST_NESTING = 100


def violation(document: Document, schemas: Sequence[Schema], value: Any) -> str | None:
    """What a value lacks to follow all of ``schemas``, parts of ``document``, with its place."""
    try:
        return next(_Checker(document).problems(schemas, value, "", 0), None)
    except (_TooLargeError, RecursionError):
        return "it is too large or nested too deeply to be checked against the schema"


class _TooLargeError(Exception):
    """The check takes too long."""


def following(document: Document, schemas: Sequence[Schema], values: Iterable[Any]) -> list[Any]:
    """Those of ``values`` that follow all of ``schemas``."""
    checker = _Checker(document)
    try:
        return [v for v in values if next(checker.problems(schemas, v, "", 0), None) is None]
    except _TooLargeError:
        raise ValueError("the schema has too many values to check") from None


class _Checker:
    def __init__(self, document: Document) -> None:
        self._document, self._checks = document, 0
        self._deadline = time.monotonic() + _MOST_SECONDS
        self._open: set[tuple[int, int]] = set()
        self._enums: dict[int, set[Any]] = {}

    def problems(
        self, schemas: Iterable[Schema], value: Any, place: str, depth: int
    ) -> Iterator[str]:
        """The violations, each with its place; only the first is sure to be meant."""
        for schema in schemas:
            yield from self._problems(schema, value, place, depth)

    def _follows(self, schema: Schema, value: Any, depth: int) -> bool:
        problems = self._problems(schema, value, "", depth)
        with closing(problems):
            return next(problems, None) is None

    def _problems(
        self, schema: Schema, value: Any, place: str, depth: int
    ) -> Generator[str, None, None]:
        self._checks += 1
        is_late = time.monotonic() > self._deadline
        if is_late or self._checks > _MOST_CHECKS or depth > _MOST_NESTING:
            raise _TooLargeError
        if schema is False:
            yield sentence(place or "the value", "must not be present")
        elif isinstance(schema, dict):
            meant = (id(schema), id(value))
            if meant in self._open:  # as one of its own alternatives, which adds nothing
                yield f"{place or 'the value'}: the schema refers to itself"
                return
            self._open.add(meant)
            try:
                yield from self._all(schema, value, place, depth)
            finally:
                self._open.discard(meant)

    def _all(self, schema: dict[str, Any], value: Any, place: str, depth: int) -> Iterator[str]:
        for inner in self._document.targets(schema):
            yield from self._problems(inner, value, place, depth + 1)
        for problem in self._own(schema, value):
            yield sentence(place or "the value", problem)
        for inner in schema.get("allOf", ()):
            yield from self._problems(inner, value, place, depth + 1)
        yield from self._applied(schema, value, place, depth)
        yield from self._inside(schema, value, place, depth)

    # ------------------------------------------------------------ the value itself

    def _own(self, schema: dict[str, Any], value: Any) -> Iterator[str]:
        types = schema.get("type")
        is_null = value is None and schema.get("nullable") is True
        if types is not None and not is_null and not any(map(test_of(value), listed(types))):
            yield f"must be of type {' or '.join(listed(types))} (got {shown(value)})"
        if "const" in schema and key_of(value) != key_of(schema["const"]):
            yield f"must be {shown(schema['const'])} (got {shown(value)})"
        if "enum" in schema and key_of(value) not in self._values(schema):
            known = ", ".join(map(shown, schema["enum"][:8]))
            yield f"must be one of {known} (got {shown(value)})"
        if isinstance(value, str):
            yield from self._text(schema, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from number(schema, value)
        elif isinstance(value, list | dict):
            yield from size(schema, value)

    def _values(self, schema: dict[str, Any]) -> set[Any]:
        if id(schema) not in self._enums:
            self._enums[id(schema)] = set(map(key_of, schema["enum"]))
        return self._enums[id(schema)]

    def _text(self, schema: dict[str, Any], value: str) -> Iterator[str]:
        if len(value) < schema.get("minLength", 0):
            yield f"must have at least {schema['minLength']} characters (got {shown(value)})"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"must have at most {schema['maxLength']} characters (got {shown(value)})"
        if "pattern" in schema:
            yield from matching(schema["pattern"], value)

    # ------------------------------------------------------------ schemas beside

    def _applied(self, schema: dict[str, Any], value: Any, place: str, depth: int) -> Iterator[str]:
        where, deeper = place or "the value", depth + 1
        for key in ("anyOf", "oneOf"):
            options = schema.get(key, ())
            count = sum(1 for option in options if self._follows(option, value, deeper))
            if options and not count:
                yield f"{where}: {shown(value)} matches none of the {len(options)} schemas in {key}"
            if key == "oneOf" and count > 1:
                yield f"{where}: {shown(value)} matches {count} schemas in oneOf, not exactly one"
        if "not" in schema and self._follows(schema["not"], value, deeper):
            yield f"{where}: {shown(value)} matches the schema in not"
        if "if" in schema:
            branch = "then" if self._follows(schema["if"], value, deeper) else "else"
            yield from self._problems(schema.get(branch, True), value, place, deeper)
        if isinstance(value, dict):
            yield from self._dependencies(schema, value, place, deeper)

    def _dependencies(
        self, schema: dict[str, Any], value: dict[str, Any], place: str, depth: int
    ) -> Iterator[str]:
        for key in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, wanted in schema.get(key, {}).items():
                if name not in value:
                    continue
                if not isinstance(wanted, list):
                    yield from self._problems(wanted, value, place, depth)
                    continue
                for other in (other for other in wanted if other not in value):
                    yield f"{place or 'the value'}: {other!r} is required when {name!r} is present"

    # ------------------------------------------------------------ parts of the value

    def _inside(self, schema: dict[str, Any], value: Any, place: str, depth: int) -> Iterator[str]:
        if isinstance(value, dict):
            for name in value:
                if "propertyNames" in schema:
                    yield from self._problems(schema["propertyNames"], name, place, depth + 1)
                yield from self.problems(
                    self._for_key(schema, name, value, depth),
                    value[name],
                    f"{place}.{name}" if place else name,
                    depth + 1,
                )
        elif isinstance(value, list):
            for number, item in enumerate(value):
                wanted = self._for_item(schema, number, value, depth)
                yield from self.problems(wanted, item, f"{place}[{number}]", depth + 1)
            yield from self._contains(schema, value, place, depth)

    def _for_key(
        self, schema: dict[str, Any], name: str, value: Any, depth: int
    ) -> Iterator[Schema]:
        found = list(_named(schema, name))
        if not found and "additionalProperties" in schema:
            found.append(schema["additionalProperties"])
        yield from found
        rest = schema.get("unevaluatedProperties", True)
        if not found and rest is not True and name not in self._beside(schema, value, depth):
            yield rest

    def _for_item(
        self, schema: dict[str, Any], number: int, value: Any, depth: int
    ) -> Iterator[Schema]:
        found = list(_placed(schema, number))
        yield from found
        rest = schema.get("unevaluatedItems", True)
        if not found and rest is not True and number not in self._beside(schema, value, depth):
            yield rest

    def _contains(
        self, schema: dict[str, Any], value: list[Any], place: str, depth: int
    ) -> Iterator[str]:
        if "contains" not in schema:
            return
        count = sum(self._follows(schema["contains"], item, depth + 1) for item in value)
        least, most = schema.get("minContains", 1), schema.get("maxContains", count)
        if not least <= count <= most:
            bounds = f"at least {least}" if count < least else f"at most {most}"
            problem = f"must contain {bounds} items that match contains (got {count})"
            yield sentence(place or "the value", problem)

    def _evaluated(self, schema: Schema, value: Any, depth: int) -> set[Any]:
        """The names or numbers of the parts that a schema says something of."""
        if not isinstance(schema, dict) or depth > _MOST_NESTING:
            return set()
        return self._beside(schema, value, depth) | set(self._own_parts(schema, value))

    def _beside(self, schema: dict[str, Any], value: Any, depth: int) -> set[Any]:
        """Those of which the schemas speak that hold beside a schema's own keywords."""
        beside = [*self._document.targets(schema), *schema.get("allOf", ())]
        options = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
        beside += [option for option in options if self._follows(option, value, depth + 1)]
        if "if" in schema:
            holds = self._follows(schema["if"], value, depth + 1)
            beside += [schema["if"]] if holds else []
            beside.append(schema.get("then" if holds else "else", True))
        if isinstance(value, dict):
            dependent = schema.get("dependentSchemas", {})
            beside += [inner for name, inner in dependent.items() if name in value]
        found = {part for inner in beside for part in self._evaluated(inner, value, depth + 1)}
        if isinstance(value, list) and "contains" in schema:
            inner = schema["contains"]
            found |= {n for n, i in enumerate(value) if self._follows(inner, i, depth + 1)}
        return found

    @staticmethod
    def _own_parts(schema: dict[str, Any], value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            rest = {"additionalProperties", "unevaluatedProperties"} & schema.keys()
            yield from (name for name in value if rest or list(_named(schema, name)))
        elif isinstance(value, list):
            rest = {"unevaluatedItems"} & schema.keys()
            yield from (n for n in range(len(value)) if rest or list(_placed(schema, n)))


def _named(schema: dict[str, Any], name: str) -> Iterator[Schema]:
    """The schemas of a property by its name."""
    if name in schema.get("properties", {}):
        yield schema["properties"][name]
    for pattern, inner in schema.get("patternProperties", {}).items():
        if not any(matching(pattern, name)):
            yield inner


def _placed(schema: dict[str, Any], number: int) -> Iterator[Schema]:
    """The schema of an item by its place."""
    items = schema.get("items")
    firsts, rest = schema.get("prefixItems", ()), items
    if isinstance(items, list):
        firsts, rest = items, schema.get("additionalItems")
    if number < len(firsts):
        yield firsts[number]
    elif rest is not None:
        yield rest
