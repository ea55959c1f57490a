"""What an answer was made of, saved with it in the notebook under the key "nbllm".

A recipe holds what it takes to ask again: never a key, an address or a request's ``extra``
fields, which may carry either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nbllm.core.paths import file_fingerprint
from nbllm.core.types import GenerationOptions, GenerationResult, ModelInfo
from nbllm.core.version import __version__

__all__ = ["recipe_of"]

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
