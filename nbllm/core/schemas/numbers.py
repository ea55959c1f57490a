"""Numbers in GBNF, with the bounds of whole ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["integer_text", "number_text"]

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
