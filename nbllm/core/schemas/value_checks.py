"""What single values lack to satisfy the keywords of a schema that speak of them alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from nbllm.core.schemas.pattern_match import found_in
from nbllm.core.texts import shown

__all__ = ["key_of", "listed", "matching", "number", "size", "test_of"]


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
