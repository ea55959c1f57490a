"""Checks of options, whose errors name the option."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from nbllm.core.errors import InvalidOptionError

__all__ = ["adapters_of", "biases_of", "check_number", "check_texts", "is_token", "listed"]


def listed(value: Any) -> Any:
    """One value, or several, as a tuple; None stays what it is."""
    if value is None:
        return None
    return (value,) if isinstance(value, str | int) else tuple(value)


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
        raise InvalidOptionError("adapters", "give paths, or pairs of a path and a scale")
    pairs = [(item, 1.0) if isinstance(item, str | PurePath) else tuple(item) for item in listed]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str | PurePath) or not str(pair[0]):
            raise InvalidOptionError("adapters", f"{pair!r} is not a path with a scale")
        check_number("adapters", pair[1], -100, 100)
    return tuple((str(Path(path).expanduser()), float(scale)) for path, scale in pairs)


def biases_of(value: Any) -> tuple[tuple[int | str, float], ...] | None:
    """Pairs of token and bias, from a mapping or from pairs. Raises ``InvalidOptionError``.

    Digits that are the key of a mapping are a token's id, because JSON has no other keys than
    texts, and OpenAI's has ids there. In a pair they are a text.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            biases = tuple((_id_or_text(token), bias) for token, bias in value.items())
        else:
            biases = tuple((token, bias) for token, bias in value)
    except (TypeError, ValueError):
        raise InvalidOptionError("logit_bias", "give pairs of a token and a number") from None
    for token, bias in biases:
        if not is_token(token):
            raise InvalidOptionError("logit_bias", f"{token!r} is neither a token's id nor a text")
        check_number("logit_bias", bias, -math.inf, 1e6)
    return biases


def _id_or_text(key: Any) -> Any:
    is_id = isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10
    return int(key) if is_id else key


def is_token(value: object) -> bool:
    """Whether this can name a token: an id, or a text."""
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_texts(name: str, texts: tuple[Any, ...]) -> None:
    """Raise ``InvalidOptionError`` unless all are texts that are not empty."""
    if not all(isinstance(text, str) and text for text in texts):
        raise InvalidOptionError(name, "give one or more texts, none of them empty")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise ``InvalidOptionError`` unless the value is None or a number within the bounds."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOptionError(name, f"{value!r} is not a number")
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise InvalidOptionError(name, f"{value!r} is not {bounds}")
