"""Images for messages, from whatever a notebook has at hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.paths import absolute_path, read_file, reason
from nbllm.core.texts import capped, shown
from nbllm.core.types import ImagePart

__all__ = ["image"]

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_MOST_BYTES = 64 * 2**20
"""More than any vendor takes of an image."""
_ADDRESSES = ("http://", "https://", "data:")


def image(source: Any) -> ImagePart:
    """An image for a message, from a path, bytes, an address, a matplotlib figure or a PIL image.

    Files and bytes may be PNG, JPEG, GIF or WebP, told by their first bytes; figures and PIL
    images are sent as PNG. Raises ``InvalidOptionError`` for anything else.
    """
    if isinstance(source, ImagePart):
        return source
    if isinstance(source, str) and source.startswith(_ADDRESSES):
        return ImagePart(url=source)
    if isinstance(source, str | Path):
        return _from_bytes(_read(source), shown(str(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), f"the data ({len(source):,} bytes)")
    if hasattr(source, "savefig"):
        return _drawn(lambda file: source.savefig(file, format="png", bbox_inches="tight"))
    if hasattr(source, "save") and hasattr(source, "getbands"):
        return _drawn(lambda file: source.save(file, format="PNG"))
    raise InvalidOptionError(
        "image",
        f"{type(source).__name__:.80} is not an image; give a path, bytes, an address, a "
        "matplotlib figure or a PIL image",
    )


def _drawn(draw: Any) -> ImagePart:
    file = io.BytesIO()
    draw(file)
    return ImagePart("image/png", file.getvalue())


def _read(source: str | Path) -> bytes:
    try:
        return read_file(absolute_path(source), _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise InvalidOptionError("image", f"{capped(str(source))}: {reason(error)}") from None


def _from_bytes(data: bytes, what: str) -> ImagePart:
    for signature, media_type in _SIGNATURES.items():
        if data.startswith(signature):
            return ImagePart(media_type, data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ImagePart("image/webp", data)
    raise InvalidOptionError("image", f"{what} is not a PNG, JPEG, GIF or WebP image")
