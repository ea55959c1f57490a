"""What runs in a Dask worker's process, whose one manager loads the models and answers the rows.

All of it is called by its name, so that a worker needs the same version of nbllm. No key travels:
a worker has those of its own environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

from nbllm.core.caching.request_key import model_part
from nbllm.core.errors import BatchError, ConfigError, ModelLoadError, NbllmError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import ModelManager, default_manager
from nbllm.core.results import GenerationResult, Usage
from nbllm.core.types import Completed, GenerationRequest, ModelInfo, RetryScheduled
from nbllm.core.version import __version__

__all__ = ["Answer", "Opened", "Wanted", "answered", "opened", "stopped"]

T = TypeVar("T")

_CLOUD_WIDTH = 8
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The model of a run: its name, and the kernel's ``entry`` for it where there is one.

    A worker's own config entry of this name goes first, then ``entry`` if its file is on the
    worker's machine, then what the worker finds by the name.
    """

    name: str
    entry: ModelInfo | None = None
    run: str
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that a worker has loaded.

    ``identity`` is its part of a request's key. ``width`` is how many requests it takes at a time.
    ``scores_labels`` is as of a ``ModelInterface``; ``prices`` are the most US dollars for a token
    of a prompt and of an answer.
    """

    info: ModelInfo
    identity: Mapping[str, Any]
    width: int
    scores_labels: bool
    prices: tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a row ended on a worker; ``retries`` are those that came before."""

    result: GenerationResult | None = None
    error: NbllmError | None = None
    retries: tuple[RetryScheduled, ...] = ()


def opened(wanted: Wanted) -> Opened | NbllmError:
    """Load a model in this process, or say why it cannot be."""
    _leave_the_pool()
    if wanted.version != __version__:
        return BatchError(
            f"it has nbllm {__version__}, the kernel {wanted.version}; install the same version"
        )
    here = _here()
    try:
        return here.run(wanted.run, here.opened(wanted))
    except NbllmError as error:
        return error


def answered(wanted: Wanted, request: GenerationRequest) -> Answer:
    """Ask the model that ``opened`` has loaded; it is loaded again if it has gone."""
    _leave_the_pool()
    here = _here()
    try:
        return here.run(wanted.run, here.answered(wanted, request))
    except NbllmError as error:
        return Answer(error=error)


def stopped(run: str) -> None:
    """End what is asked for a run, and ask nothing more for it. Returns at once."""
    here = _here()
    here.loop.call_soon_threadsafe(here.stop, run)


def _leave_the_pool() -> None:
    """Waiting for a model takes none of the worker's threads for computing."""
    from distributed import secede

    secede()


@dataclass(slots=True, eq=False)
class _Process:
    """The state of this process, for all Dask workers, runs and tasks in it."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    tasks: dict[str, set[asyncio.Task[Any]]] = field(default_factory=dict)
    models: dict[str, ModelInterface] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    entries: dict[str, ModelInfo] = field(default_factory=dict)

    def run(self, run: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; from any thread. Raises ``BatchError`` where the run ended."""
        try:
            return asyncio.run_coroutine_threadsafe(self._watched(run, work), self.loop).result()
        except CancelledError:
            raise BatchError("the run was stopped") from None

    async def _watched(self, run: str, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        if run in self.ended:  # a task that the scheduler started late
            task.cancel()
        tasks = self.tasks.setdefault(run, set())
        tasks.add(task)
        try:
            return await task
        finally:
            tasks.discard(task)

    def stop(self, run: str) -> None:
        """End a run; on the loop."""
        self.ended.add(run)
        self.models.pop(run, None)
        for task in self.tasks.pop(run, ()):
            task.cancel()

    async def opened(self, wanted: Wanted) -> Opened:
        """See the function of this name."""
        model = await self._model(wanted)
        info = replace(model.info, config_file=None, tuned_from=None, budgets=())
        if wanted.entry is not None:
            info = replace(info, name=wanted.name)  # whatever it is called in this process
        parallel = info.placement.parallel if info.placement else _CLOUD_WIDTH
        identity = await asyncio.to_thread(model_part, info)
        here = replace(info, placement=None)
        return Opened(here, identity, parallel, model.scores_labels, _prices(model))

    async def answered(self, wanted: Wanted, request: GenerationRequest) -> Answer:
        """See the function of this name."""
        model = await self._model(wanted)
        retries: list[RetryScheduled] = []
        try:
            async with aclosing(model.stream_request(replace(request, model=model.info))) as events:
                async for event in events:
                    if isinstance(event, RetryScheduled):
                        retries.append(event)
                    elif isinstance(event, Completed):
                        return Answer(replace(event.result, schema=None), None, tuple(retries))
        except NbllmError as error:
            return Answer(None, error, tuple(retries))
        raise BatchError("a stream ended without a result; this is a bug in nbllm")

    async def _model(self, wanted: Wanted) -> ModelInterface:
        known = self.models.get(wanted.run)
        if known is not None and known.usable:
            return known
        manager = default_manager()
        name = await asyncio.to_thread(self._name, manager, wanted)
        model, _ = await manager.load_model(name)
        self.models[wanted.run] = model
        return model

    def _name(self, manager: ModelManager, wanted: Wanted) -> str:
        """What the model is called in this process's manager."""
        entry = wanted.entry
        own = {info.name for info in manager.list_available_models() if info.source == "config"}
        if entry is None or (entry.name in own and entry.name not in self.entries):
            return wanted.name
        if entry.path is not None and not entry.path.is_file():
            return wanted.name
        if self.entries.setdefault(entry.name, entry) != entry:  # it was changed between two runs
            digest = hashlib.sha256(repr(entry).encode()).hexdigest()[:8]
            entry = replace(entry, name=f"{entry.name}-{digest}")
        try:
            manager.add_models([entry])
        except ConfigError as error:
            raise ModelLoadError(entry.name, str(error)) from None
        return entry.name


def _prices(model: ModelInterface) -> tuple[float | None, float | None]:
    prompt = model.highest_cost(Usage(prompt_tokens=_MILLION, completion_tokens=0))
    answer = model.highest_cost(Usage(prompt_tokens=0, completion_tokens=_MILLION))
    return (
        None if prompt is None else prompt / _MILLION,
        None if answer is None else answer / _MILLION,
    )


_made = threading.Lock()


def _here() -> _Process:
    with _made:  # the cache alone would let two threads make one each
        return _process()


@cache
def _process() -> _Process:
    process = _Process()
    threading.Thread(target=process.loop.run_forever, name="nbllm", daemon=True).start()
    return process
