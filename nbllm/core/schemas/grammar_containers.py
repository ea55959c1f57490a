"""Arrays and objects in a grammar: what is declared in its order, then any others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nbllm.core.schemas.grammar_rules import WS, Part, Rules, Use, literal
from nbllm.core.schemas.grammar_scalars import CHAR, pattern_text
from nbllm.core.schemas.schema_alternatives import Alternative, matches
from nbllm.core.schemas.schema_keywords import Schema

__all__ = [
    "add_array",
    "add_object",
]

RuleOf = Callable[[Iterable[Schema]], Use]
_MOST_ITEMS = 500
"""Longer lists are not counted."""


def add_array(rules: Rules, one: Alternative, rule_of: RuleOf) -> Iterator[tuple[Part, ...]]:
    """The alternatives of an array; ``rule_of`` gives the rule of what follows some schemas."""
    least, most = one.count("min", "Items") or 0, one.count("max", "Items")
    if most is not None and most < least:
        return
    firsts = max((len(_firsts(schema)) for schema in one.schemas), default=0)
    firsts = min(firsts, _MOST_ITEMS, firsts if most is None else most)
    other = rule_of(_of_item(one, None))
    behind = rules.add(rules.fresh("item"), ['","', WS, other]).name
    if least == 0:
        yield ('"[]"',)
    if firsts:
        items = [rule_of(_of_item(one, number)) for number in range(firsts)]
        rest = _counted(behind, least - firsts, None if most is None else most - firsts)
        yield ('"["', *_in_places(rules, items, rest, least), '"]"')
    elif most != 0:
        rest = _counted(behind, least - 1, None if most is None else most - 1)
        yield ('"["', other, *rest, '"]"')


def _counted(name: str, least: int, most: int | None) -> tuple[Part, ...]:
    """A rule as often as the bounds say; nothing for never."""
    if most is not None and most <= 0:
        return ()
    low = min(max(least, 0), _MOST_ITEMS)
    return (Use(name, f"{{{low},{'' if most is None or most > _MOST_ITEMS else most}}}"),)


def _in_places(
    rules: Rules, items: list[Use], rest: tuple[Part, ...], least: int
) -> tuple[Part, ...]:
    """The first items, of which those behind ``least`` may be missing, all but the first one."""
    for number in range(len(items) - 1, 0, -1):
        taken = ('","', WS, items[number], *rest)
        rest = taken if number < least else (rules.add(rules.fresh("rest"), taken, ()),)
    return (items[0], *rest)


def _firsts(schema: dict[str, Any]) -> list[Schema]:
    """The schemas of the first items, each by its place."""
    items = schema.get("items")
    return items if isinstance(items, list) else schema.get("prefixItems", [])


def _of_item(one: Alternative, number: int | None) -> Iterator[Schema]:
    """All that the item at a place must follow; None is any place behind those."""
    for schema in one.schemas:
        firsts, items = _firsts(schema), schema.get("items")
        rest = schema.get("additionalItems") if isinstance(items, list) else items
        if number is not None and number < len(firsts):
            yield firsts[number]
        elif rest is not None:
            yield rest


_MOST_COUNTED = 500
_MOST_NAMED = 2_000  # characters


@dataclass(frozen=True, slots=True)
class _Property:
    pair: Use
    required: bool


def add_object(rules: Rules, one: Alternative, rule_of: RuleOf) -> Iterator[tuple[Part, ...]]:
    """The alternatives of an object; ``rule_of`` gives the rule of what follows some schemas."""
    required = set(_required(one))
    names = list(dict.fromkeys([*_declared(one), *_required(one)]))
    properties = [
        _Property(_pair(rules, name, rule_of(one.of_property(name))), name in required)
        for name in names
    ]
    others = _others(rules, one, names, rule_of)
    yield from _sequence(rules, properties, others, one)


def _declared(one: Alternative) -> Iterator[str]:
    for properties in one.having("properties"):
        yield from properties


def _required(one: Alternative) -> Iterator[str]:
    for names in one.having("required"):
        yield from names if isinstance(names, list) else ()


def _pair(rules: Rules, name: str, value: Use) -> Use:
    key = literal(json.dumps(name, ensure_ascii=False) + ":")
    return rules.add(rules.fresh("pair"), [key, WS, value])


def _sequence(
    rules: Rules, properties: list[_Property], others: Use | None, one: Alternative
) -> Iterator[tuple[Part, ...]]:
    """``{…}`` around the properties, each behind a comma unless it is the first that is there.

    ``rest`` is all that can follow a property. It is made from the end, and with it ``starts``:
    what may come first.
    """
    rest: tuple[Part, ...] = ()
    starts: list[tuple[Part, ...]] = []
    least = 0 if properties else one.count("min", "Properties") or 0
    most = None if properties else one.count("max", "Properties")
    if others is not None and (most is None or most >= max(least, 1)):
        behind = rules.add(rules.fresh("more"), ['","', WS, others]).name
        starts = [(others, Use(behind, _more(least, most)))]
        rest = (Use(behind, "*"),)
    can_be_empty = least == 0
    for prop in reversed(properties):
        if prop.required:
            starts, can_be_empty = [], False
        starts.insert(0, (prop.pair, *rest))
        rest = _behind(rules, prop, rest)
    for start in starts:
        yield ('"{"', *start, '"}"')
    if can_be_empty:
        yield ('"{}"',)


def _more(least: int, most: int | None) -> str:
    """How many properties may follow the first, as a sign."""
    low = min(max(least - 1, 0), _MOST_COUNTED)
    return f"{{{low},{'' if most is None or most > _MOST_COUNTED else most - 1}}}"


def _behind(rules: Rules, prop: _Property, rest: tuple[Part, ...]) -> tuple[Part, ...]:
    """What may follow a property that stands before ``prop``."""
    taken = ('","', WS, prop.pair, *rest)
    return taken if prop.required else (rules.add(rules.fresh("rest"), taken, rest),)


# ---------------------------------------------------------------- undeclared properties


def _others(rules: Rules, one: Alternative, names: list[str], rule_of: RuleOf) -> Use | None:
    """A property that is not declared; None where there is none.

    Of a pattern that declared names match too, there are none, lest a name come twice.
    """
    options: list[tuple[Part, ...]] = []
    for schema in one.schemas:
        for pattern, inner in schema.get("patternProperties", {}).items():
            key = pattern_text(pattern)
            if key and not any(matches(pattern, name) for name in names):
                value = rule_of([inner, *_of_others(one, besides=schema)])
                options.append((key, '":"', WS, value))
    free = list(_of_others(one))
    is_open = not names and not options and not list(one.having("properties"))
    if free or is_open:
        options.append((*_other_name(rules, one, names, rule_of), '":"', WS, rule_of(free)))
    return rules.add(rules.fresh("other"), *options) if options else None


def _of_others(one: Alternative, besides: object = None) -> Iterator[Schema]:
    """All that the value of a property must follow that no schema names."""
    for schema in one.schemas:
        if schema is not besides and "additionalProperties" in schema:
            yield schema["additionalProperties"]


def _other_name(
    rules: Rules, one: Alternative, names: list[str], rule_of: RuleOf
) -> tuple[Part, ...]:
    """The name of a property that is not among ``names``, unless those are very long."""
    wanted = list(one.having("propertyNames"))
    if wanted:
        return (rule_of([{"type": "string"}, *wanted]),)
    tails = {json.dumps(name, ensure_ascii=False)[1:-1] for name in names}
    if not tails or sum(map(len, tails)) > _MOST_NAMED:
        return (Use("string"),)
    return (r'"\""', _none_of(rules, tails))


def _none_of(rules: Rules, texts: set[str]) -> Use:
    """The rest of a string that is none of ``texts``, with its closing quote."""
    following: dict[str, set[str]] = {"": set()}
    for text in texts:
        for end in range(len(text)):
            following.setdefault(text[:end], set()).add(text[end])
        following.setdefault(text, set())
    made: dict[str, Use] = {}
    for prefix in sorted(following, key=len, reverse=True):
        signs = sorted(following[prefix])
        known = "".join(f"\\U{ord(sign):08X}" for sign in signs)
        other = rf'[^"\\\x00-\x1F\x7F{known}]'
        options: list[tuple[Part, ...]] = [(other, Use(CHAR, "*"), r'"\""')]
        options += [(literal(sign), made[prefix + sign]) for sign in signs]
        options += [] if prefix in texts else [(r'"\""',)]
        made[prefix] = rules.add(rules.fresh("name"), *options)
    return made[""]
