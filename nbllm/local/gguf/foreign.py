"""What a file is that was taken for a GGUF, told from its first bytes."""

from __future__ import annotations

import re

__all__ = ["foreign_format"]

_AGAIN = "the server sent that instead of the model; check the address and whether it needs a login"
_CONVERT = "convert it with llama.cpp's convert_hf_to_gguf.py or download a GGUF of the model"

_FORMATS: tuple[tuple[bytes, str], ...] = (
    (rb"\Z", "is empty; download it again"),
    (rb"\s*<(?i:!doctype html|html|head|body)", f"is a web page (HTML): {_AGAIN}"),
    (rb"\s*<", f"is an XML file: {_AGAIN}"),
    (
        rb"version https://git-lfs",
        "is a Git LFS pointer, not the model itself; download the model with: git lfs pull",
    ),
    (rb".{8}\{\s*\"", f"is a safetensors file; {_CONVERT}"),
    (rb"\s*[{\[]", f"is a JSON file: {_AGAIN}"),
    (rb"PK\x03\x04", f"is a ZIP archive, perhaps a PyTorch checkpoint; unpack it or {_CONVERT}"),
    (rb"\x80[\x02-\x05]", f"is a Python pickle, perhaps a PyTorch checkpoint; {_CONVERT}"),
    (
        rb"lmgg|fmgg|tjgg",
        "is a GGML file (the format before GGUF), which llama.cpp no longer supports; "
        "download a GGUF of the model",
    ),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "is compressed; unpack it first"),
    (rb"\x00+\Z", "begins with zeros only: the download is incomplete; download it again"),
)


def foreign_format(start: bytes) -> str:
    """A predicate for the file that begins with ``start`` (some hundred bytes) and what to do."""
    for pattern, predicate in _FORMATS:
        if re.match(pattern, start, re.DOTALL):
            return predicate
    return f"begins with {start[:4]!r}"
