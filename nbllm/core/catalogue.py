"""Model files that are there without being configured: in installed packages, in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from nbllm.core.errors import ModelFileError
from nbllm.core.openers import describe_file
from nbllm.core.types import GenerationOptions, ModelInfo

__all__ = ["bundled_models", "describe", "found_models"]

_MAX_DEPTH = 3
_MAX_FOLDERS = 2_000
_NOT_ENTERED = {"node_modules", "site-packages", "__pycache__"}
_LATER_SPLIT = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
_NO_LANGUAGE_MODEL = {"adapter", "clip", "mmproj", "vocab"}
_RECOMMENDED = {
    # Its makers' advice (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct).
    "smollm2": GenerationOptions(temperature=0.2, top_p=0.9),
}


def describe(path: Path, source: Literal["found", "bundled"] = "found") -> ModelInfo:
    """What the file's header tells. Raises ``ModelFileError``."""
    try:
        status = path.stat()
    except OSError as error:
        raise ModelFileError(str(path), error.strerror or "cannot be read") from None
    info = _described(path.absolute(), status.st_mtime_ns, status.st_size)
    family = next((f for f in _RECOMMENDED if info.name.casefold().startswith(f)), None)
    return replace(info, source=source, options=_RECOMMENDED.get(family or "", info.options))


def bundled_models() -> list[ModelInfo]:
    """Models whose files belong to installed packages, found without importing any of them."""
    return _described_files(sorted(_bundled_files()), "bundled")


def found_models(folder: Path) -> list[ModelInfo]:
    """Models in ``folder`` and up to three levels below it; damaged files are passed over.

    Hidden folders and virtual environments are not entered, and at most 2,000 folders are.
    """
    return _described_files(sorted(_model_files(folder)), "found")


def _described_files(paths: list[Path], source: Literal["found", "bundled"]) -> list[ModelInfo]:
    infos = []
    for path in paths:
        try:
            info = describe(path, source)
        except ModelFileError:
            continue
        if info.model_type not in _NO_LANGUAGE_MODEL:
            infos.append(info)
    return infos


@lru_cache(maxsize=1024)
def _described(path: Path, mtime_ns: int, size: int) -> ModelInfo:
    """Keyed by time and size too, so that a file that was replaced is read again."""
    return describe_file(path)


def _bundled_files() -> Iterator[Path]:
    for distribution in metadata.distributions():
        if ".gguf" in (distribution.read_text("RECORD") or ""):
            for file in distribution.files or ():
                if file.suffix == ".gguf":
                    yield Path(str(distribution.locate_file(file)))


def _model_files(folder: Path) -> Iterator[Path]:
    for count, (root, folders, files) in enumerate(os.walk(folder), start=1):
        here = Path(root)
        for file in files:
            if file.endswith(".gguf") and not _LATER_SPLIT.search(file):
                yield here / file
        deep = len(here.relative_to(folder).parts) >= _MAX_DEPTH
        stop = deep or count >= _MAX_FOLDERS
        folders[:] = [] if stop else [name for name in folders if _is_entered(here / name)]


def _is_entered(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _NOT_ENTERED
    return not hidden and not (folder / "pyvenv.cfg").exists()
