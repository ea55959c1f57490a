"""Parts of requests that several vendors share, and their JSON schemas."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from nbllm.cloud.vendors.json_values import load_json
from nbllm.core.errors import UnsupportedError
from nbllm.core.option_names import any_option
from nbllm.core.option_table import Backend, refused
from nbllm.core.types import (
    GenerationOptions,
    ImagePart,
    ModelInfo,
    ReasoningPart,
    ToolCall,
    VendorPart,
)

__all__ = [
    "ID_END",
    "KINDS",
    "SUBSCHEMAS",
    "SUBSCHEMA_LISTS",
    "check_not_local",
    "data_url",
    "image_source",
    "is_object",
    "merge",
    "signature_for",
    "subschemas",
    "tightened",
    "vendor_value",
]

ID_END = "|"
"""Stands in the signature of OpenAI's reasoning between its id and its encrypted content. No other
vendor's signature has it, so that none is sent to a vendor who would refuse it."""

_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,(.*)", re.DOTALL)


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


def check_not_local(info: ModelInfo, options: GenerationOptions) -> None:
    """Raise ``UnsupportedError`` for options that only a model on this machine has."""
    if local_only := refused(options, Backend.CLOUD):
        problem = f"only local models support {any_option(local_only)}; leave it unset"
        raise UnsupportedError(info.name, problem)


SUBSCHEMAS = ("properties", "$defs", "definitions")
SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
KINDS = {"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "properties"}
"""One of these says what a value is; strict mode has nothing that may be anything."""


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether a schema is of an object, maybe among other types."""
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def subschemas(schema: Mapping[str, Any]) -> list[object]:
    """The schemas that stand directly in a schema."""
    found: list[object] = [schema["items"]] if "items" in schema else []
    for key in SUBSCHEMAS:
        if isinstance(schema.get(key), Mapping):
            found += schema[key].values()
    for key in SUBSCHEMA_LISTS:
        if isinstance(schema.get(key), list | tuple):
            found += schema[key]
    return found


def tightened(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    """The schema with every object closed and, if ``required``, every property required."""

    def inner(value: Any) -> Any:
        return tightened(value, required=required) if isinstance(value, Mapping) else value

    tight = dict(_plainer(schema))
    for key in SUBSCHEMAS:
        if isinstance(tight.get(key), Mapping):
            tight[key] = {name: inner(value) for name, value in tight[key].items()}
    for key in SUBSCHEMA_LISTS:
        if isinstance(tight.get(key), list | tuple):
            tight[key] = [inner(value) for value in tight[key]]
    if "items" in tight:
        tight["items"] = inner(tight["items"])
    if is_object(tight):
        tight.setdefault("additionalProperties", False)
        if required and isinstance(tight.get("properties"), Mapping):
            tight["required"] = list(tight["properties"])
    return tight


def _plainer(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the words that both vendors have.

    They take no ``oneOf``, no default of None, and no title or the like beside a ``$ref``; where
    there is only one ``allOf``, it may as well be here itself.
    """
    plain = dict(schema)
    if "properties" in plain and plain.keys().isdisjoint(KINDS - {"properties"}):
        plain["type"] = "object"
    if "oneOf" in plain and "anyOf" not in plain:
        plain["anyOf"] = plain.pop("oneOf")
        plain.pop("discriminator", None)
    if plain.get("default", 0) is None:
        del plain["default"]
    several = plain.get("allOf")
    if isinstance(several, list | tuple) and len(several) == 1 and isinstance(several[0], Mapping):
        only = several[0]
        if plain.keys().isdisjoint(only.keys() - {"title", "description"}):
            del plain["allOf"]
            plain = {**only, **plain}
    if "$ref" in plain:
        for key in ("title", "description", "default", "examples", "deprecated"):
            plain.pop(key, None)
    return plain


# ---------------------------------------------------------------- Anthropic
