"""Texts and numbers of JSON in GBNF: any, of a length or within bounds, or by a pattern.

A quote, a backslash and a control character stand in a string by their escapes only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nbllm.core.grammars.charsets import CharSet
from nbllm.core.schemas.grammar_rules import literal
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

__all__ = [
    "CHAR",
    "CHAR_RULE",
    "branches",
    "character_text",
    "integer_text",
    "number_text",
    "pattern_text",
    "plain_character_text",
    "sized_text",
]

_DIGITS = 16
"""So many a number may have unless its bounds are longer: a model may go on for ever."""
_FRACTION = f'("." [0-9]{{1,{_DIGITS}}})?'
_EXPONENT = "([eE] [-+]? [0-9]{1,2})?"


def integer_text(schemas: Iterable[Mapping[str, Any]]) -> str:
    """A whole number within the bounds of all schemas; empty where there is none."""
    low, high = _bounds(schemas, whole=True)
    return " | ".join(_integers(low, high))


def number_text(schemas: Iterable[Mapping[str, Any]]) -> str:
    """A number within the bounds of all schemas, as far as they are whole ones."""
    low, high = _bounds(schemas, whole=False)
    if low is None and high is None:
        return f'"-"? ("0" | [1-9] [0-9]{{0,{_DIGITS - 1}}}) {_FRACTION} {_EXPONENT}'
    parts = list(_fractions("", max(low or 0, 0), high)) if high is None or high >= 0 else []
    if low is None or low < 0:
        least = max(-high, 0) if high is not None else 0
        parts += _fractions('"-" ', least, None if low is None else -low)
    return " | ".join(parts)


def _fractions(sign: str, low: int, high: int | None) -> Iterator[str]:
    """Numbers from ``low`` to ``high``, neither below 0: those below ``high`` have any fraction."""
    whole = list(_positive(low, None if high is None else high - 1))
    if whole:
        yield f"{sign}({' | '.join(whole)}) {_FRACTION}" + (_EXPONENT if high is None else "")
    if high is not None and high >= low:
        yield f'{sign}"{high}" ("." "0"{{1,{_DIGITS}}})?'


def _bounds(schemas: Iterable[Mapping[str, Any]], *, whole: bool) -> tuple[int | None, int | None]:
    """The lowest and highest whole number; of numbers with a fraction, those around the bounds."""
    lows, highs = list[int](), list[int]()
    up, down = (math.ceil, math.floor) if whole else (math.floor, math.ceil)
    for schema in schemas:
        lows += [up(v) + (ex and whole and up(v) == v) for v, ex in _limits(schema, "Minimum")]
        highs += [down(v) - (ex and whole and down(v) == v) for v, ex in _limits(schema, "Maximum")]
    return max(lows, default=None), min(highs, default=None)


def _limits(schema: Mapping[str, Any], which: str) -> Iterator[tuple[float, bool]]:
    """Bounds, and whether they are excluded themselves; draft 4 says that by a boolean."""
    beside = schema.get(f"exclusive{which}", False)
    if which.lower() in schema:
        yield schema[which.lower()], beside is True
    if not isinstance(beside, bool):
        yield beside, True


def _integers(low: int | None, high: int | None) -> Iterator[str]:
    if low is None and high is None:
        yield f'"-"? ("0" | [1-9] [0-9]{{0,{_DIGITS - 1}}})'
        return
    if high is None or high >= 0:
        yield from _positive(max(low or 0, 0), high)
    if low is None or low < 0:
        negative = list(_positive(1 if high is None else max(-high, 1), low and -low))
        yield from (f'"-" ({" | ".join(part)})' for part in [negative] if part)


def _positive(low: int, high: int | None) -> Iterator[str]:
    """Whole numbers from ``low``, at least 0, to ``high``."""
    length = len(str(low))
    if high is None:
        yield from _of_one_length(str(low), "9" * length)
        yield f"[1-9] [0-9]{{{length},{max(length + 3, _DIGITS - 1)}}}"
        return
    while low <= high:
        top = min(high, 10**length - 1)
        yield from _of_one_length(str(low), str(top))
        low, length = top + 1, length + 1


def _of_one_length(low: str, high: str) -> Iterator[str]:
    """Numbers between two of as many digits, as prefixes with the digits that may follow."""
    if low == high:
        yield f'"{low}"'
        return
    at = next(n for n, (a, b) in enumerate(zip(low, high, strict=True)) if a != b)
    rest = len(low) - at - 1
    is_from_start, is_to_end = not low[at + 1 :].strip("0"), not high[at + 1 :].strip("9")
    first, last = int(low[at]) + (not is_from_start), int(high[at]) - (not is_to_end)
    if not is_from_start:
        yield from _of_one_length(low, low[: at + 1] + "9" * rest)
    if first <= last:
        digits = f"[{first}-{last}]" if first < last else f'"{first}"'
        prefix = f'"{low[:at]}" ' if at else ""
        yield f"{prefix}{digits}" + (f" [0-9]{{{rest}}}" if rest else "")
    if not is_to_end:
        yield from _of_one_length(high[: at + 1] + "0" * rest, high)


CHAR = "char"
CHAR_RULE = (
    r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ([0-9A-CE-Fa-ce-f] [0-9A-Fa-f]{3} '
    r"| [Dd] [0-7] [0-9A-Fa-f]{2} | "
    r'[Dd] [89ABab] [0-9A-Fa-f]{2} "\\u" [Dd] [C-Fc-f] [0-9A-Fa-f]{2}))'
)
"""A character of a string as JSON writes it; surrogates in pairs only, which are one character."""

_NOTHING = '""'
_MOST_COUNTED = 1_000  # characters of a string whose number is in the grammar
_MOST_REPEATS = 1_000
_MOST_BRANCHES = 64
_MOST_ESCAPED = 64
_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r"}
_RAW = CharSet.of([(0, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\"))]).complement()


def sized_text(least: int, most: int | None) -> str:
    """A string of so many characters; bounds above 1,000 are left out."""
    low = min(least, _MOST_COUNTED)
    high = "" if most is None or most > _MOST_COUNTED else str(most)
    return rf'"\"" {CHAR}{{{low},{high}}} "\""'


def pattern_text(pattern: str) -> str:
    """The strings in which a pattern matches; empty where there are none.

    Places of which it asserts something that no grammar can say are left out, so that the
    pattern is to be checked as well.
    """
    found = []
    for items, from_start, to_end in branches(read_pattern(pattern)):
        parts = [_written(item) for item in items]
        if None not in parts:
            begin, end = ("" if bound else f"{CHAR}*" for bound in (from_start, to_end))
            pieces = [begin, *(part for part in parts if part), end]
            found.append(" ".join(piece for piece in pieces if piece))
    return rf'"\"" ({" | ".join(one or _NOTHING for one in found)}) "\""' if found else ""


def branches(node: Node) -> Iterator[tuple[Sequence[Node], bool, bool]]:
    """Alternatives of a pattern, and whether each must stand at the text's start and end."""
    todo: list[tuple[list[Node], bool, bool]] = [([node], False, False)]
    count = 0
    while todo:
        items, from_start, to_end = todo.pop()
        opened = _opened(items, first=True) or _opened(items, first=False)
        if opened is not None and count + len(todo) + len(opened) <= _MOST_BRANCHES:
            todo += [(inner, from_start, to_end) for inner in reversed(opened)]
        elif items and items[0] == Assertion("start"):
            todo.append((items[1:], True, to_end))
        elif items and items[-1] == Assertion("end"):
            todo.append((items[:-1], from_start, True))
        else:
            count += 1
            yield items, from_start, to_end


def _opened(items: list[Node], *, first: bool) -> list[list[Node]] | None:
    """The same with the item at an end taken apart, where it holds an anchor at that end."""
    if not items:
        return None
    end, rest = (items[0], items[1:]) if first else (items[-1], items[:-1])
    inner: list[list[Node]]
    match end:
        case Series(parts):
            inner = [list(parts)]
        case Alternatives(branches) if _has_anchor(end):
            inner = [[branch] for branch in branches]
        case Repeated(item, 0, 1) if _has_anchor(item):
            inner = [[item], []]
        case _:
            return None
    return [[*one, *rest] if first else [*rest, *one] for one in inner]


def _has_anchor(node: Node) -> bool:
    match node:
        case Assertion(kind):
            return kind in ("start", "end")
        case Series(items) | Alternatives(items):
            return any(map(_has_anchor, items))
        case Repeated(item):
            return _has_anchor(item)
        case _:
            return False


def _written(node: Node) -> str | None:
    """A node in GBNF; None where no text matches it."""
    match node:
        case PatternChars(sure):
            return character_text(sure)
        case Series(items):
            parts = [_written(item) for item in items]
            return None if None in parts else " ".join(part for part in parts if part)
        case Alternatives(branches):
            found = [part for branch in branches if (part := _written(branch)) is not None]
            return f"({' | '.join(part or _NOTHING for part in found)})" if found else None
        case Repeated():
            return _repeated(node)
        case Assertion() | Look():
            return ""


def _repeated(node: Repeated) -> str | None:
    inner = _written(node.item)
    if inner is None:
        return "" if node.least == 0 else None
    if not inner or node.most == 0:
        return ""
    least = min(node.least, _MOST_REPEATS)
    most = "" if node.most is None or node.most > _MOST_REPEATS else str(node.most)
    return f"({inner}){{{least},{most}}}"


def character_text(chars: CharSet) -> str | None:
    """One of these characters, by its escape where it has one."""
    raw = CharSet.of(
        (max(low, a), min(high, b)) for low, high in chars.ranges for a, b in _RAW.ranges
    )
    options = [literal("\\" + sign) for sign in '"\\' if ord(sign) in chars]
    controls = [point for point in range(32) if point in chars]
    options += [literal("\\" + _SHORT[point]) for point in controls if point in _SHORT]
    if sum(high - low + 1 for low, high in chars.ranges) <= _MOST_ESCAPED:
        options += [rf'"\\u00{point:02x}"' for point in controls if point not in _SHORT]
    if raw.ranges:
        options.insert(0, _class(raw))
    if not options:
        return None
    return options[0] if len(options) == 1 else f"({' | '.join(options)})"


def plain_character_text(chars: CharSet) -> str | None:
    """One of these characters as it is."""
    return _class(chars) if chars.ranges else None


def _class(chars: CharSet) -> str:
    if chars.single is not None:
        return literal(chr(chars.single))
    pairs = ((_point(low), _point(high)) for low, high in chars.ranges)
    return f"[{''.join(low if low == high else f'{low}-{high}' for low, high in pairs)}]"


def _point(point: int) -> str:
    if chr(point).isascii():
        return chr(point) if chr(point).isalnum() else f"\\x{point:02X}"
    return f"\\u{point:04X}" if point <= 0xFFFF else f"\\U{point:08X}"
