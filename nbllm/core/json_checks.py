"""JSON from strangers, and structures that are sent as JSON: read and checked within bounds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

from nbllm.core.errors import InvalidOptionError
from nbllm.core.texts import is_well_formed, shown

__all__ = [
    "json_object",
    "json_problem",
    "parse_json",
]

_MOST_READ = 5_000_000
"""Far more than any conversation has. What takes two bytes as text can take 60 as a value."""

_MAX_DEPTH = 100
_TOO_DEEP = "it is nested too deeply"


def parse_json(text: str) -> Any:
    """The value in ``text``.

    Raises ``ValueError`` with the reason for what is not JSON, for a key that stands in an object
    twice, for numbers that are not finite or have thousands of digits, and for deeply nested or
    very many values.
    """
    if text.count(",") + text.count("[") + text.count("{") > _MOST_READ:
        raise ValueError(f"it has more than {_MOST_READ:,} values")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_not_finite, parse_float=_read_number
        )
        _check_depth(value)
        return value
    except json.JSONDecodeError as error:
        problem = f"it is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = _TOO_DEEP
    except _UnusableError as error:
        problem = str(error)
    except ValueError:
        problem = "it has a number with too many digits"
    raise ValueError(problem)


class _UnusableError(ValueError):
    """JSON's grammar lets it through, and nothing can mean it."""


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [
            one for each in inner for one in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise _UnusableError(_TOO_DEEP)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _UnusableError(f"duplicate key {repeated[:80]!r}")
    return result


def _read_number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _not_finite(text)
    return value


def _not_finite(text: str) -> NoReturn:
    raise _UnusableError(f"{text[:80]} is not a finite number")


_MOST_LEVELS = 200  # Python's own encoder and decoder give up at some hundred
_MOST_VALUES = 100_000
_MOST_BITS = 1024  # as large as a float can be; Python refuses to write much longer integers


def json_object(option: str, value: object) -> dict[str, Any] | None:
    """A plain copy of ``value`` for JSON; None stays None. Mappings and tuples are taken too.

    Raises ``InvalidOptionError``, naming the place, for what JSON cannot hold or nobody can have
    meant: other types, NaN, keys that are not texts, half characters, structures that contain
    themselves, more than 200 levels or 100,000 values.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidOptionError(option, f"must be a mapping (got {shown(value)})")
    try:
        copied: dict[str, Any] = _Copy().of(value, ())
    except _NotJsonError as error:
        raise InvalidOptionError(option, str(error)) from None
    return copied


def json_problem(value: object) -> str | None:
    """Why ``value`` cannot be sent as JSON; None where it can."""
    try:
        _Copy().of(value, ())
    except _NotJsonError as error:
        return str(error)
    return None


class _NotJsonError(Exception):
    """Where a structure is not JSON, and why."""

    def __init__(self, place: tuple[object, ...], problem: str) -> None:
        steps = [part if isinstance(part, str) else f"[{part}]" for part in place]
        more = [*steps[:3], "…", *steps[-3:]] if len(steps) > 6 else steps
        where = f"at {shown('.'.join(more))}: " if place else ""
        super().__init__(f"{where}{problem}")


class _Copy:
    """Copies one structure; counts its values, and knows those that contain the present one."""

    def __init__(self) -> None:
        self._count = 0
        self._around: set[int] = set()

    def of(self, value: object, place: tuple[object, ...]) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise _NotJsonError((), f"it has more than {_MOST_VALUES:,} values")
        match value:
            case None | bool():
                return value
            case str():
                return _text(value, place)
            case int() | float():
                return _number(value, place)
            case Mapping() | list() | tuple():
                return self._inside(value, place)
        raise _NotJsonError(place, f"{shown(value)} is not a JSON value")

    def _inside(
        self, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], place: tuple[object, ...]
    ) -> Any:
        if id(value) in self._around:
            raise _NotJsonError(place, "it contains itself")
        if len(place) >= _MOST_LEVELS:
            raise _NotJsonError(place, f"it is nested more than {_MOST_LEVELS} levels deep")
        self._around.add(id(value))
        if isinstance(value, Mapping):
            copied: Any = {
                _key(key, place): self.of(part, (*place, key)) for key, part in value.items()
            }
        else:
            copied = [self.of(part, (*place, index)) for index, part in enumerate(value)]
        self._around.discard(id(value))
        return copied


def _key(key: object, place: tuple[object, ...]) -> str:
    if not isinstance(key, str):
        raise _NotJsonError(place, f"keys must be strings (got {shown(key)})")
    return _text(key, place)


def _text(text: str, place: tuple[object, ...]) -> str:
    if not is_well_formed(text):
        raise _NotJsonError(place, f"{ascii(text)[:80]} contains a lone surrogate")
    return str.__str__(text)


def _number(number: float, place: tuple[object, ...]) -> float:
    if isinstance(number, int):
        if number.bit_length() > _MOST_BITS:
            raise _NotJsonError(place, f"a number of {number.bit_length():,} bits is too large")
        return int(number)
    if not math.isfinite(number):
        raise _NotJsonError(place, f"{number} is not a JSON number")
    return float(number)
