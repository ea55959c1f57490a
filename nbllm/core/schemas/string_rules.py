"""Strings that several things are asked of at once: patterns, a length, what must not begin them.

Each of them is run as a grammar of its own, all side by side. A rule of the JSON string is a place
in all of them, with the number of characters so far where that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nbllm.core.grammars.automaton import Automaton, State
from nbllm.core.grammars.charsets import EVERYTHING, LAST, CharSet
from nbllm.core.grammars.gbnf import Chars, Choice, Element, GrammarError, Repeat
from nbllm.core.grammars.program import Program
from nbllm.core.schemas.json_text import branches, character_text, plain_character_text
from nbllm.core.schemas.pattern_classes import PatternChars
from nbllm.core.schemas.patterns import (
    Alternatives,
    Assertion,
    Look,
    Node,
    Repeated,
    Series,
    read_pattern,
)
from nbllm.core.schemas.rules import Part, Rules, Use

__all__ = ["add_plain_text", "add_string", "looks_ahead"]

_MOST_PLACES = 1_000
_MOST_CLASSES = 64
_ANY = Repeat(Chars(EVERYTHING), 0, None)


class _NotRegularError(Exception):
    """A pattern asserts something in its middle, or counts too far."""


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a text is to follow, or not to follow."""

    machine: Automaton
    classes: tuple[CharSet, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class _Writing:
    """How a text is written: what stands at both ends of it, and its characters."""

    ends: str
    character: Callable[[CharSet], str | None]


_JSON = _Writing(r'"\""', character_text)
_PLAIN = _Writing("", plain_character_text)
_Place = tuple[tuple[State | None, ...], int]


def looks_ahead(patterns: Sequence[str]) -> bool:
    """Whether one of the patterns looks ahead from the start."""
    return any("(?=" in pattern or "(?!" in pattern for pattern in patterns)


def add_string(rules: Rules, patterns: Sequence[str], least: int, most: int | None) -> Use | None:
    """The rule of strings that follow all of it; None where that takes too many rules."""
    if rules.spare < 0:
        return None
    try:
        demands = [demand for pattern in patterns for demand in _demands(read_pattern(pattern))]
        return _Product(rules, demands, least, most).rule()
    except (_NotRegularError, GrammarError):
        return None


def add_plain_text(
    rules: Rules, patterns: Sequence[str], least: int, most: int | None, unwanted: Sequence[str]
) -> Use | None:
    """The same of texts that stand by themselves, in which no pattern of ``unwanted`` is found.

    It takes no more than half of the work that is left.
    """
    left = rules.spare
    rules.spare = left // 2
    try:
        demands = [demand for pattern in patterns for demand in _demands(read_pattern(pattern))]
        demands.append(_demand(list(branches(read_pattern("|".join(unwanted)))), negated=True))
        return _Product(rules, demands, least, most, _PLAIN).rule()
    except (_NotRegularError, GrammarError):
        return None
    finally:
        rules.spare += left - left // 2


class _Product:
    """Makes the rules; no place is counted beyond ``least`` unless there is a ``most``."""

    def __init__(
        self,
        rules: Rules,
        demands: Sequence[_Demand],
        least: int,
        most: int | None,
        writing: _Writing = _JSON,
    ) -> None:
        self._rules, self._demands, self._least, self._most = rules, demands, least, most
        self._writing = writing
        self._classes = _apart([chars for demand in demands for chars in demand.classes])
        self._names: dict[_Place, str] = {}

    def rule(self) -> Use:
        start: _Place = (tuple(demand.machine.begin() for demand in self._demands), 0)
        todo = [start]
        self._names[start] = self._rules.fresh("text")
        while todo:
            place = todo.pop()
            found = self._following(place)
            for after in found:
                if after not in self._names:
                    self._names[after] = self._rules.fresh("text")
                    todo.append(after)
            if len(self._names) > _MOST_PLACES:
                raise _NotRegularError
            self._rules.add(self._names[place], *self._options(place, found))
        begin = [self._writing.ends] if self._writing.ends else []
        return self._rules.add(self._rules.fresh("text"), [*begin, Use(self._names[start])])

    def _following(self, place: _Place) -> dict[_Place, list[CharSet]]:
        """The places behind one character, with the classes that lead there."""
        states, count = place
        found: dict[_Place, list[CharSet]] = {}
        if count == self._most:
            return found
        counted = min(count + 1, self._least) if self._most is None else count + 1
        self._rules.spare -= len(self._classes) * len(self._demands)
        if self._rules.spare < 0:
            raise _NotRegularError
        for chars in self._classes:
            point = chars.ranges[0][0]
            behind = tuple(
                None if state is None else demand.machine.take_character(state, point)
                for demand, state in zip(self._demands, states, strict=True)
            )
            if self._can_go_on(behind):
                found.setdefault((behind, counted), []).append(chars)
        for demand in self._demands:
            demand.machine.earn()
        return found

    def _can_go_on(self, states: tuple[State | None, ...]) -> bool:
        pairs = zip(self._demands, states, strict=True)
        return all(state is not None or demand.negated for demand, state in pairs)

    def _options(
        self, place: _Place, found: dict[_Place, list[CharSet]]
    ) -> Iterator[tuple[Part, ...]]:
        for after, classes in found.items():
            text = self._writing.character(CharSet.of(r for chars in classes for r in chars.ranges))
            if text is not None:
                yield (text, Use(self._names[after]))
        states, count = place
        pairs = zip(self._demands, states, strict=True)
        fits = ((state is not None and state.accepts) != d.negated for d, state in pairs)
        if count >= self._least and all(fits):
            yield (self._writing.ends,) if self._writing.ends else ()


def _apart(sets: Sequence[CharSet]) -> list[CharSet]:
    """Classes of which each set holds all or nothing, all characters among them."""
    edges = sorted({1, LAST + 1, *(edge for chars in sets for edge in chars.bounds)})
    groups: dict[tuple[bool, ...], list[tuple[int, int]]] = {}
    for low, behind in pairwise(edges):
        member = tuple(low in chars for chars in sets)
        groups.setdefault(member, []).append((low, behind - 1))
    classes = [chars for ranges in groups.values() if (chars := CharSet.of(ranges)).ranges]
    if len(classes) > _MOST_CLASSES:
        raise _NotRegularError
    return classes


# ---------------------------------------------------------------- patterns as grammars


def _demands(node: Node) -> Iterator[_Demand]:
    """What a pattern demands of a text: that it matches, and what it looks for from the start."""
    found = list(branches(node))
    if len(found) == 1 and found[0][1]:
        items, _, to_end = found[0]
        looks = [item for item in items if isinstance(item, Look)]
        if looks and all(map(_is_ahead, items[: len(looks)])):
            for look in looks:
                yield _demand(
                    [(b, True, end) for b, _, end in branches(look.item)], negated=look.negated
                )
            found = [(items[len(looks) :], True, to_end)]
    yield _demand(found)


def _is_ahead(node: Node) -> bool:
    return isinstance(node, Look) and node.ahead


def _demand(
    found: Sequence[tuple[Sequence[Node], bool, bool]], *, negated: bool = False
) -> _Demand:
    sequences = tuple(
        (*(() if start else (_ANY,)), *map(_element, items), *(() if end else (_ANY,)))
        for items, start, end in found
    )
    program = Program({"root": Choice(sequences)})
    classes = {chars for chars in program.arguments if isinstance(chars, CharSet)}
    return _Demand(Automaton(program), tuple(classes), negated)


def _element(node: Node) -> Element:
    match node:
        case PatternChars(sure):
            return Chars(sure)
        case Series(items):
            return Choice((tuple(map(_element, items)),))
        case Alternatives(options):
            return Choice(tuple((_element(option),) for option in options))
        case Repeated(item, least, most):
            if max(least, most or 0) > _MOST_PLACES:
                raise _NotRegularError
            return Repeat(_element(item), least, most)
        case Assertion() | Look():
            raise _NotRegularError
