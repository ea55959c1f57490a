"""From JSON schemas to GBNF.

What a grammar cannot say, or only at length (``not``, ``if``, ``uniqueItems``, bounds of numbers
with a fraction, …), it leaves out: every value that follows the schema, as far as its properties
stand in the order in which they are declared, follows the grammar too, and answers are checked by
``violations`` besides.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nbllm.core.schemas.argument_rules import Arguments
from nbllm.core.schemas.grammar_containers import add_array, add_object
from nbllm.core.schemas.grammar_rules import WS, Part, Rules, Use, add_texts, literal
from nbllm.core.schemas.grammar_scalars import (
    CHAR,
    CHAR_RULE,
    integer_text,
    number_text,
    pattern_text,
    sized_text,
)
from nbllm.core.schemas.schema_alternatives import Alternative, alternatives
from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_keywords import Schema, SchemaError
from nbllm.core.schemas.schema_violations import following
from nbllm.core.schemas.string_rules import FORMATS, add_string, looks_ahead

__all__ = ["GrammarWriter"]

_MOST_VALUES = 5_000
"""An ``enum`` of more values is given by its type, and checked."""
_ANYTHING: tuple[tuple[str, tuple[tuple[Part, ...], ...]], ...] = (
    (WS.name, (('""',), ('" "',))),
    (CHAR, ((CHAR_RULE,),)),
    ("string", ((r'"\""', Use(CHAR, "*"), r'"\""'),)),
    ("number", ((number_text(()),),)),
    ("pair", ((Use("string"), '":"', WS, Use("value")),)),
    ("pairs", ((Use("pair"), Use("more-pairs", "*")),)),
    ("more-pairs", (('","', WS, Use("pair")),)),
    ("object", (('"{}"',), ('"{"', Use("pairs"), '"}"'))),
    ("more-values", (('","', WS, Use("value")),)),
    ("array", (('"[]"',), ('"["', Use("value"), Use("more-values", "*"), '"]"'))),
    (
        "value",
        (
            (Use("object"),),
            (Use("array"),),
            (Use("string"),),
            (Use("number"),),
            ('"true" | "false" | "null"',),
        ),
    ),
)


class GrammarWriter:
    """Writes the rules of any number of schemas into one grammar.

    Takes bounded time. Raises ``ValueError`` where the grammar would get too large.
    """

    def __init__(self) -> None:
        self._rules = Rules()
        self._given: list[str] = []
        self._texts: dict[tuple[object, ...], str] = {}
        for name, options in _ANYTHING:
            self._rules.add(name, *options)

    def rule(self, schema: object, stem: str = "s", path: Sequence[str] = ()) -> str:
        """The name of the rule of JSON that follows ``schema``, or the part of it at ``path``.

        References of the part lead into the whole. Raises ``ValueError`` where nothing can follow
        it.
        """
        made = _SchemaRules(self._rules, Document(schema))
        return self._usable(made, made.written(stem, path))

    def arguments(self, schema: object, stem: str) -> Arguments:
        """The parameters of a tool, whose values stand by themselves. Raises ``ValueError``."""
        document = Document(schema)
        made = _SchemaRules(self._rules, document)

        def rule(schemas: Sequence[Schema]) -> str:
            return self._usable(made, made.together(schemas, stem))

        def given(use: Use) -> str:
            self._given.append(use.name)
            return use.name

        return Arguments(self._rules, document, rule, given, self._texts)

    def _usable(self, made: _SchemaRules, name: str) -> str:
        """The name of a rule that texts can follow."""
        unusable = self._rules.unusable()
        if name in unusable:
            place = next(filter(None, map(made.place, unusable)), "")
            raise SchemaError(place, "no finite value can match it")
        self._given.append(name)
        return name

    def text(self) -> str:
        """The rules whose names were given, with all that they need, and ``ws``; no ``root``."""
        return self._rules.text(CHAR, WS.name, *self._given)


class _SchemaRules:
    """The rules of one schema. A rule is made for each set of schemas that hold together."""

    def __init__(self, rules: Rules, document: Document) -> None:
        self._rules, self._document = rules, document
        self._names: dict[frozenset[int], str] = {}
        self._schemas: dict[str, list[Schema]] = {}
        self._due: deque[str] = deque()

    def written(self, stem: str, path: Sequence[str]) -> str:
        """The rule of a part of the schema, with all that it needs."""
        part: Any = self._document.root
        for key in path:
            part = part[key]
        return self.together([part], stem)

    def together(self, schemas: Iterable[Schema], stem: str) -> str:
        """The rule of values that follow all of ``schemas``, with all that it needs."""
        use = self._rule_of(schemas, stem)
        while self._due:
            name = self._due.popleft()
            self._rules.add(name, *self._options(self._schemas[name]))
        return use.name

    def place(self, name: str) -> str | None:
        """Where the schema of a rule stands; None where it is not one of this document's."""
        schemas = self._schemas.get(name, ())
        return next(map(self._document.place, schemas), None)

    def _rule_of(self, schemas: Iterable[Schema], stem: str = "s") -> Use:
        """The rule of values that follow all of ``schemas``; it is made later if need be."""
        meant: list[Schema] = [s for s in schemas if s is not True and s != {}]
        if not meant:
            return Use("value")
        key = frozenset(map(id, meant))
        if key not in self._names:
            name = self._names[key] = self._rules.fresh(stem)
            self._schemas[name] = meant  # which keeps them, and their ids
            self._due.append(name)
        return Use(self._names[key])

    def _options(self, schemas: list[Schema]) -> Iterator[tuple[Part, ...]]:
        for one in alternatives(self._document, schemas):
            values = one.values()
            if values is not None and len(values) <= _MOST_VALUES:
                yield from self._values(one, values)
            else:
                yield from self._typed(one)

    def _values(self, one: Alternative, values: list[Any]) -> Iterator[tuple[Part, ...]]:
        found = following(self._document, one.schemas, values)
        plain = {_json(value) for value in found if not isinstance(value, dict | list)}
        if plain:
            yield (add_texts(self._rules, plain),)
        for value in found:
            if isinstance(value, dict | list):
                yield tuple(_value_parts(value))

    def _typed(self, one: Alternative) -> Iterator[tuple[Part, ...]]:
        types = one.types()
        for kind, add in (("object", add_object), ("array", add_array)):
            if kind in types and one.speaks_of(kind):
                yield from add(self._rules, one, self._rule_of)
            elif kind in types:
                yield (Use(kind),)
        if "string" in types and (string := _string(self._rules, one)):
            yield (string,)
        whole, free = integer_text(one.schemas), number_text(one.schemas)
        if "integer" in types and whole:
            yield (whole,)
        if "number" in types and free:
            yield (free,)
        if "boolean" in types:
            yield ('"true" | "false"',)
        if "null" in types:
            yield ('"null"',)


def _string(rules: Rules, one: Alternative) -> Part:
    """A string by its patterns, formats and lengths; empty where there is none.

    Where all of them together take too many rules, only the first is in the grammar.
    """
    patterns = [*one.having("pattern")]
    patterns += [FORMATS[name] for name in one.having("format") if name in FORMATS]
    patterns += [FORMATS["base64"] for name in one.having("contentEncoding") if name == "base64"]
    least, most = one.count("min", "Length"), one.count("max", "Length")
    is_sized = least is not None or most is not None
    if most is not None and most < (least or 0):
        return ""
    if patterns:
        together = len(set(patterns)) > 1 or is_sized or looks_ahead(patterns)
        made = add_string(rules, patterns, least or 0, most) if together else None
        return made or pattern_text(patterns[0])
    return sized_text(least or 0, most) if is_sized else Use("string")


def _value_parts(value: Any) -> Iterator[Part]:
    """One value as JSON, with the space that its parts may have."""
    if not isinstance(value, dict | list) or not value:
        yield literal(_json(value))
        return
    yield '"{"' if isinstance(value, dict) else '"["'
    parts = value.items() if isinstance(value, dict) else ((None, part) for part in value)
    for number, (name, part) in enumerate(parts):
        yield from ('","', WS) if number else ()
        yield from () if name is None else (literal(f"{_json(name)}:"), WS)
        yield from _value_parts(part)
    yield '"}"' if isinstance(value, dict) else '"]"'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
