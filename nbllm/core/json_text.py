"""JSON from strangers: read strictly, within bounds, with all that can be wrong in words."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

__all__ = ["parse_json"]

_MOST_VALUES = 5_000_000
"""Far more than any conversation has. What takes two bytes as text can take 60 as a value."""

_MAX_DEPTH = 100
_TOO_DEEP = "it is nested too deeply"


def parse_json(text: str) -> Any:
    """The value in ``text``.

    Raises ``ValueError`` with the reason for what is not JSON, for a key that stands in an object
    twice, for numbers that are not finite or have thousands of digits, and for deeply nested or
    very many values.
    """
    if text.count(",") + text.count("[") + text.count("{") > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES:,} values")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_not_finite, parse_float=_number
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


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _not_finite(text)
    return value


def _not_finite(text: str) -> NoReturn:
    raise _UnusableError(f"{text[:80]} is not a finite number")
