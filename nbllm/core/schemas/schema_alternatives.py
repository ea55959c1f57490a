"""What schemas ask for together: references followed, ``allOf`` joined, ``anyOf`` taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_keywords import KINDS, TYPES, Schema, kinds_meant
from nbllm.core.schemas.value_checks import found_in

__all__ = ["Alternative", "alternatives", "matches"]

_MOST = 256
_ALL_TYPES = frozenset(TYPES) - {"integer"}


@dataclass(frozen=True, slots=True)
class Alternative:
    """Schemas that a value follows by their own keywords, all at once."""

    schemas: tuple[dict[str, Any], ...]

    def types(self) -> set[str]:
        """The types that a value may have; ``integer`` for numbers that must be whole.

        Where no type is named, those of which the keywords speak are meant, else all.
        """
        found = set(_ALL_TYPES)
        for schema in self.schemas:
            if "type" in schema:
                found = _common(found, _types(schema))
        if found == _ALL_TYPES and not any("type" in schema for schema in self.schemas):
            return set().union(*map(kinds_meant, self.schemas)) or found
        return found

    def values(self) -> list[Any] | None:
        """The values to choose from, as far as one schema lists them."""
        for schema in self.schemas:
            if "const" in schema:
                return [schema["const"]]
        lists = [schema["enum"] for schema in self.schemas if "enum" in schema]
        return min(lists, key=len, default=None)

    def having(self, key: str) -> Iterator[Any]:
        """What the schemas say under a keyword."""
        return (schema[key] for schema in self.schemas if key in schema)

    def count(self, which: str, what: str) -> int | None:
        """The tightest ``which`` ("min", "max") number of ``what``; None where there is none."""
        found = [int(value) for value in self.having(f"{which}{what}")]
        return (max if which == "min" else min)(found, default=None)

    def of_property(self, name: str) -> list[Schema]:
        """All that the value of a property must follow."""
        return [inner for schema in self.schemas for inner in _of_property(schema, name)]

    def speaks_of(self, kind: str) -> bool:
        """Whether there is any keyword of this type."""
        return any(not schema.keys().isdisjoint(KINDS[kind]) for schema in self.schemas)


def _of_property(schema: dict[str, Any], name: str) -> Iterator[Schema]:
    named = name in schema.get("properties", {})
    if named:
        yield schema["properties"][name]
    matching = [s for p, s in schema.get("patternProperties", {}).items() if matches(p, name)]
    yield from matching
    if not named and not matching and "additionalProperties" in schema:
        yield schema["additionalProperties"]


@lru_cache(maxsize=65_536)
def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of names, which may be too complex to tell, is found in one."""
    try:
        return found_in(pattern, name)
    except ValueError:
        return False


def _types(schema: dict[str, Any]) -> set[str]:
    types = schema["type"]
    named = set(types) if isinstance(types, list) else {types}
    return named | ({"null"} if schema.get("nullable") is True else set())


def _common(one: set[str], other: set[str]) -> set[str]:
    common = one & other
    for first, second in ((one, other), (other, one)):
        if "integer" in first and "number" in second:
            common.add("integer")
    return common - {"integer"} if "number" in common else common


@dataclass(frozen=True, slots=True)
class _Open:
    """An alternative that is being made; each schema that is due knows what it was reached by."""

    due: tuple[tuple[Schema, frozenset[int]], ...]
    done: tuple[dict[str, Any], ...] = ()
    seen: frozenset[int] = frozenset()


def alternatives(document: Document, schemas: Iterable[Schema]) -> list[Alternative]:
    """The ways in which a value can follow all of ``schemas``, without what cannot be followed.

    There are 256 at most. Where more would come of an ``anyOf``, it is left out, so that a value
    is to be checked by the schemas as well.
    """
    todo = [_Open(tuple((schema, frozenset()) for schema in schemas))]
    found: list[Alternative] = []
    while todo:
        one = todo.pop()
        if not one.due:
            found.append(Alternative(one.done))
            continue
        (schema, above), due = one.due[0], one.due[1:]
        if schema is False or (isinstance(schema, dict) and id(schema) in above):
            continue
        if schema is True or id(schema) in one.seen:
            todo.append(_Open(due, one.done, one.seen))
            continue
        assert isinstance(schema, dict)  # noqa: S101 - for the type checker
        above |= {id(schema)}
        joined = [*document.targets(schema), *schema.get("allOf", ())]
        due = (*((inner, above) for inner in joined), *due)
        seen = one.seen | {id(schema)}
        choices = _choices(schema, _MOST - len(todo) - len(found))
        todo += [
            _Open((*((inner, above) for inner in choice), *due), (*one.done, schema), seen)
            for choice in reversed(choices)
        ]
    return found


def _choices(schema: dict[str, Any], most: int) -> list[Sequence[Schema]]:
    """The schemas to add for each way to follow ``anyOf`` and ``oneOf``."""
    choices: list[Sequence[Schema]] = [()]
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if options and len(choices) * len(options) <= max(most, 1):
            choices = [(*choice, option) for choice in choices for option in options]
    return choices
