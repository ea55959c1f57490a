"""What a ``ModelManager`` tells of: loads, what they wait for, and what was unloaded and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from nbllm.core.forks import ChildSafeLock

__all__ = ["EventKind", "Listener", "Listeners", "ManagerEvent"]

EventKind: TypeAlias = Literal[
    "waiting", "loading", "progress", "loaded", "unloaded", "evicted", "failed"
]
"""A load that waits for memory, has begun, is at ``fraction``, has ended well or has failed; a
model that was unloaded because somebody asked for it or its keep-alive was over, or that was
evicted to make room for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerEvent:
    """Something that happened to the model called ``model``; ``words`` say it to the reader.

    ``fraction`` is how much is loaded, 0 to 1, of "progress". ``seconds`` is how long a load took
    ("loaded") or waited ("failed", where it gave up waiting). ``cause`` is the model that needed
    the memory ("evicted").
    """

    kind: EventKind
    model: str
    words: str
    fraction: float | None = None
    seconds: float | None = None
    cause: str | None = None

    def __str__(self) -> str:
        return self.words


Listener: TypeAlias = Callable[[ManagerEvent], None]
"""Called in whatever thread the event happened in, so it must be quick and must not raise."""


Told = TypeVar("Told")


class Listeners(Generic[Told]):
    """Those who want to be told of each event; any thread may add, remove and tell."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Told], None]] = []
        self._lock = ChildSafeLock()

    def subscribe(self, listener: Callable[[Told], None]) -> Callable[[], None]:
        """Call ``listener`` with every event from now on; returns what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    def tell(self, event: Told) -> None:
        """Call everybody; never under a lock, because a listener may ask back."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(event)
