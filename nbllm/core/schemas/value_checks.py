"""What single values lack to satisfy keywords of a schema, patterns in bounded time among them.

The places in a text are the bits of an integer. A node of the pattern takes the places where it
may begin to those where it may end, all at once, so that nothing is ever tried twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nbllm.core.grammars.charsets import CharSet
from nbllm.core.schemas.pattern_classes import PatternChars, class_of
from nbllm.core.schemas.patterns import (
    Alternatives,
    Assertion,
    Look,
    Node,
    Repeated,
    Series,
    read_pattern,
)
from nbllm.core.texts import shown

__all__ = [
    "found_in",
    "key_of",
    "listed",
    "matching",
    "number",
    "size",
    "test_of",
]

_MOST_WORK = 50_000_000
"""Bits moved: half a second or so."""


def found_in(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text.

    Raises ``ValueError`` for a pattern that is none, and where the two together are too large.
    """
    matcher = _Matcher(text)
    return bool(matcher.moved(read_pattern(pattern), matcher.everywhere, ahead=True))


@dataclass(slots=True)
class _Matcher:
    text: str
    work: int = 0
    masks: dict[CharSet, int] = field(default_factory=dict)

    @property
    def everywhere(self) -> int:
        return (1 << len(self.text) + 1) - 1

    def moved(self, node: Node, places: int, *, ahead: bool) -> int:
        """Where ``node`` may end that begins at ``places``; or where it began, if not ``ahead``."""
        self.work += len(self.text) + 64
        if self.work > _MOST_WORK:
            raise ValueError("the pattern is too complex to check on a text of this length")
        match node:
            case PatternChars(_, loose):
                mask = self._mask(loose)
                return (places & mask) << 1 if ahead else places >> 1 & mask
            case Series(items):
                for item in items if ahead else reversed(items):
                    places = self.moved(item, places, ahead=ahead)
                return places
            case Alternatives(branches):
                ends = 0
                for branch in branches:
                    ends |= self.moved(branch, places, ahead=ahead)
                return ends
            case Repeated():
                return self._repeated(node, places, ahead=ahead)
            case Assertion() | Look():
                return places & self._places(node)

    def _repeated(self, node: Repeated, places: int, *, ahead: bool) -> int:
        count, ends = 0, 0 if node.least else places
        while places and (node.most is None or count < node.most):
            before, places = places, self.moved(node.item, places, ahead=ahead)
            count += 1
            if count < node.least and places != before:
                continue
            if places | ends == ends and count >= node.least:
                break
            ends |= places
            if places == before:  # as it will be each further time
                break
        return ends

    def _places(self, node: Assertion | Look) -> int:
        if isinstance(node, Look):
            found = self.moved(node.item, self.everywhere, ahead=not node.ahead)
            return self.everywhere & ~found if node.negated else found
        if node.kind in ("start", "end"):
            return 1 if node.kind == "start" else 1 << len(self.text)
        words = self._mask(class_of("w").loose)
        boundaries = words ^ words << 1
        return boundaries if node.kind == "boundary" else self.everywhere & ~boundaries

    def _mask(self, chars: CharSet) -> int:
        """The places before the characters of a set."""
        if chars not in self.masks:
            self.work += len(self.text)
            bits = "".join("1" if ord(c) in chars else "0" for c in reversed(self.text))
            self.masks[chars] = int(bits or "0", 2)
        return self.masks[chars]


def key_of(value: Any) -> Any:
    """Equal for values that are the same in JSON, where 1 is 1.0 and not true; and hashable."""
    if isinstance(value, dict):
        return "object", frozenset((name, key_of(part)) for name, part in value.items())
    if isinstance(value, list):
        return "array", tuple(map(key_of, value))
    return type(value) if isinstance(value, bool | str | None) else "number", value


def matching(pattern: str, value: str) -> Iterator[str]:
    """What is wrong with a text that is to match a pattern."""
    try:
        if not found_in(pattern, value):
            yield f"{shown(value)} does not match the pattern {pattern}"
    except ValueError as error:
        yield f"{shown(value)}: {error}"


def number(schema: dict[str, Any], value: float) -> Iterator[str]:
    """The bounds that a number does not keep."""
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    least, most = schema.get("minimum"), schema.get("maximum")
    if low is True:  # as in draft 4
        low, least = least, None
    if high is True:
        high, most = most, None
    if least is not None and value < least:
        yield f"must be at least {least} (got {value})"
    if most is not None and value > most:
        yield f"must be at most {most} (got {value})"
    if low is not None and low is not False and value <= low:
        yield f"must be above {low} (got {value})"
    if high is not None and high is not False and value >= high:
        yield f"must be below {high} (got {value})"
    if "multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]):
        yield f"must be a multiple of {schema['multipleOf']} (got {value})"


def _is_multiple(value: float, step: float) -> bool:
    """Whether that is so of the numbers as they are written, not of their nearest doubles."""
    return math.isfinite(value) and Fraction(str(value)) % Fraction(str(step)) == 0


def size(schema: dict[str, Any], value: list[Any] | dict[str, Any]) -> Iterator[str]:
    """What is wrong with the number of parts, and which are missing or there twice."""
    what = "Items" if isinstance(value, list) else "Properties"
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}", len(value))
    if not least <= len(value) <= most:
        wanted = f"at least {least}" if len(value) < least else f"at most {most}"
        yield f"must have {wanted} {what.lower()} (got {len(value)})"
    if isinstance(value, dict):
        required = schema.get("required", ())
        for name in required if isinstance(required, list) else ():
            if name not in value:
                yield f"{name!r} is missing"
    elif schema.get("uniqueItems") is True and len(set(map(key_of, value))) < len(value):
        yield "must not have duplicate items"


def listed(types: Any) -> list[str]:
    """The types that ``type`` names."""
    return types if isinstance(types, list) else [types]


def test_of(value: Any) -> Callable[[str], bool]:
    """Tells of a type whether the value is of it."""
    names = {type(None): "null", bool: "boolean", dict: "object", list: "array", str: "string"}
    name = names.get(type(value), "number")
    is_whole = name == "number" and value == value // 1
    return lambda wanted: wanted == name or (wanted == "integer" and is_whole)
