"""``ModelRegistry``: the models in memory, those on their way there, and how they leave it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

from nbllm.core.forks import keep_untouched, renew_in_children
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import kind_of
from nbllm.core.layers.uses import retire_idle
from nbllm.core.loading.admission import device_bytes, free_bytes
from nbllm.core.loading.eviction import Alarm, EvictionCandidate, memory_of_all
from nbllm.core.loading.model_loads import (
    Load,
    Loaded,
    ModelStatus,
    expired,
    status_of_load,
    status_of_loaded,
)
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.model_interface import ModelInterface
from nbllm.core.words import duration_words

__all__ = ["ModelRegistry", "Survey"]

Survey: TypeAlias = Callable[[], Resources]
"""Finds out what this process may use now; may take a while."""

SETTLE_SECONDS = 2.0
"""So long the system is given to show memory that a process has given back."""

_SHOWN_SHARE = 0.9  # predictions are not exact, and other processes do not stand still


class ModelRegistry:
    """What is in memory and what is about to be, for any thread.

    ``loaded``, ``loading`` and ``pinned`` are by name; they are read and written under
    ``changed``, and ``wake`` tells those who wait on it. ``survey`` finds out what the system
    says is free, ``tell`` takes what happens.
    """

    def __init__(self, survey: Survey, tell: Callable[[ManagerEvent], None]) -> None:
        self.survey, self._tell = survey, tell
        self._ticks = itertools.count()
        self._begin()
        renew_in_children(self)

    def _begin(self) -> None:
        self.loaded: dict[str, Loaded] = {}
        self.loading: dict[str, Load] = {}
        self.pinned: set[str] = set()
        self.changed = threading.Condition(threading.Lock())
        self.version = 0
        self._closing: list[Loaded] = []
        self._expected_free: dict[str, int] = {}
        self._settles_until = 0.0
        self._alarm = Alarm(self._unload_expired, "nbllm-keep-alive")

    def renew(self) -> None:
        """Have nothing in memory, in a forked child: what there is belongs to the parent."""
        keep_untouched(self.loaded, self.loading, self._closing, self._alarm)
        self._begin()

    def wake(self) -> None:
        """Have those who wait look again; called under ``changed``."""
        self.version += 1
        self.changed.notify_all()

    # ------------------------------------------------------------ coming

    def keep(self, load: Load, model: ModelInterface, seconds: float) -> bool:
        """Make a loaded model of a load; False, and nothing done, where nobody wants it."""
        # The engine may have corrected the placement; without one its report is all there is.
        size = model.info.memory_bytes or 0
        reported = {model.device: size} if kind_of(load.asked).takes_memory else {}
        memory = device_bytes(model.info.placement or load.placement) or reported
        with self.changed:
            if load.given_up:
                return False
            entry = Loaded(load.asked, model, memory, seconds)
            self.loaded[load.asked.name] = entry
            model.uses.when_idle(self._on_idle)
            self.touch(entry, times=load.waiting)
            self._drop(load)
        return True

    def drop(self, load: Load) -> None:
        """Take a load off the list, and free what was reserved for it."""
        with self.changed:
            self._drop(load)

    def _drop(self, load: Load) -> None:
        if self.loading.get(load.asked.name) is load:
            del self.loading[load.asked.name]
        load.memory = None
        self.wake()

    def give_up(self, load: Load) -> None:
        """Have a load end without a model; called under ``changed``."""
        load.control.cancelled.set()
        self.wake()

    def touch(self, entry: Loaded, times: int = 1) -> None:
        """Somebody asked for it, or several did, to use it at once; called under ``changed``."""
        entry.used = next(self._ticks)
        entry.model.uses.grace(times)
        self._set_alarm()

    # ------------------------------------------------------------ what there is

    def statuses(self) -> list[ModelStatus]:
        """The loaded models, then those on their way."""
        with self.changed:
            pinned, loads = self.pinned, self.loading.items()
            return [
                *(status_of_loaded(e, pinned=n in pinned) for n, e in self.loaded.items()),
                *(status_of_load(load, pinned=n in pinned) for n, load in loads),
            ]

    def view(self, reserved: Iterable[Load]) -> list[EvictionCandidate]:
        """What holds memory, or has it ``reserved``; called under ``changed``."""
        now = time.monotonic()
        usable = {name: entry for name, entry in self.loaded.items() if entry.model.usable}
        return [
            *(e.as_candidate(now, pinned=name in self.pinned) for name, e in usable.items()),
            *(load.as_candidate(pinned=load.asked.name in self.pinned) for load in reserved),
            *(
                EvictionCandidate(name=entry.asked.name, memory=entry.memory, becoming="unloaded")
                for entry in self._closing
            ),
        ]

    def hidden_bytes(self, reserved: Iterable[Load]) -> dict[str, int]:
        """What is going to be taken and the system does not show yet, by device.

        Loads that have just begun take nothing yet, and loaded models not all: see
        ``ModelInterface.used_memory_bytes``.
        """
        with self.changed:
            loaded = [entry for entry in self.loaded.values() if entry.model.usable]
            taken = [load.memory or {} for load in reserved]
        shown = memory_of_all(entry.shown_bytes() for entry in loaded)
        whole = memory_of_all([*taken, *(entry.memory for entry in loaded)])
        return {device: size - shown.get(device, 0) for device, size in whole.items()}

    def has_settled(self, resources: Resources) -> bool:
        """Whether the system shows the memory that was given back last, or has had its time."""
        free = free_bytes(resources)
        with self.changed:
            if time.monotonic() >= self._settles_until:
                return True
            return all(free.get(name, size) >= size for name, size in self._expected_free.items())

    def settled(self) -> None:
        """What was given back has shown, or is taken again; called under ``changed``."""
        self._settles_until = 0.0

    def next_grace_end(self, looked_at: float) -> float | None:
        """In how many seconds the first of the models counts as idle that, when somebody looked,
        were busy only because they had been handed out.
        """
        with self.changed:
            ends = [entry.model.uses.grace_until for entry in self.loaded.values()]
        now = time.monotonic()
        return min((max(0.0, end - now) for end in ends if end > looked_at), default=None)

    # ------------------------------------------------------------ leaving

    def grace_seconds(self, name: str) -> float:
        """For how long a model still counts as busy because it was handed out just now."""
        with self.changed:
            entry = self.loaded.get(name)
            return max(0.0, entry.model.uses.grace_until - time.monotonic()) if entry else 0.0

    def take_idle(self, names: Sequence[str], reason: str) -> list[Loaded] | None:
        """Take out all of these models, or none where one is busy, pinned or gone meanwhile.

        Requests that come too late raise ``ModelClosedError`` with the ``reason``.
        """
        with self.changed:
            found = [self.loaded[name] for name in names if name in self.loaded]
            if len(found) < len(names) or self.pinned.intersection(names):
                return None
            if not retire_idle([entry.model.uses for entry in found], reason):
                return None
            self._take(found)
            return found

    def take_unusable(self, name: str) -> list[Loaded]:
        """Take out the model of this name where it does not run any more."""
        with self.changed:
            found = [e for n, e in self.loaded.items() if n == name and not e.model.usable]
            self._take(found)
            return found

    def take(self, name: str | None = None) -> tuple[list[Load], list[Loaded], list[Loaded]]:
        """Take out a model, or all, busy and pinned ones too; the pins are gone.

        What was on its way there and is given up, what was loaded, and what was being closed
        already.
        """
        with self.changed:
            loads = [load for n, load in self.loading.items() if name in (None, n)]
            for load in loads:
                self.give_up(load)
            closing = [entry for entry in self._closing if name in (None, entry.asked.name)]
            found = [entry for n, entry in self.loaded.items() if name in (None, n)]
            self._take(found)
            self.pinned = set() if name is None else self.pinned - {name}
            return loads, found, closing

    def _take(self, entries: list[Loaded]) -> None:
        for entry in entries:
            del self.loaded[entry.asked.name]
        self._closing += entries
        self._set_alarm()

    async def close(
        self, entries: Sequence[Loaded], event_of: Callable[[Loaded], ManagerEvent]
    ) -> None:
        """Close what was taken out, and tell of it. When this returns, the engines have ended.

        Raises what closing raises, after all were closed. Where this is cancelled, the engines
        end all the same, a little later.
        """
        try:
            if any(entry.memory for entry in entries):
                await asyncio.to_thread(self._expect, entries)
            results = await asyncio.gather(*map(self._close, entries), return_exceptions=True)
        finally:
            for entry in entries:
                if not entry.closed.done():  # its turn did not come
                    threading.Thread(target=asyncio.run, args=(self._close(entry),)).start()
        for entry in entries:
            self._tell(event_of(entry))
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _close(self, entry: Loaded) -> None:
        try:
            await entry.model.aclose()
        finally:
            with self.changed:
                self._closing.remove(entry)
                self._settles_until = time.monotonic() + SETTLE_SECONDS
                self.wake()
            entry.closed.set_result(None)

    def _expect(self, entries: Sequence[Loaded]) -> None:
        """Note what is going to be free once these have ended; see ``has_settled``."""
        free = free_bytes(self.survey())
        more = memory_of_all(entry.shown_bytes() for entry in entries)
        with self.changed:
            self._expected_free = {
                device: free[device] + round(_SHOWN_SHARE * size)
                for device, size in more.items()
                if device in free
            }

    # ------------------------------------------------------------ keep-alive

    def _on_idle(self) -> None:
        with self.changed:
            self.wake()
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Called under ``changed``."""
        idle = [entry for name, entry in self.loaded.items() if name not in self.pinned]
        ends = [end for entry in idle if (end := entry.expires()) is not None]
        self._alarm.set(min(ends, default=None))

    def set_pinned(self, name: str, *, pinned: bool) -> bool:
        """Pin or unpin what is loaded or loading under this name; whether there is such a model."""
        with self.changed:
            if name not in self.loaded and name not in self.loading:
                return False
            self.pinned = self.pinned | {name} if pinned else self.pinned - {name}
            self.wake()
            self._set_alarm()
            return True

    def _unload_expired(self) -> None:
        """Unload what its keep-alive has ended for; runs in the alarm's thread."""
        now = time.monotonic()
        with self.changed:
            due = [
                (name, entry.model.uses.last_used)
                for name, entry in self.loaded.items()
                if (end := entry.expires()) is not None and end <= now
            ]
        for name, last_used in due:
            idle = duration_words(now - last_used)
            entries = self.take_idle(
                [name], f"it was unloaded after {idle} idle; load it again to use it"
            )
            if entries:
                asyncio.run(self.close(entries, partial(expired, idle=idle)))
        with self.changed:
            self._set_alarm()
