"""The keys of a GGUF's header, with a check of their types, and the kind of file that they tell."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import ModelShape, TensorInfo, Value

__all__ = ["Keys", "check_adapter", "check_model", "kind_of"]


@dataclass(frozen=True, slots=True)
class Keys:
    """A header's keys; ``architecture`` stands in front of those that are read with a dot."""

    file: Path
    metadata: Mapping[str, Value]

    @property
    def architecture(self) -> str:
        """What the model is built like; empty where the header does not say."""
        return self.text("general.architecture") or ""

    def text(self, key: str) -> str | None:
        """A text, None where the header has no such key."""
        value = self.metadata.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(key, "a string")

    def whole(self, key: str) -> int | None:
        """A size or a count; where the layers differ, the greatest of them."""
        values = self.wholes(key)
        return max(values) if values else None

    def wholes(self, key: str) -> tuple[int, ...] | None:
        """One number, or one for each layer."""
        key = self._full(key)
        value = self.metadata.get(key)
        if value is None:
            return None
        values = value if isinstance(value, tuple) else (value,)
        if all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in values):
            return tuple(map(int, values))
        raise self._wrong(key, "an integer")

    def flags(self, key: str) -> tuple[bool, ...] | None:
        """A yes or no for each layer; None where there is no such key or it is one number."""
        value = self.metadata.get(self._full(key))
        return tuple(map(bool, value)) if isinstance(value, tuple) else None

    def _full(self, key: str) -> str:
        return f"{self.architecture}{key}" if key.startswith(".") else key

    def _wrong(self, key: str, wanted: str) -> ModelFileError:
        found = repr(self.metadata[key])
        shown = found if len(found) < 50 else f"{found[:50]}…"
        return ModelFileError(str(self.file), f"is damaged: {key!r} is {shown}, not {wanted}")


_ARCHITECTURES = {
    "clip": "mmproj",
    "controlvector": "control vector",
    "dflash": "draft",
    "eagle3": "draft",
    "imatrix": "imatrix",
}
"""Architectures that are none, with what a file of theirs is."""

_USES = {
    "adapter": "is a LoRA adapter, not a model. Load the model that it was made for with "
    "this file: %llm_load MODEL --adapter FILE, or load_model(…, adapters=FILE)",
    "mmproj": "is an image projector (mmproj), not a model. Load the model that it belongs to; "
    "local models support text only",
    "draft": "only drafts for another model. Load the model that it belongs to",
    "control vector": "is a control vector, not a model, and is not supported",
    "imatrix": "is an importance matrix for quantization, not a model",
    "vocab": "contains a vocabulary without weights. Download the whole model",
    "other": "is not a language model: it has no token embeddings. It may be an image model or a "
    "part of one",
}


def kind_of(keys: Keys, tensors: tuple[TensorInfo, ...]) -> str:
    """What the file holds: "model", or something else by its content where it does not say so.

    Every language model that llama.cpp knows has a table of embeddings; without it, as in image
    models, there is nothing to read a prompt with.
    """
    said = keys.text("general.type") or "model"
    if said != "model":
        return said
    if keys.text("adapter.type") is not None:
        return "adapter"
    if keys.architecture in _ARCHITECTURES:
        return _ARCHITECTURES[keys.architecture]
    if not tensors:
        return "vocab"
    return "model" if any(tensor.name == "token_embd.weight" for tensor in tensors) else "other"


def check_model(path: Path, shape: ModelShape) -> None:
    """Raise ``ModelFileError`` for a file that llama.cpp could not load as a model here."""
    if shape.kind != "model":
        use = _USES.get(shape.kind, f"is of type {shape.kind[:40]!r}, not a model")
        raise ModelFileError(str(path), use)
    if shape.byte_order != sys.byteorder:
        raise ModelFileError(
            str(path),
            f"is stored for {shape.byte_order}-endian machines, but this one is "
            f"{sys.byteorder}-endian. Download a file for it, or convert this one: pip install "
            f"gguf, then gguf-convert-endian FILE {sys.byteorder}",
        )


def check_adapter(path: Path, shape: ModelShape) -> None:
    """Raise ``ModelFileError`` for a file that is not a LoRA adapter."""
    if shape.kind != "adapter":
        raise ModelFileError(str(path), f"is not a LoRA adapter: it is of type {shape.kind!r}")
