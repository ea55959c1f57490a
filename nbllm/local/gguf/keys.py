"""The keys of a GGUF's header, read with a check of their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.model_shape import Value

__all__ = ["Keys"]


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
