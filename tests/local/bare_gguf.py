"""The smallest GGUFs: a header of a few keys, and one tensor at most."""

from __future__ import annotations

import struct


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def bare_gguf(
    *, tensor: str = "token_embd.weight", architecture: str = "llama", **keys: str
) -> bytes:
    """The smallest file with one tensor, none where its name is empty."""
    texts = {
        "general.architecture": architecture,
        **{k.replace("__", "."): v for k, v in keys.items()},
    }
    pairs = b"".join(
        _text(key) + struct.pack("<I", 8) + _text(value) for key, value in texts.items()
    )
    count = int(bool(tensor))
    described = (_text(tensor) + struct.pack("<IQIQ", 1, 32, 0, 0)) * count
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(texts)) + pairs + described
    return head + bytes(-len(head) % 32 + 128 * count)
