"""Arrays in a grammar: items by their places, then any number of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbllm.core.schemas.alternatives import Alternative
from nbllm.core.schemas.keywords import Schema
from nbllm.core.schemas.rules import WS, Part, Rules, Use

__all__ = ["add_array"]

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
