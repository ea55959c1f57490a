"""Which model a name means."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbllm.core import catalogue
from nbllm.core.errors import ModelFileError, ModelNotFoundError
from nbllm.core.paths import absolute_path, is_gguf, read_start
from nbllm.core.suggest import closest
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import vendor_model

__all__ = ["find_entry", "matching", "not_loaded"]

_MAGIC = b"GGUF"


def find_entry(name: str, available: Iterable[ModelInfo]) -> ModelInfo:
    """The entry that ``name`` means: a known name, a path, a vendor's, a beginning of a name.

    What is called ``.gguf`` is a path; so is the name of a file that begins as a GGUF does, and
    of any file that is written with a folder. Raises ``ModelNotFoundError`` with the closest
    names, ``ModelFileError`` for a path.
    """
    infos = list(available)
    if is_gguf(name):
        return _at(_path(name), infos)
    same, vendors = _named(name, infos), vendor_model(name)
    if not same and vendors is not None:
        return vendors
    if not same and (path := _file_called(name)) is not None:
        return _at(path, infos)
    alike = same or _beginning(name, infos)
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise ModelNotFoundError(name, suggestions=tuple(info.name for info in alike[:5]))
    raise ModelNotFoundError(
        name,
        suggestions=closest(name, [info.name for info in infos]),
        hint="%llm_models and list_available_models() show what there is; a path ends in .gguf.",
    )


def _at(path: Path, infos: Iterable[ModelInfo]) -> ModelInfo:
    """The entry of a file, the known one where there is one. Raises ``ModelFileError``."""
    known = next((info for info in infos if info.path == path), None)
    return known or catalogue.describe(path)


def _path(name: str) -> Path:
    try:
        return absolute_path(name)
    except ValueError as error:
        raise ModelFileError(name, str(error)) from None


def _file_called(name: str) -> Path | None:
    """The file that a name without ``.gguf`` leads to, if it is meant: Ollama's blobs have none."""
    try:
        path = absolute_path(name)
        if not path.exists():
            return None
        is_path = path.name != name
        return path if is_path or read_start(path, len(_MAGIC)) == _MAGIC else None
    except (OSError, ValueError):  # a name that no file can have, or one that may not be read
        return None


def matching(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    """The entries of this name, else those whose names begin so."""
    listed = list(infos)
    return _named(name, listed) or _beginning(name, listed)


def not_loaded(name: str, loaded: Iterable[str]) -> ModelNotFoundError:
    """That no model of this name is loaded, with the names of those that are."""
    names = tuple(loaded)
    return ModelNotFoundError(
        name,
        suggestions=closest(name, names),
        hint=f"Loaded: {', '.join(names)}." if names else "No model is loaded.",
    )


def _named(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    """The entries of exactly this name, else of this name in any case."""
    same = [info for info in infos if info.name.casefold() == name.casefold()]
    return [info for info in same if info.name == name] or same


def _beginning(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    return [info for info in infos if info.name.casefold().startswith(name.casefold())]
