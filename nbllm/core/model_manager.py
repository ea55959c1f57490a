"""``ModelManager``: finds models, loads each once however many ask, and gives them back."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from nbllm.core import openers
from nbllm.core.awaiting import tells_unless_awaited
from nbllm.core.budgets.books import data_file
from nbllm.core.budgets.budget import Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.caching.cache import ResultCache, cache_from
from nbllm.core.errors import (
    InvalidOptionError,
    LoadedOtherwiseError,
    ModelClosedError,
    ModelNotFoundError,
)
from nbllm.core.file_jobs import FileJobs
from nbllm.core.hardware.resources import Resources
from nbllm.core.history import GenerationLog
from nbllm.core.known_models import KnownModels, matching, not_loaded
from nbllm.core.layers.activity import Activity
from nbllm.core.load_options import located
from nbllm.core.loading.loader import Loader, OtherModels
from nbllm.core.loading.memory_queue import MemoryQueue
from nbllm.core.loading.model_loads import Load, Loaded, ModelStatus, Progress, unloaded
from nbllm.core.loading.model_registry import ModelRegistry, Survey
from nbllm.core.manager_events import Listener, Listeners, ManagerEvent
from nbllm.core.measurements import has_tuned
from nbllm.core.model_config import load_config
from nbllm.core.model_facts import ModelList
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_checks import check_number
from nbllm.core.option_table import given
from nbllm.core.placement import Placement
from nbllm.core.quantization import tuned_entry
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.texts import shown
from nbllm.core.types import LoadOptions, ModelInfo

__all__ = ["WAIT_SECONDS", "ModelManager", "default_manager"]

WAIT_SECONDS = 60.0
"""So long a load waits for busy models that stand in its way where nothing else is said."""


@tells_unless_awaited("manager")
class ModelManager(KnownModels, FileJobs):
    """The models of a person: those configured, those on the disk, those of the clouds.

    One manager may be used from several event loops and threads at once; it stores no loop.
    ``models`` are configured entries, ``folder`` is searched for files (the current folder at
    the time of the search by default). ``open_model`` opens an entry, ``plan_model`` says what it
    takes where, and ``resources`` what there is; all three can be replaced by fakes from
    ``nbllm.testing``. An ``open_model`` that comes without a ``plan_model`` is trusted to fit.
    ``activity`` holds the generations that run, ``history`` those that have ended. ``cache`` keeps
    answers: True in memory, a path in a file; its ``mode`` can be changed at any time. ``budgets``
    bound what requests spend: a ``Budget``, or several; those of config entries are added to them.

    What it promises:

    - A loaded model stays until it is unloaded, its ``keep_alive`` is over, or its memory is
      needed for a model that then fits. One that is pinned, or has requests under way, or was
      handed out less than half a second ago and is not used yet, is never evicted.
    - What can never fit is refused with the numbers, and nothing is evicted for it. Otherwise as
      few idle models go as are needed, the one that is cheapest to be without first: unused for
      long, quick to load. They go too where the new model would else get fewer layers on a GPU
      or a shorter context.
    - Loads that compete for memory get it in the order in which they were asked for; memory that
      one was given is counted before it is used. A load starts when the memory that others gave
      back is there. Loads that do not compete run side by side.
    - Requests to loaded models, and loads of cloud models, never wait for another's load.
    """

    def __init__(
        self,
        models: Iterable[ModelInfo] = (),
        *,
        folder: Path | None = None,
        open_model: openers.Opener = openers.open_model,
        plan_model: openers.Planner | None = None,
        resources: Survey | None = None,
        cache: bool | str | os.PathLike[str] | ResultCache = False,
        budgets: Budget | Iterable[Budget] | Budgets = (),
    ) -> None:
        self.history = GenerationLog()
        self.activity = Activity(self.history)
        self.cache = cache_from(cache)
        super().__init__(
            models, folder, budgets if isinstance(budgets, Budgets) else Budgets(budgets)
        )
        self._listeners: Listeners[ManagerEvent] = Listeners()
        tell = self._listeners.tell
        self._registry = ModelRegistry(resources or ResourceDetector().detect, tell)
        plans_itself = open_model is not openers.open_model
        planner = plan_model or (_plan_nothing if plans_itself else openers.plan_model)
        queue = MemoryQueue(self._registry, planner, tell)
        others = OtherModels(self._known_entry, self._load_for)
        self._loader = Loader(
            self._registry,
            queue,
            open_model,
            self.activity,
            self.cache,
            self.budgets,
            tell,
            others,
        )

    # ------------------------------------------------------------ configs

    @classmethod
    def from_config(cls, path: str | Path, **kwargs: Any) -> ModelManager:
        """A manager with the entries of a JSON config. Raises ``ConfigError``."""
        return cls(load_config(Path(path)), **kwargs)

    # ------------------------------------------------------------ listings

    def list_loaded_models(self) -> list[ModelInfo]:
        """What is loaded and usable, under the names it was loaded by."""
        statuses = self.list_statuses()
        return ModelList(status.info for status in statuses if status.state == "loaded")

    def list_statuses(self) -> list[ModelStatus]:
        """What is loaded, or on its way, with its memory, its requests and when it was used."""
        return self._registry.statuses()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every ``ManagerEvent`` from now on; returns what ends that.

        It is called in the thread in which something happened, so it must be quick and must not
        raise; it may ask the manager.
        """
        return self._listeners.subscribe(listener)

    def get_model(self, name: str | None = None) -> ModelInterface:
        """A loaded model, by its name or a unique beginning of it; else the one used last.

        Raises ``ModelNotFoundError`` where it is not loaded, and ``ModelClosedError`` where the
        one used last has died.
        """
        with self._registry.changed:
            entry = self._last_used() if name is None else self._loaded_as(name)
            self._registry.touch(entry)
            return entry.model

    def _last_used(self) -> Loaded:
        if not self._registry.loaded:
            raise ModelNotFoundError("", hint="No model is loaded; load one.")
        entry = max(self._registry.loaded.values(), key=lambda entry: entry.used)
        if not entry.model.usable:
            raise ModelClosedError(
                entry.asked.name, "it is no longer running; load it again, or name another model"
            )
        return entry

    def _loaded_as(self, name: str) -> Loaded:
        loaded = self._registry.loaded.items()
        usable = {known: entry for known, entry in loaded if entry.model.usable}
        alike = matching(name, [entry.asked for entry in usable.values()])
        if len(alike) != 1:
            raise not_loaded(name, usable)
        return usable[alike[0].name]

    # ------------------------------------------------------------ loading

    async def load_model(
        self,
        name: str | Path,
        *,
        alias: str | None = None,
        options: LoadOptions | None = None,
        progress: Progress | None = None,
        wait: float = WAIT_SECONDS,
        reload: bool = False,
        **overrides: Any,
    ) -> tuple[ModelInterface, ModelInfo]:
        """Load a model and return it with what is known of it now that it is loaded.

        ``name`` is a name that ``list_available_models`` gives (any unique beginning of it will
        do), the path of a ``.gguf``, a vendor's model such as "gpt-4o", or a server's: its address
        ("http://gpu:8000/v1", with "#MODEL" where it serves several) or the word for its kind
        ("ollama/llama3.2"), and the server is asked for its list then. ``alias`` is the name
        to load it under. ``overrides`` are fields of ``LoadOptions``. ``progress`` takes the
        loaded fraction, 0 to 1, from any thread. A model that is loaded already is returned at
        once; callers who ask for the same model at the same time share one load.

        Where memory is short, idle models are unloaded to make room; ``subscribe`` tells which.
        Where models that work are in the way, the load waits for them for up to ``wait`` seconds
        (0: not at all; where several callers share it, the longest counts) and is then refused.
        For loads before it in the queue it waits as long as they take.

        A model that is loaded with other options is refused as ``LoadedOtherwiseError``. With
        ``reload`` it is unloaded if no request runs, and loaded again with these options in the
        place of the same ones before; where that fails it is loaded as it was.

        The model may be unloaded later on as the class says; a request then raises
        ``ModelClosedError`` with the reason. ``pin_model`` prevents it.

        Raises ``ModelNotFoundError``, ``ModelLoadError`` (``DoesNotFitError`` for a model that
        can never fit), ``MissingDependencyError``, ``InvalidOptionError``, and ``ApiError`` for a
        server that does not answer or refuses the key. After any of them the load can be tried
        again. Cancelling leaves the load to those who wait for it too; the
        last one ends it.
        """
        check_number("wait", wait, 0, math.inf)
        wish = await self._wish(given(LoadOptions, options, overrides, "context_length=4096"))
        asked = await self._asked(str(name), alias, wish)
        try:
            model = await self._loader.loaded(asked, wish, progress, wait)
        except LoadedOtherwiseError:
            if not reload:
                raise
            model = await self._loader.reloaded(asked.name, wish, progress, wait)
        return model, model.info

    async def _wish(self, options: LoadOptions) -> LoadOptions:
        """Options with the paths of the files that they name; raises ``InvalidOptionError``."""
        if options.draft_model is not None:
            draft = await asyncio.to_thread(self.find_model, options.draft_model)
            if draft.path is None:
                problem = f"{options.draft_model} is not a local model"
                raise InvalidOptionError("draft_model", problem)
            options = options.replaced(draft_model=str(draft.path))
        return located(options)

    async def _asked(self, name: str, alias: str | None, wish: LoadOptions) -> ModelInfo:
        """The entry that a name means, as it is to be loaded."""
        if not isinstance(alias, str | None):
            raise InvalidOptionError("alias", f"must be a string (got {shown(alias)})")
        info = await asyncio.to_thread(self._entry, name)
        return replace(info, name=alias or info.name, load=info.load.merged(wish))

    async def unload_model(self, name: str) -> None:
        """Close a model and free all that it holds; a load of it under way is given up.

        It is closed even where it is busy or pinned: its requests raise ``ModelClosedError`` with
        their text so far, and the pin is gone. When this returns, its memory is free. Raises
        ``ModelNotFoundError`` where it is neither loaded nor loading.
        """
        loads, entries, closing = self._registry.take(name)
        if not (loads or entries or closing):
            raise not_loaded(name, [status.info.name for status in self.list_statuses()])
        await self._end(loads, entries, closing)

    async def aclose(self) -> None:
        """Give up all loads and unload all models. The manager can be used again afterwards.

        When this returns, no process of a local model is left, whoever unloads or loads it.
        """
        await self._end(*self._registry.take())

    async def _end(self, loads: list[Load], entries: list[Loaded], closing: list[Loaded]) -> None:
        given_up = (asyncio.wrap_future(load.future) for load in loads)
        others = (asyncio.wrap_future(entry.closed) for entry in closing)
        ends = asyncio.gather(*given_up, *others, return_exceptions=True)
        try:
            # Not as a task: one that is cancelled before its first step would close nothing.
            await self._registry.close(entries, unloaded)
        finally:
            await ends

    def pin_model(self, name: str) -> None:
        """Keep a model in memory, whoever else needs it, until it is unpinned or unloaded.

        Raises ``ModelNotFoundError`` where it is neither loaded nor loading.
        """
        self._set_pinned(name, pinned=True)

    def unpin_model(self, name: str) -> None:
        """Let a model be evicted again. Raises ``ModelNotFoundError`` as ``pin_model`` does."""
        self._set_pinned(name, pinned=False)

    def _set_pinned(self, name: str, *, pinned: bool) -> None:
        if not self._registry.set_pinned(name, pinned=pinned):
            raise not_loaded(name, [status.info.name for status in self.list_statuses()])

    async def __aenter__(self) -> ModelManager:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def detect_resources(self) -> Resources:
        """What the machine has at this moment, by the ``resources`` that the manager was given."""
        return self._registry.survey()

    # ------------------------------------------------------------ names

    def _loaded_entries(self) -> dict[str, ModelInfo]:
        with self._registry.changed:
            return {name: entry.asked for name, entry in self._registry.loaded.items()}

    def _entry(self, name: str) -> ModelInfo:
        with self._registry.changed:
            loaded = self._registry.loaded.get(name)
        if loaded is not None:
            return loaded.asked
        info = self.find_model(name)
        if info.path is not None and has_tuned(info.path):
            return tuned_entry(info, self.detect_resources().cpu)
        return openers.complete_entry(info) if info.source == "server" else info

    def _known_entry(self, name: str) -> ModelInfo:
        """The entry of a loaded model, else what ``find_model`` finds; nobody is asked."""
        with self._registry.changed:
            loaded = self._registry.loaded.get(name)
        return self.find_model(name) if loaded is None else loaded.asked

    async def _load_for(self, asker: str, name: str, wait: float) -> ModelInterface:
        model, _ = await self.load_model(name, wait=wait)
        with self._registry.changed:
            entry = self._registry.loaded.get(asker)
            if entry is not None:
                self._registry.touch(entry)
        return model

    def __repr__(self) -> str:
        statuses = [f"{status.info.name} ({status.state})" for status in self.list_statuses()]
        return f"<ModelManager: {', '.join(statuses) or 'no model is loaded'}>"


@cache
def default_manager() -> ModelManager:
    """The manager that the magics use; one for each process.

    The budgets of a day that ``%llm_budget`` sets hold for all of them, until they are removed.
    """
    return ModelManager(budgets=Budgets(limits_file=data_file("budgets.json")))


def _plan_nothing(info: ModelInfo, resources: Resources) -> Placement | None:
    """For models whose memory nobody knows before they are loaded."""
