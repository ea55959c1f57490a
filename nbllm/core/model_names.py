"""Which model a name means."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbllm.core import catalogue
from nbllm.core.errors import ModelNotFoundError
from nbllm.core.suggest import closest
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import vendor_model

__all__ = ["find_entry", "matching", "not_loaded"]


def find_entry(name: str, available: Iterable[ModelInfo]) -> ModelInfo:
    """The entry that ``name`` means: a known name, a path, a vendor's, a beginning of a name.

    Raises ``ModelNotFoundError`` with the closest names, ``ModelFileError`` for a path.
    """
    infos = list(available)
    if name.endswith(".gguf"):
        path = Path(name).expanduser().absolute()
        known = next((info for info in infos if info.path == path), None)
        return known or catalogue.describe(path)
    same, vendors = _named(name, infos), vendor_model(name)
    if not same and vendors is not None:
        return vendors
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
        hint=f"Loaded are: {', '.join(names)}." if names else "No model is loaded.",
    )


def _named(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    """The entries of exactly this name, else of this name in any case."""
    same = [info for info in infos if info.name.casefold() == name.casefold()]
    return [info for info in same if info.name == name] or same


def _beginning(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    return [info for info in infos if info.name.casefold().startswith(name.casefold())]
