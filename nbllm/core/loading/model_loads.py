"""A model that is loaded, one on its way there, and what is told when one leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Literal, TypeAlias

from nbllm.core.errors import ModelLoadError
from nbllm.core.hardware.resources import Resources
from nbllm.core.loading.eviction import EvictionCandidate
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import LoadControl
from nbllm.core.placement import Placement
from nbllm.core.routing.members import MemberReport
from nbllm.core.texts import brief_repr
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.core.words import duration_words, size_words

__all__ = [
    "Load",
    "Loaded",
    "ModelState",
    "ModelStatus",
    "Progress",
    "evicted",
    "expired",
    "reloading",
    "status_of_load",
    "status_of_loaded",
    "unloaded",
]

Progress: TypeAlias = Callable[[float], None]
"""Takes the loaded fraction, 0 to 1, from any thread."""

_SHORTEST_RELOAD_SECONDS = 0.1  # what loads faster differs by chance

ModelState: TypeAlias = Literal["waiting", "loading", "loaded", "crashed"]


@dataclass(slots=True, eq=False)
class Loaded:
    """A loaded model with what was asked for, and the tick at which it was asked for last.

    ``memory`` is what it was predicted to take, in bytes by device. ``closed`` is done when it
    was taken out and its engine has ended.
    """

    asked: ModelInfo
    model: ModelInterface
    memory: Mapping[str, int]
    load_seconds: float
    used: int = 0
    closed: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # Who waits for it and is cancelled does not cancel it for the others.
        self.closed.set_running_or_notify_cancel()

    def shown_bytes(self) -> dict[str, int]:
        """How much of its memory the system counts as taken now, by device; asks the system."""
        used = self.model.used_memory_bytes() if "CPU" in self.memory else None
        if used is None:
            return dict(self.memory)
        return {**self.memory, "CPU": min(used, self.memory["CPU"])}

    @property
    def total_bytes(self) -> int:
        """Its memory, on all devices."""
        return sum(self.memory.values())

    def expires(self) -> float | None:
        """When its keep-alive is over, by ``time.monotonic``; None: never, or not while busy."""
        keep_alive, uses = self.asked.load.keep_alive, self.model.uses
        if keep_alive is None or uses.in_use:
            return None
        return max(uses.grace_until, uses.last_used + keep_alive)

    def as_candidate(self, now: float, *, pinned: bool) -> EvictionCandidate:
        """How eviction sees it."""
        return EvictionCandidate(
            name=self.asked.name,
            memory=self.memory,
            idle_seconds=max(0.0, now - self.model.uses.last_used),
            reload_seconds=max(self.load_seconds, _SHORTEST_RELOAD_SECONDS),
            busy=self.model.uses.busy,
            pinned=pinned,
        )


@dataclass(slots=True, eq=False)
class Load:
    """A load under way. ``waiting`` counts those who wait for it; at 0 it is given up.

    ``wish`` is the place that it waits for, and ``claim`` what is kept for it meanwhile, in bytes
    by device; None before it was looked at. ``placement`` is the one that it was given, whose
    ``memory`` is reserved from then on. ``looked_at`` is when somebody saw last whether it fits,
    and ``resources`` what the machine had then.
    """

    asked: ModelInfo
    number: int
    wait_seconds: float = 0.0
    waiting: int = 0
    listeners: list[Progress] = field(default_factory=list)
    future: Future[ModelInterface] = field(default_factory=Future)
    report: Progress = lambda fraction: None
    control: LoadControl = field(init=False)
    claim: Mapping[str, int] | None = None
    wish: Placement | None = None
    placement: Placement | None = None
    memory: Mapping[str, int] | None = None
    words: str = ""
    looked_at: float = 0.0
    resources: Resources | None = None
    blocked_since: float | None = None
    fraction: float = 0.0

    def __post_init__(self) -> None:
        self.control = LoadControl(progress=self._report)
        self.future.set_running_or_notify_cancel()

    def _report(self, fraction: float) -> None:
        self.fraction = fraction
        for listener in (*self.listeners, self.report):
            listener(fraction)

    def as_candidate(self, *, pinned: bool) -> EvictionCandidate:
        """How eviction sees it while its memory is reserved."""
        memory = self.memory or {}
        return EvictionCandidate(
            name=self.asked.name, memory=memory, pinned=pinned, becoming="loaded"
        )

    @property
    def given_up(self) -> bool:
        """Whether nobody wants it any more."""
        return self.control.cancelled.is_set()

    def check_wanted(self) -> None:
        """Raises ``ModelLoadError`` once the load was given up."""
        if self.given_up:
            raise ModelLoadError(
                self.asked.name, "the load was cancelled; load the model again to use it"
            )

    def blocked_seconds(self, *, blocked: bool) -> float:
        """For how long busy models have been in its way without a break."""
        now = time.monotonic()
        self.blocked_since = (self.blocked_since or now) if blocked else None
        return now - self.blocked_since if self.blocked_since is not None else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A model that is loaded or on its way, at one moment.

    ``info`` is what was asked for, and once it is loaded what is known of it; its ``placement``
    has the memory that it takes or waits for. ``state`` is "waiting" (for
    memory), "loading", "loaded" or "crashed". ``requests`` counts those under way; ``keep_alive``
    is for how many seconds it stays without one, None: for ever while memory is not needed.
    ``idle_seconds`` is the time since the last one, ``load_seconds`` how long the load took.
    ``fraction`` is how much is loaded, 0 to 1. ``used`` grows with every model that is asked for,
    so the greatest is that of the model that answers where none is named. ``members`` are those
    of a router.
    """

    info: ModelInfo
    state: ModelState
    pinned: bool = False
    keep_alive: float | None = None
    requests: int = 0
    idle_seconds: float | None = None
    load_seconds: float | None = None
    fraction: float = 1.0
    used: int = 0
    members: tuple[MemberReport, ...] = ()

    __repr__ = brief_repr


def status_of_loaded(entry: Loaded, *, pinned: bool) -> ModelStatus:
    """The status of a model that was loaded."""
    uses = entry.model.uses
    return ModelStatus(
        info=entry.model.info,
        state="loaded" if entry.model.usable else "crashed",
        pinned=pinned,
        keep_alive=entry.asked.load.keep_alive,
        requests=uses.count,
        idle_seconds=max(0.0, time.monotonic() - uses.last_used),
        load_seconds=entry.load_seconds,
        used=entry.used,
        members=entry.model.members,
    )


def status_of_load(load: Load, *, pinned: bool) -> ModelStatus:
    """The status of a model that is being loaded."""
    info = replace(load.asked, placement=load.placement or load.wish)
    state: ModelState = "waiting" if load.memory is None and load.words else "loading"
    return ModelStatus(
        info=info,
        state=state,
        pinned=pinned,
        keep_alive=info.load.keep_alive,
        fraction=load.fraction,
    )


def unloaded(entry: Loaded) -> ManagerEvent:
    """That a model was unloaded because somebody asked for it."""
    name = entry.asked.name
    return ManagerEvent(kind="unloaded", model=name, words=f"Unloaded {name}{_size(entry)}.")


def reloading(entry: Loaded, wish: LoadOptions) -> ManagerEvent:
    """That it was unloaded to be loaded again, with the options of the ``wish``."""
    name = entry.asked.name
    options = ", ".join(f"{option}={value}" for option, value in wish.set_values().items())
    words = f"{name} was idle and is loaded again, with {shorten(options, 200, placeholder=' …')}."
    return ManagerEvent(kind="unloaded", model=name, words=words, cause=name)


def evicted(entry: Loaded, cause: str, idle_seconds: float) -> ManagerEvent:
    """That it was unloaded to make room for the model ``cause``."""
    name, idle = entry.asked.name, f"idle for {duration_words(idle_seconds)}"
    held = f"{size_words(entry.total_bytes)}, {idle}"
    words = f"Unloaded {name} ({held}) to make room for {cause}."
    return ManagerEvent(kind="evicted", model=name, words=words, cause=cause)


def expired(entry: Loaded, idle: str) -> ManagerEvent:
    """That it was unloaded because nobody had used it for as long as ``idle`` says."""
    name = entry.asked.name
    words = f"Unloaded {name}{_size(entry)}: idle for {idle}, so its keep-alive expired."
    return ManagerEvent(kind="unloaded", model=name, words=words)


def _size(entry: Loaded) -> str:
    return f" ({size_words(entry.total_bytes)})" if entry.total_bytes else ""
