"""Reading JSON that somebody else wrote: null and missing mean "nothing", a wrong type is told.

Every reader takes the value and a name for it, and raises ``MalformedError`` where the value has
a type that the protocol does not allow there. Unknown keys are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbllm.core.errors import ProtocolError
from nbllm.core.types import ModelInfo

__all__ = [
    "MalformedError",
    "count",
    "json_text",
    "load_json",
    "mapping",
    "models_in",
    "name_in",
    "reading",
    "required",
    "sequence",
    "text",
]


_DECODE = json.JSONDecoder().raw_decode
_SHOWN = 120


class MalformedError(ValueError):
    """A value of a type that the protocol does not allow there."""


def load_json(data: str | bytes) -> Any:
    """The JSON value in ``data``; whitespace around it and a byte order mark are allowed."""
    try:
        source = data.decode("utf-8") if isinstance(data, bytes) else data
        # Skips the layers of json.loads: this runs once for every token.
        value, end = _DECODE(source)
        if end == len(source) or source[end:].isspace():
            return value
    except (ValueError, RecursionError):
        pass
    return _load_padded(data)


def _load_padded(data: str | bytes) -> Any:
    source = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        return json.loads(source.lstrip("\ufeff").strip())
    except (ValueError, RecursionError):
        raise MalformedError(f"invalid JSON: {source[:_SHOWN]!r}") from None


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """A JSON object; null is an empty one."""
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    raise _wrong(value, name, "an object")


def sequence(value: object, name: str) -> list[Any]:
    """A JSON array; null is an empty one."""
    if isinstance(value, list):
        return value
    if value is None:
        return []
    raise _wrong(value, name, "an array")


def text(value: object, name: str) -> str:
    """A JSON string; null is an empty one."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise _wrong(value, name, "a string")


def json_text(value: object, name: str) -> str:
    """JSON in a string; some servers write the object itself."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else text(value, name)


def count(value: object) -> int:
    """A number of tokens; what is no number counts as 0, because an answer is worth more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return 0
    return int(value)


def _wrong(value: object, name: str, wanted: str) -> MalformedError:
    return MalformedError(f"{name} must be {wanted} (got {repr(value)[:_SHOWN]})")


def models_in(value: object) -> list[Mapping[str, Any]]:
    """The entries of a list of models; one of another shape is no list of none."""
    if not isinstance(value, list):
        raise MalformedError("the response is not a list of models")
    return [mapping(item, "a model") for item in value]


def name_in(item: Mapping[str, Any], *keys: str) -> str:
    """The name of a model in a list, under the first of the keys that has it."""
    found = next((text(item[key], key) for key in keys if item.get(key)), "")
    if not found:
        raise MalformedError(f"a model in the list has no {keys[0]}")
    return found


def required(item: Mapping[str, Any], key: str) -> str:
    """A text that must be there."""
    found = text(item.get(key), key)
    if not found:
        raise MalformedError(f"the response has no {key}")
    return found


@contextmanager
def reading(info: ModelInfo) -> Iterator[None]:
    """Turn what is malformed into a ``ProtocolError``."""
    try:
        yield
    except MalformedError as error:
        raise ProtocolError(
            info.name, f"the response does not follow the vendor's protocol: {error}"
        ) from error
