"""Strings that several things are asked of at once: patterns, a length, what must not begin them.

Each of them is run as a grammar of its own, all side by side. A rule of the JSON string is a place
in all of them, with the number of characters so far where that counts.

Formats are patterns too. Sources: RFC 3339 (dates and times), RFC 5322 in the form that people use
(email), RFC 3986 (URIs), RFC 4291 (IPv6), RFC 4648 (base64), RFC 9562 (UUIDs), RFC 1123 (host
names).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nbllm.core.grammars.charsets import EVERYTHING, LAST, CharSet
from nbllm.core.grammars.gbnf import Chars, Choice, Element, GrammarError, Repeat
from nbllm.core.grammars.grammar_automaton import Automaton, State
from nbllm.core.grammars.grammar_program import Program
from nbllm.core.schemas.grammar_rules import Part, Rules, Use
from nbllm.core.schemas.grammar_scalars import branches, character_text, plain_character_text
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

__all__ = ["FORMATS", "add_plain_text", "add_string", "looks_ahead"]

_YEAR = r"(000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})"
_LEAP_YEAR = r"(\d\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_LONG, _SHORT = r"(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])", r"(0[469]|11)-(0[1-9]|[12]\d|30)"
_DAY = rf"({_LONG}|{_SHORT}|02-(0[1-9]|1\d|2[0-8]))"
_DATE = rf"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_ZONE = r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_DAYS = r"(\d{1,4}Y(\d{1,2}M(\d{1,4}D)?)?|\d{1,4}M(\d{1,4}D)?|\d{1,4}D)"
_HOURS = r"T(\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|\d{1,4}M(\d{1,4}S)?|\d{1,4}S)"
_NAME = "[A-Za-z0-9_+-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,9}}"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}"
_WORD = "[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    [
        f"({_WORD}:){{7}}{_WORD}",
        f"({_WORD}:){{1,7}}:",
        *(f"({_WORD}:){{1,{7 - n}}}(:{_WORD}){{1,{n}}}" for n in range(1, 7)),
        f":((:{_WORD}){{1,7}}|:)",
        f"::([Ff]{{4}}:)?{_IPV4}",
        f"({_WORD}:){{6}}{_IPV4}",
    ]
)
_HOST_AND_PATH = rf"{_HOST}(:\d{{1,5}})?(/([A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-F]{{2}})*)?"
_QUERY = r"(\?([A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-F]{2})*)?"
_HTTP = rf"(https?|wss?|ftp)://{_HOST_AND_PATH}{_QUERY}(#[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*)?"
_OTHER_URI = r"(mailto|urn|tel|data|file):[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]+"
_BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"

FORMATS: Mapping[str, str] = {
    name: f"^({pattern})$"
    for name, pattern in {
        "date": _DATE,
        "time": rf"{_CLOCK}{_ZONE}",
        "date-time": rf"{_DATE}T{_CLOCK}{_ZONE}",
        "duration": rf"P(\d{{1,4}}W|{_DAYS}({_HOURS})?|{_HOURS})",
        "email": rf"{_NAME}(\.{_NAME}){{0,5}}@{_LABEL}(\.{_LABEL}){{0,5}}\.[A-Za-z]{{2,12}}",
        "hostname": _HOST,
        "ipv4": _IPV4,
        "ipv6": _IPV6,
        "uri": f"{_HTTP}|{_OTHER_URI}",
        "url": _HTTP,
        "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
        r"|[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}",
        "byte": _BASE64,
        "base64": _BASE64,
    }.items()
}
"""By the names that JSON Schema and OpenAPI give them; others say nothing of the text."""

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
