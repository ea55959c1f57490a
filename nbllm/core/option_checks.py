"""Checks of options, whose errors name the option."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from itertools import islice, starmap
from pathlib import PurePath
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.paths import expanded
from nbllm.core.texts import is_well_formed, shown, well_formed

__all__ = [
    "EFFORTS",
    "SINGLE_PRECISION",
    "adapters_of",
    "biases_of",
    "check_number",
    "check_texts",
    "checked_text",
    "effort_of",
    "is_token",
    "items_of",
    "listed",
    "seconds_in",
    "text_of",
    "texts_of",
    "token_ids",
    "tokens_of",
]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_ITEMS = 100_000
_MOST_TOKEN = 2**31 - 1
_MOST_BITS = 1023  # what a float can hold, and far less than Python refuses to write
SINGLE_PRECISION = 3.4e38
"""About the largest number that llama.cpp's options can hold."""


def items_of(option: str, values: Any, what: str) -> tuple[Any, ...]:
    """The items of a list, or of anything else that can be gone through once and ends.

    ``what`` says what the items are. Raises ``InvalidOptionError`` for a text, bytes, a mapping
    and what has no items, so that none of them is taken apart by mistake.
    """
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping):
        raise InvalidOptionError(option, f"must be a list of {what} (got {shown(values)})")
    try:
        may_be_endless = not hasattr(values, "__len__")
        items = tuple(islice(values, _MOST_ITEMS + 1) if may_be_endless else values)
    except TypeError:
        raise InvalidOptionError(
            option, f"must be a list of {what} (got {shown(values)})"
        ) from None
    if may_be_endless and len(items) > _MOST_ITEMS:
        problem = f"an iterator gave more than {_MOST_ITEMS:,} {what}; give a list"
        raise InvalidOptionError(option, problem)
    return items


def listed(option: str, value: Any) -> Any:
    """One value, or several, as a tuple; None stays what it is."""
    if value is None:
        return None
    if isinstance(value, str | int):
        value = (value,)
    items = items_of(option, value, "values")
    return tuple(well_formed(item) if isinstance(item, str) else item for item in items)


def adapters_of(value: Any) -> tuple[tuple[str, float], ...] | None:
    """LoRA adapters with their scales, from a mapping, pairs, or paths alone (scale 1).

    Raises ``InvalidOptionError``.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = tuple(value.items())
    listed = (value,) if isinstance(value, str | PurePath) else value
    if not isinstance(listed, list | tuple):
        raise InvalidOptionError(
            "adapters", f"must be paths, or pairs of a path and a scale (got {shown(value)})"
        )
    return tuple(map(_adapter, listed))


def _adapter(item: object) -> tuple[str, float]:
    pair = (item, 1.0) if isinstance(item, str | PurePath) else item
    match pair:
        case list() | tuple() if len(pair) == 2 and isinstance(pair[0], str | PurePath):
            path, scale = pair
        case _:
            raise InvalidOptionError(
                "adapters", f"must be paths, or pairs of a path and a scale (got {shown(item)})"
            )
    if not str(path) or "\0" in str(path):
        raise InvalidOptionError("adapters", f"must be a path (got {shown(path)})")
    if scale is None:
        raise InvalidOptionError(
            "adapters", f"must be paths, or pairs of a path and a scale (got {shown(item)})"
        )
    if isinstance(scale, str):
        raise InvalidOptionError("adapters", f"a scale must be a number (got {shown(scale)})")
    check_number("adapters", scale, -100, 100)
    try:
        return str(expanded(path)), float(scale)
    except ValueError as error:
        raise InvalidOptionError("adapters", f"{shown(path)}: {error}") from None


def biases_of(value: Any) -> tuple[tuple[int | str, float], ...] | None:
    """Pairs of token and bias, from a mapping or from pairs. Raises ``InvalidOptionError``.

    Digits that are the key of a mapping are a token's id, because JSON has no other keys than
    texts, and OpenAI's has ids there. In a pair they are a text.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            biases = [(_id_or_text(token), bias) for token, bias in value.items()]
        else:
            biases = [(token, bias) for token, bias in islice(value, _MOST_ITEMS)]
    except (TypeError, ValueError):
        raise InvalidOptionError(
            "logit_bias", f"must be a mapping of tokens to numbers, or pairs (got {shown(value)})"
        ) from None
    return tuple(starmap(_bias, biases))


def _bias(token: Any, bias: Any) -> tuple[int | str, float]:
    if not is_token(token):
        raise InvalidOptionError(
            "logit_bias", f"tokens must be ids or strings (got {shown(token)})"
        )
    if bias is None:
        raise InvalidOptionError("logit_bias", "biases must be numbers (got None)")
    if not (isinstance(bias, float) and bias == -math.inf):
        check_number("logit_bias", bias, -SINGLE_PRECISION, 1e6)
    return (well_formed(token) if isinstance(token, str) else token), bias


def _id_or_text(key: Any) -> Any:
    is_id = isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10
    return int(key) if is_id else key


def tokens_of(option: str, value: Any) -> tuple[int | str, ...]:
    """Tokens by their ids or their texts, one or several. Raises ``InvalidOptionError``."""
    tokens: tuple[int | str, ...] = listed(option, value)
    if not all(map(is_token, tokens)):
        raise InvalidOptionError(option, f"must be token ids or their strings (got {shown(value)})")
    return tokens


def is_token(value: object) -> bool:
    """Whether this can name a token: an id, or a text."""
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKEN


def checked_text(option: str, value: object) -> str | None:
    """A text of which every character counts; None stays None. Raises ``InvalidOptionError``."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidOptionError(option, f"must be a string (got {shown(value)})")
    if not is_well_formed(value):
        raise InvalidOptionError(option, "must not contain a lone surrogate")
    return str.__str__(value)


def effort_of(option: str, value: object) -> str | None:
    """A level of reasoning, or a budget in tokens as digits. Raises ``InvalidOptionError``."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKEN:
        return str(int(value))
    if isinstance(value, str) and (value in EFFORTS or re.fullmatch(r"[0-9]{1,9}", value)):
        return str.__str__(value)
    levels = ", ".join(EFFORTS)
    raise InvalidOptionError(option, f"must be {levels} or a number of tokens (got {shown(value)})")


def texts_of(option: str, values: Any) -> list[str]:
    """Texts, which are mended where they cannot be encoded. Raises ``InvalidOptionError``."""
    items = values if isinstance(values, list) else items_of(option, values, "strings")
    return [text_of(option, item, f"text {number} ") for number, item in enumerate(items, 1)]


def text_of(option: str, value: object, place: str = "") -> str:
    """A text, mended where it cannot be encoded. Raises ``InvalidOptionError``."""
    if isinstance(value, str):
        return well_formed(value)
    is_missing = value is None or (isinstance(value, float) and math.isnan(value))
    missing = " Drop missing values first." if is_missing else ""
    raise InvalidOptionError(option, f"{place}must be a string (got {shown(value)}).{missing}")


def token_ids(option: str, values: Any) -> list[int]:
    """Ids of tokens, numpy's integers among them. Raises ``InvalidOptionError``."""
    ids = []
    for value in items_of(option, values, "token ids"):
        try:
            token = operator.index(value)
        except TypeError:
            token = -1
        if isinstance(value, bool) or not 0 <= token <= _MOST_TOKEN:
            raise InvalidOptionError(option, f"must be token ids (got {shown(value)})")
        ids.append(token)
    return ids


def seconds_in(text: str) -> float | None:
    """A time such as "90", "90s", "1.5m", "2h" or "1d"; None where it is none.

    >>> seconds_in("1.5m")
    90.0
    """
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)\s*([smhd]?)", text.strip().lower(), re.ASCII)
    return float(found[1]) * _UNITS[found[2]] if found else None


def check_texts(name: str, texts: tuple[Any, ...]) -> None:
    """Raise ``InvalidOptionError`` unless all are texts that are not empty."""
    for text in texts:
        if not isinstance(text, str) or not text:
            raise no_texts(name, text)


def no_texts(name: str, value: object) -> InvalidOptionError:
    """The refusal of what is no text, or an empty one."""
    problem = f"must be a string or a list of strings, none of them empty (got {shown(value)})"
    return InvalidOptionError(name, problem)


def check_number(name: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    """Raise ``InvalidOptionError`` unless the value is None or a number within the bounds.

    ``whole`` is for options that take integers only.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        kind = "an integer" if whole else "a number"
        raise InvalidOptionError(name, f"must be {kind} (got {shown(value)})")
    if isinstance(value, float) and not math.isfinite(value) and not low <= value <= high:
        raise InvalidOptionError(name, f"must be a finite number (got {value})")
    is_huge = isinstance(value, int) and value.bit_length() > _MOST_BITS
    if is_huge or not low <= value <= high:
        is_open = high >= _MOST_TOKEN and not (is_huge and value > 0) and not value > high
        least, most = _bound(low), _bound(high)
        bounds = f"at least {least}" if is_open else f"between {least} and {most}"
        raise InvalidOptionError(name, f"must be {bounds} (got {shown(value)})")


def _bound(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
