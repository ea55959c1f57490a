"""Reading JSON that somebody else wrote: null and missing mean "nothing", a wrong type is told.

Every reader takes the value and a name for it, and raises ``MalformedError`` where the value has
a type that the protocol does not allow there. Unknown keys are never looked at.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from nbllm.core.errors import UnsupportedError
from nbllm.core.types import ImagePart, ReasoningPart, ToolCall, VendorPart

__all__ = [
    "ID_END",
    "MalformedError",
    "count",
    "data_url",
    "host_of",
    "image_source",
    "json_text",
    "load_json",
    "mapping",
    "merge",
    "sequence",
    "signature_for",
    "text",
    "vendor_value",
]

ID_END = "|"
"""Stands in the signature of OpenAI's reasoning between its id and its encrypted content. No other
vendor's signature has it, so that none is sent to a vendor who would refuse it."""

_DECODE = json.JSONDecoder().raw_decode
_SHOWN = 120
_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,(.*)", re.DOTALL)


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


def merge(body: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """``body`` with ``extra`` laid over it; objects that are in both are merged likewise."""
    merged = dict(body)
    for key, value in (extra or {}).items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def data_url(model: str, image: ImagePart) -> str:
    """An address for an image: its own, or a ``data:`` URL of its bytes."""
    content, address = image_source(model, image)
    return address or "data:{};base64,{}".format(*content)


def image_source(model: str, image: ImagePart) -> tuple[tuple[str, str], str]:
    """An image's media type and base64, or its address; the other one is empty."""
    if image.data is not None:
        return (image.media_type, base64.b64encode(image.data).decode("ascii")), ""
    if image.url is None:
        raise UnsupportedError(model, "an image needs bytes or an address")
    if found := _DATA_URL.fullmatch(image.url):
        return (found[1], found[2]), ""
    return ("", ""), image.url


def signature_for(part: ReasoningPart | ToolCall, signer: str) -> str | None:
    """The signature of a part that this vendor may see: its own, or one of nobody named."""
    return part.signature if part.vendor in (None, signer) else None


def vendor_value(part: VendorPart, vendor: str) -> dict[str, Any] | None:
    """A part that this vendor wrote, as it wrote it; None for that of another one."""
    value = load_json(part.content) if part.vendor == vendor else None
    return value if isinstance(value, dict) else None


def host_of(base_url: str | None) -> str:
    """The host that an address names, in lower case; empty where there is none."""
    return (urlsplit(base_url or "").hostname or "").lower()
