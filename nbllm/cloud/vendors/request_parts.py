"""Parts of requests that several vendors write alike: images, signatures, and what a user adds."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from nbllm.cloud.vendors.json_values import load_json
from nbllm.core.errors import UnsupportedError
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
    "check_not_local",
    "data_url",
    "image_source",
    "merge",
    "signature_for",
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
        problem = f"only local models support {' or '.join(local_only)}; leave it unset"
        raise UnsupportedError(info.name, problem)
