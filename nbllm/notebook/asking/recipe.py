"""What an answer was made of, saved with it in the notebook under the key "nbllm".

A recipe holds what it takes to ask again: never a key, an address or a request's ``extra``
fields, which may carry either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbllm.core.paths import open_regular
from nbllm.core.types import GenerationOptions, GenerationResult, ModelInfo
from nbllm.core.version import __version__

__all__ = ["file_fingerprint", "recipe_of"]

SLICES = 16
SLICE_BYTES = 64 * 1024
_NEVER_SAVED = {"extra", "tools", "tool_choice"}


def recipe_of(
    info: ModelInfo, options: GenerationOptions, result: GenerationResult
) -> dict[str, Any]:
    """The recipe of ``result`` as JSON values; what is not known is left out."""
    asked = info.options.merged(options).set_values()
    return _known(
        {
            "version": __version__,
            "model": result.model,
            "model_type": info.model_type,
            "vendor_model": info.model,
            "quantization": info.quantization,
            "file": _file(info.path) if info.path else None,
            "device": result.device,
            "options": {name: value for name, value in asked.items() if name not in _NEVER_SAVED},
            "seed": result.seed,
            "finish_reason": result.finish_reason.value,
            "usage": _known(asdict(result.usage)),
            "timings": {
                name: round(seconds, 4) for name, seconds in _known(asdict(result.timings)).items()
            },
        }
    )


def file_fingerprint(path: Path) -> str:
    """What tells a model's file from others, in a millisecond whatever its size.

    SHA-256 over the size in decimal digits and 16 slices of 64 KiB, evenly spread from the first
    byte to the last. Reading gigabytes for a hash of everything would take longer than most
    answers; a file in Hugging Face's cache is named after that hash, and so has it for nothing.
    """
    stat = path.stat()
    whole = path.resolve().name
    if len(whole) == 64 and set(whole) <= set("0123456789abcdef"):
        return f"sha256:{whole}"
    return f"sha256-of-slices:{_hash_of_slices(path, stat.st_size, stat.st_mtime_ns)}"


@lru_cache(maxsize=64)
def _hash_of_slices(path: Path, size: int, modified_ns: int) -> str:
    """``modified_ns`` makes a file that was written anew another one."""
    digest = hashlib.sha256(str(size).encode())
    last = max(size - SLICE_BYTES, 0)
    with open_regular(path) as file:
        for number in range(SLICES):
            file.seek(last * number // (SLICES - 1))
            digest.update(file.read(SLICE_BYTES))
    return digest.hexdigest()


def _file(path: Path) -> dict[str, Any] | None:
    try:
        return {
            "name": path.name,
            "size_bytes": path.stat().st_size,
            "fingerprint": file_fingerprint(path),
        }
    except OSError:  # it was moved or deleted while its model was loaded
        return {"name": path.name}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
