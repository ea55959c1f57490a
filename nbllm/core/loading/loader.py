"""``Loader``: one load for all who ask for the same model, in a thread of its own."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from textwrap import shorten

from nbllm.core import openers
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.caching.cache import ResultCache
from nbllm.core.errors import LoadedOtherwiseError, ModelLoadError, NbllmError
from nbllm.core.kinds import kind_of
from nbllm.core.layers.activity import Activity
from nbllm.core.loading.memory_queue import MemoryQueue
from nbllm.core.loading.model_loads import Load, Loaded, Progress, reloading, unloaded
from nbllm.core.loading.model_registry import ModelRegistry
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import Opener
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.core.words import duration_words, size_words

__all__ = ["Loader", "OtherModels"]

_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class OtherModels:
    """The models of a manager, for one that is made of them.

    ``find`` gives the entry that a name means, ``load`` the loaded model, to the one of the first
    name, which stays the one used last; the number is how many seconds it may wait for memory.
    """

    find: Callable[[str], ModelInfo]
    load: Callable[[str, str, float], Awaitable[ModelInterface]]


class Loader:
    """Starts loads and shares them. ``open_model`` opens, once ``queue`` has given the memory."""

    def __init__(
        self,
        registry: ModelRegistry,
        queue: MemoryQueue,
        open_model: Opener,
        activity: Activity,
        cache: ResultCache,
        budgets: Budgets,
        tell: Callable[[ManagerEvent], None],
        others: OtherModels,
    ) -> None:
        self._registry, self._queue = registry, queue
        self._open_model, self._activity, self._tell = open_model, activity, tell
        self._cache, self._budgets, self._others = cache, budgets, others
        self._numbers = itertools.count()

    async def loaded(
        self, asked: ModelInfo, wish: LoadOptions, progress: Progress | None, wait: float
    ) -> ModelInterface:
        """The model, once it is loaded; raises as ``ModelManager.load_model``."""
        load = self._join(asked, wish, progress, wait)
        if isinstance(load, Loaded):
            return load.model
        try:
            return await asyncio.wrap_future(load.future)
        finally:
            self._leave(load, progress)

    async def reloaded(
        self, name: str, wish: LoadOptions, progress: Progress | None, wait: float
    ) -> ModelInterface:
        """The model with the options of the wish, or an error and the model as it was."""
        is_pinned = name in self._registry.pinned
        self._registry.set_pinned(name, pinned=False)
        try:
            before = await self._closed(name, wish)
            try:
                asked = replace(before, load=before.load.merged(wish))
                return await self.loaded(asked, wish, progress, wait)
            except NbllmError:
                await self.loaded(before, LoadOptions(), None, wait)
                raise
        finally:
            if is_pinned:
                self._registry.set_pinned(name, pinned=True)

    async def _closed(self, name: str, wish: LoadOptions) -> ModelInfo:
        """The entry of an idle model that is unloaded now, to be loaded by the wish."""
        await asyncio.sleep(self._registry.grace_seconds(name))
        idle = self._registry.take_idle(
            [name], "it was unloaded to change its load options; get the model again to use it"
        )
        if idle is None:
            problem = "it is loaded with other options and busy; try again when its requests end"
            raise LoadedOtherwiseError(name, problem)
        await self._registry.close(idle, partial(reloading, wish=wish))
        return idle[0].asked

    def _join(
        self, asked: ModelInfo, wish: LoadOptions, progress: Progress | None, wait_seconds: float
    ) -> Loaded | Load:
        """The loaded model of this name, or the load of it, which may begin now.

        Whoever gets a load leaves it again by ``_leave``. Raises ``ModelLoadError`` where another
        model has the name, or the same one with other options than the ``wish``.
        """
        with self._registry.changed:
            entry = self._registry.loaded.get(asked.name)
            if entry is not None and entry.model.usable:
                entry.asked = _same(entry.asked, asked, wish)
                self._registry.touch(entry)
                return entry
            load = self._load(asked, wish)
            load.wait_seconds = max(load.wait_seconds, wait_seconds)
            load.waiting += 1
            if progress is not None:
                load.listeners.append(progress)
            return load

    def _load(self, asked: ModelInfo, wish: LoadOptions) -> Load:
        under_way = self._registry.loading.get(asked.name)
        if under_way is not None and not under_way.given_up:
            under_way.asked = _same(under_way.asked, asked, wish)
            return under_way
        load = Load(asked, next(self._numbers), report=lambda fraction: self._progress(load))
        self._registry.loading[asked.name] = load
        threading.Thread(
            target=self._run, args=(load, under_way), name=f"nbllm-load-{asked.name}", daemon=True
        ).start()
        return load

    def _leave(self, load: Load, progress: Progress | None) -> None:
        """Do not wait for it any more; the last one who leaves gives it up."""
        with self._registry.changed:
            load.waiting -= 1
            if progress is not None:
                load.listeners.remove(progress)
            if load.waiting == 0 and not load.future.done():
                self._registry.give_up(load)

    # ------------------------------------------------------------ the load's thread

    def _run(self, load: Load, after: Load | None) -> None:
        """Load the model, once the load before it, which was given up, has ended."""
        if after is not None:
            after.future.exception()
        try:
            model = self._open(load)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the waiting ones get it
            self._registry.drop(load)
            self._tell(ManagerEvent(kind="failed", model=load.asked.name, words=str(error)))
            load.future.set_exception(error)
        else:
            load.future.set_result(model)

    def _open(self, load: Load) -> ModelInterface:
        name = load.asked.name
        stale = self._registry.take_unusable(name)
        if stale:
            asyncio.run(self._registry.close(stale, unloaded))
        if kind_of(load.asked).takes_memory:
            self._queue.admit(load)
        load.check_wanted()
        self._tell(ManagerEvent(kind="loading", model=name, words=_loading_words(load)))
        began = time.monotonic()
        model = self._opened(load)
        model.report_to(self._activity)
        seconds = time.monotonic() - began
        if not self._registry.keep(load, model, seconds):
            asyncio.run(model.aclose())
            load.check_wanted()
        words = f"Loaded {name} on {model.device} in {duration_words(seconds)}."
        self._tell(ManagerEvent(kind="loaded", model=name, words=words, seconds=seconds))
        return model

    def _opened(self, load: Load) -> ModelInterface:
        others, name = self._others, load.asked.name
        if kind_of(load.asked).routes:  # by whatever opener its members are opened
            control = replace(load.control, find=others.find, load=partial(others.load, name))
            return openers.open_model(load.asked, control)
        control = replace(load.control, resources=load.resources)
        model = self._open_model(replace(load.asked, placement=load.placement), control)
        model.add_layers(self._cache)
        model.spend_from(self._budgets)
        return model

    def _progress(self, load: Load) -> None:
        name, fraction = load.asked.name, load.fraction
        words = f"Loading {name}: {fraction:.0%}."
        self._tell(ManagerEvent(kind="progress", model=name, words=words, fraction=fraction))


def _same(known: ModelInfo, asked: ModelInfo, wish: LoadOptions) -> ModelInfo:
    """What is known, with the keep-alive of the wish. Raises where they are two things."""
    keep_alive = known.load.keep_alive if wish.keep_alive is None else wish.keep_alive
    kept = replace(known, load=replace(known.load, keep_alive=keep_alive))
    remedy = "Unload it first, or load this one under an alias (--as, alias)."
    if replace(asked, load=kept.load) != kept:
        problem = "another model with this name is already loaded."
        raise ModelLoadError(asked.name, f"{problem} {remedy}")
    if kept.load.merged(wish) != kept.load:
        problem = f"it is already loaded with {_other_options(kept.load, wish)}."
        raise LoadedOtherwiseError(asked.name, f"{problem} {remedy}")
    return kept


def _other_options(loaded: LoadOptions, wish: LoadOptions) -> str:
    """The options that differ from those of the load, with both values."""
    differences = []
    for name, wanted in wish.set_values().items():
        had = getattr(loaded, name)
        if wanted != had:
            was = f"the default {name}" if had is None else f"{name}={_brief(had)}"
            differences.append(f"{was} (requested: {_brief(wanted)})")
    return ", and ".join(differences)


def _brief(value: object) -> str:
    """A value as it is written, short where it is a whole chat template."""
    return shorten(repr(value), _LONGEST_VALUE, placeholder="…")


def _loading_words(load: Load) -> str:
    if load.placement is None:
        return f"Loading {load.asked.name}."
    size = size_words(load.placement.total_bytes)
    return f"Loading {load.asked.name} on {load.placement.device} ({size})."
