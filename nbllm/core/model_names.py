"""Which model a name means."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nbllm.core.catalogue.headers import describe
from nbllm.core.errors import ModelFileError, ModelNotFoundError
from nbllm.core.naming.answers import Known
from nbllm.core.naming.files import folder_entry, missing_file
from nbllm.core.naming.hubs import is_hub_address
from nbllm.core.naming.providers import server_entry, vendor_model
from nbllm.core.naming.shapes import not_found
from nbllm.core.naming.weights import foreign_kind
from nbllm.core.paths import absolute_path, is_gguf, read_start
from nbllm.core.suggest import closest
from nbllm.core.types import ModelInfo

__all__ = ["find_entry", "matching", "not_loaded"]

_MAGIC = b"GGUF"


def find_entry(name: str, available: Iterable[ModelInfo], loaded: Iterable[str] = ()) -> ModelInfo:
    """The entry that ``name`` means: a known name, a path, a vendor's, a beginning of a name.

    What is called ``.gguf`` is a path; so is the name of a file that begins as a GGUF does, and
    of any file or folder that is written with a folder. A server's address, and a model behind a
    word such as ``ollama/``, are entries too; nobody is asked here whether they are there.

    Raises ``ModelNotFoundError`` with the closest names, ``loaded`` ones too, and the lines that
    get what the name seems to mean; ``ModelFileError`` for a path. Of several models that begin so
    the only configured one is meant, else the only bundled one, else none.
    """
    known, written = Known(tuple(available), tuple(loaded)), _unwrapped(name)
    infos, must_be_fetched = known.infos, is_hub_address(written)
    if is_gguf(written) and not must_be_fetched:
        return _at(_path(written), written, known)
    same = _named(name, infos) or _named(written, infos)
    if not same and written and not must_be_fetched:
        if (vendors := vendor_model(written)) is not None:
            return vendors
        if (path := _file_called(written)) is not None:
            return _at(path, written, known)
        if (server := server_entry(written)) is not None:
            return server
    alike = same or (_beginning(written, infos) if written else [])
    if (meant := _preferred(alike)) is not None:
        return meant
    if not alike and written and (folder := _folder_called(written)) is not None:
        return folder_entry(folder)
    if alike:
        names = [info.name for info in alike]
        raise ModelNotFoundError(name, suggestions=tuple(names[:5]), hint=known.here)
    raise not_found(written, known)


def _preferred(alike: list[ModelInfo]) -> ModelInfo | None:
    """The only one; of several, the only configured one, else the only bundled one.

    So a name that a notebook uses goes on to mean the same model where copies of it, such as
    other quantizations, come to lie beside it.
    """
    groups = (alike, *([i for i in alike if i.source == kind] for kind in ("config", "bundled")))
    return next((group[0] for group in groups if len(group) == 1), None)


def _unwrapped(name: str) -> str:
    """A name without what came along when it was copied: blanks, quotes, ``file://``."""
    bare = name.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'`":
        bare = bare[1:-1].strip()
    if bare[:7].casefold() == "file://":
        from urllib.request import url2pathname  # hardly anybody needs it

        return url2pathname(bare[7:].removeprefix("localhost"))
    return bare


def _at(path: Path, name: str, known: Known) -> ModelInfo:
    """The entry of a file, the known one where there is one. Raises ``ModelFileError``."""
    found = next((info for info in known.infos if info.path == path), None)
    if found is not None:
        return found
    try:
        is_folder, is_there = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError):  # a path that no file can have, as its description tells
        return describe(path)
    if is_folder:
        return folder_entry(path)
    if not is_there:
        raise missing_file(name, path, known)
    return describe(path)


def _path(name: str) -> Path:
    try:
        return absolute_path(name)
    except ValueError as error:
        raise ModelFileError(name, str(error)) from None


def _file_called(name: str) -> Path | None:
    """The file or folder that a name without ``.gguf`` leads to, if it is meant.

    Ollama's blobs have no ending, and weights for other programs have another.
    """
    try:
        path = absolute_path(name)
        if not path.exists():
            return None
        is_path = path.name != name or (foreign_kind(name) is not None and path.is_file())
        return path if is_path or read_start(path, len(_MAGIC)) == _MAGIC else None
    except (OSError, ValueError):  # a name that no file can have, or one that may not be read
        return None


def _folder_called(name: str) -> Path | None:
    """The folder of a name without a slash, for names that are nothing else."""
    try:
        path = absolute_path(name)
        return path if path.is_dir() else None
    except (OSError, ValueError):
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
    """The entries of exactly this name, else of this name in any case, else by another name."""
    listed, folded = list(infos), name.casefold()
    same = [info for info in listed if info.name.casefold() == folded]
    exact = [info for info in same if info.name == name] or same
    return exact or [i for i in listed if any(a.casefold() == folded for a in i.aliases)]


def _beginning(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    listed, folded = list(infos), name.casefold()
    found = [info for info in listed if info.name.casefold().startswith(folded)]
    return found or [i for i in listed if any(a.casefold().startswith(folded) for a in i.aliases)]
