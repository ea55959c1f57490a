"""``MemoryQueue``: loads wait here for their memory, in order, and idle models make room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from nbllm.core.errors import ModelLoadError
from nbllm.core.forks import ChildSafeLock, keep_untouched, renew_in_children
from nbllm.core.hardware.rpc_addresses import server_addresses
from nbllm.core.loading.admission import (
    Admit,
    Evict,
    Refuse,
    Verdict,
    Wait,
    decide,
    device_bytes,
    take_servers,
    with_free,
)
from nbllm.core.loading.model_loads import Load, evicted
from nbllm.core.loading.model_registry import ModelRegistry
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.openers import Planner
from nbllm.core.placement import Placement
from nbllm.core.words import duration_words

__all__ = ["MemoryQueue"]

LOOK_AGAIN_SECONDS = 1.0
"""So often a waiting load looks whether other processes have given memory back."""

_SETTLING_POLL_SECONDS = 0.05


class MemoryQueue:
    """Gives loads their memory, first come, first served; each blocks a thread of its own.

    One load at a time is decided on, so that no two see the same free memory. A load passes
    those before it only where it takes nothing that they wait for. ``plan`` says what a model
    takes, ``tell`` takes what happens.
    """

    def __init__(
        self, registry: ModelRegistry, plan: Planner, tell: Callable[[ManagerEvent], None]
    ) -> None:
        self._registry, self._plan, self._tell = registry, plan, tell
        self._waiting: list[Load] = []
        self._admitted: list[Load] = []
        self._deciding = ChildSafeLock()
        renew_in_children(self)

    def renew(self) -> None:
        """Have no load that waits, in a forked child: those are the parent's."""
        keep_untouched(self._waiting, self._admitted)
        self._waiting, self._admitted = [], []

    def admit(self, load: Load) -> None:
        """Wait until the load has its memory, and reserve it; models are evicted where need be.

        Raises ``ModelLoadError`` where it was given up, where nothing can make it fit, and where
        busy models were in its way for ``load.wait_seconds``.
        """
        changed = self._registry.changed
        with changed:
            self._waiting = sorted([*self._waiting, load], key=lambda each: each.number)
        try:
            while True:
                with changed:
                    version = self._registry.version
                load.check_wanted()
                pause = self._step(load)
                if load.memory is not None:
                    return
                with changed:
                    changed.wait_for(
                        lambda: load.given_up or self._registry.version != version,  # noqa: B023
                        pause,
                    )
        finally:
            with changed:
                self._waiting.remove(load)
                self._registry.wake()

    def _step(self, load: Load) -> float:
        """Reserve the load's memory, or do what there is to do about it.

        How many seconds to wait for a change before the next step. Raises as ``admit`` does.
        """
        with self._deciding:
            verdict = self._verdict(load)
            if isinstance(verdict, Admit):
                self._reserve(load, verdict)
                return 0.0
        if verdict is None:
            return _SETTLING_POLL_SECONDS
        if isinstance(verdict, Refuse):
            raise verdict.error
        if isinstance(verdict, Evict):
            self._evict(load, verdict)
            return 0.0
        return self._wait(load, verdict)

    def _verdict(self, load: Load) -> Verdict | None:
        """What to do with the load now; None while memory that was given back does not show."""
        # First who has what, then what is free: a load that ends in between counts twice, and
        # not never.
        with self._registry.changed:
            load.looked_at = time.monotonic()
            self._admitted = [each for each in self._admitted if each.memory is not None]
            present = self._registry.view(self._admitted)
            ahead = self._waiting[: self._waiting.index(load)]
            unknown = [each.asked.name for each in ahead if each.claim is None]
            claims = {each.asked.name: each.claim for each in ahead if each.claim is not None}
        if unknown:
            return Wait(None, f"{load.asked.name} is waiting for its turn after {unknown[-1]}.", {})
        taken = take_servers(load.asked.name, server_addresses(load.asked.load), present)
        if taken is not None:
            return taken
        hidden = self._registry.hidden_bytes(self._admitted)
        resources = self._registry.survey()
        load.resources = with_free(resources, {device: -size for device, size in hidden.items()})
        verdict = decide(
            load.asked.name,
            lambda machine: self._plan(load.asked, machine),
            load.resources,
            present,
            claims,
        )
        is_final = isinstance(verdict, Admit) or self._registry.has_settled(resources)
        return verdict if is_final else None

    def _reserve(self, load: Load, verdict: Admit) -> None:
        with self._registry.changed:
            load.placement = verdict.placement
            load.memory = device_bytes(verdict.placement)
            self._admitted.append(load)
            self._registry.settled()

    def _evict(self, load: Load, verdict: Evict) -> None:
        """Unload the victims where they are idle still; blocks until their engines have ended."""
        self._claim(load, verdict.placement, device_bytes(verdict.placement))
        name = load.asked.name
        idle = {victim.name: victim.idle_seconds for victim in verdict.victims}
        reason = f"it was unloaded to make room for {name}; load it again to use it"
        entries = self._registry.take_idle(list(idle), reason)
        if entries is not None:
            close = self._registry.close(
                entries, lambda entry: evicted(entry, name, idle[entry.asked.name])
            )
            asyncio.run(close)

    def _wait(self, load: Load, verdict: Wait) -> float:
        """Note what it waits for; how long until something may have changed unseen."""
        name, busy = load.asked.name, verdict.busy
        blocked = load.blocked_seconds(blocked=bool(busy))
        left = load.wait_seconds - blocked if busy else LOOK_AGAIN_SECONDS
        if left <= 0:
            users = f"{' and '.join(busy)} {'is' if len(busy) == 1 else 'are'} busy"
            problem = f"not enough memory while {users}" if verdict.placement else verdict.words
            raise ModelLoadError(
                name,
                f"{problem.removesuffix('.')}; it waited {duration_words(blocked)}. "
                "Load it again later, or unload one of them.",
            )
        self._claim(load, verdict.placement, verdict.claim)
        if load.words != verdict.words:
            load.words = verdict.words
            self._tell(ManagerEvent(kind="waiting", model=name, words=verdict.words))
        grace_end = self._registry.next_grace_end(load.looked_at)
        return min(left, LOOK_AGAIN_SECONDS, LOOK_AGAIN_SECONDS if grace_end is None else grace_end)

    def _claim(self, load: Load, wish: Placement | None, claim: Mapping[str, int]) -> None:
        """Let those behind know what is kept for it."""
        with self._registry.changed:
            load.wish = wish
            if load.claim != claim:
                load.claim = claim
                self._registry.wake()
