"""Plain scalars: texts, numbers and times of listed types, each of a size that costs little."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from nbllm.notebook.prompts.limits import INT_BITS, TEXT_CHARACTERS, Refused
from nbllm.notebook.prompts.value_kinds import kind_of, known_zone, type_name

__all__ = ["SCALARS", "TEXT_A_STEP", "key", "plain", "too_large", "weigh_scalar"]

SCALARS = ("none", "number", "text", "bytes", "time")
TEXT_A_STEP = 64
"""Characters that cost as much as an element."""
_DECIMAL_EXPONENT = 1_000


def weigh_scalar(value: Any) -> int:
    """What a scalar costs to compute with, in steps. Raises ``Refused`` for all else."""
    match kind_of(value):
        case "none":
            return 1
        case "text" | "bytes":
            return _weigh_text(value)
        case "number":
            return _weigh_number(value)
        case "time":
            return _weigh_time(value)
    raise Refused(
        f"a {type_name(value)} is not computed with in a prompt; "
        "assign what you need to a variable first"
    )


def too_large(value: object) -> Refused:
    """The refusal of a value of which computing would take too long."""
    return Refused(
        f"the {type_name(value)} is too large to compute with in a prompt; "
        "compute it in a variable first"
    )


def _weigh_text(value: Any) -> int:
    if len(value) > TEXT_CHARACTERS:
        raise too_large(value)
    return 1 + len(value) // TEXT_A_STEP


def _weigh_number(value: Any) -> int:
    if type(value) is int and value.bit_length() > INT_BITS:
        raise too_large(value)
    if type(value) is Fraction:
        return _weigh_number(value.numerator) + _weigh_number(value.denominator)
    if type(value) is Decimal and value.is_finite() and value:
        digits = len(value.as_tuple().digits)
        if abs(value.adjusted()) > _DECIMAL_EXPONENT or digits > _DECIMAL_EXPONENT:
            raise too_large(value)
    return 1


def _weigh_time(value: Any) -> int:
    if not known_zone(getattr(value, "tzinfo", None)):
        raise Refused("its time zone has code of its own; assign its text to a variable")
    return 1


def plain(value: Any) -> Any:
    """A whole number or text of numpy as Python's own; all else as it is."""
    if kind_of(value) in ("number", "text", "bytes") and type(value).__module__ == "numpy":
        return value.item() if value.dtype.kind in "biuSU" else value
    return value


def key(value: Any) -> Any:
    """``value``, if it can be a key without code of its own. Raises ``Refused``."""
    value = plain(value)
    if kind_of(value) == "tuple":
        return tuple(map(key, value))
    weigh_scalar(value)
    return value
