"""``Members``: what a router knows of its members, for all its requests in all threads."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

from nbllm.core.forks import ChildSafeLock, keep_untouched, renew_in_children
from nbllm.core.messages import Message
from nbllm.core.routing.choosing import (
    Chosen,
    Decision,
    MemberState,
    Request,
    choose,
    credits_after,
)
from nbllm.core.routing.health import FailureKind, HealthState
from nbllm.core.routing.router_settings import RouterSettings
from nbllm.core.words import duration_words

__all__ = ["MemberReport", "Members", "answered_key", "conversation_key"]

_MOST_CONVERSATIONS = 10_000
_HASHED_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberReport:
    """How a router's member does at the moment.

    ``seconds_left`` of its cooldown remain, whose ``reason`` is its last failure. ``latency`` is
    its usual time to the first token in seconds, None before the first. ``answers`` and
    ``failures`` count attempts; ``running`` are those under way.
    """

    name: str
    health: HealthState
    seconds_left: float
    reason: str
    running: int
    answers: int
    failures: int
    latency: float | None

    def __str__(self) -> str:
        """Its state in a few words."""
        if self.health == "cooling":
            return f"{self.name} rests for {duration_words(self.seconds_left)} ({self.reason})"
        if self.health == "probing":
            return f"{self.name} on probation ({self.reason})"
        return f"{self.name} {self.running} running" if self.running else f"{self.name} ready"


class Members:
    """The states of the members, of which one is chosen for each request.

    Each choice is to be ended by ``leave``, whatever became of it.
    """

    def __init__(self, settings: RouterSettings, states: Sequence[MemberState]) -> None:
        self._settings = settings
        self._states = {state.name: state for state in states}
        self._answers = dict.fromkeys(self._states, 0)
        self._failures = dict.fromkeys(self._states, 0)
        self._requests = 0
        self._credits: Mapping[str, float] = {}
        self._homes: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._waiting: list[Future[None]] = []
        self._lock = ChildSafeLock()
        renew_in_children(self)

    def renew(self) -> None:
        """Have no requests under way, in a forked child: those are the parent's."""
        keep_untouched(self._waiting)
        self._waiting = []
        for state in self._states.values():
            state.running, state.health = 0, state.health.left()

    def choose(self, asked: Callable[..., Request], conversation: bytes | None) -> Decision:
        """A member for a request, which is counted as under way there from now on.

        ``asked`` makes the request of what is known here: its number, its homes and the credits.
        """
        now = time.monotonic()
        with self._lock:
            self._requests += 1
            homes = self._homes.get(conversation, ()) if conversation else ()
            request = asked(homes=homes, number=self._requests, credits=self._credits)
            states = tuple(self._states.values())
            decision = choose(states, self._settings, request, now)
            if isinstance(decision, Chosen):
                self._credits = credits_after(states, self._settings, decision.name, request, now)
                state = self._states[decision.name]
                state.running, state.health = state.running + 1, state.health.chosen()
                state.asked, state.is_probe = request.number, decision.is_probe
        return decision

    def leave(self, name: str, *, untold: bool) -> None:
        """A request that ``name`` was chosen for has ended there, ``untold`` what of it."""
        with self._lock:
            state = self._states[name]
            state.running -= 1
            if untold:
                state.health = state.health.left()
        self._tell()

    def answered(self, name: str, first_token_seconds: float | None) -> None:
        """It began to answer; after so many seconds, where that tells how fast it is."""
        now = time.monotonic()
        with self._lock:
            state = self._states[name]
            self._answers[name] += 1
            if first_token_seconds is not None:
                state.latency = state.latency.with_sample(
                    first_token_seconds, now=now, alone=state.is_probe
                )
                state.is_probe = False
            state.health = state.health.answered()
        self._tell()

    def failed(
        self, name: str, kind: FailureKind, reason: str, *, began: float, delay: float | None
    ) -> None:
        """It failed on a request that was sent at ``began``; ``delay`` is what it asked for."""
        cooldown = kind.cooldown_seconds
        if cooldown is not None and self._settings.cooldown_seconds is not None:
            cooldown = self._settings.cooldown_seconds
        with self._lock:
            state = self._states[name]
            self._failures[name] += 1
            state.health = state.health.failed(
                reason, now=time.monotonic(), began=began, cooldown=cooldown, delay=delay
            )
        self._tell()

    def learn_context(self, name: str, length: int | None) -> None:
        """What is known of its context length now that it is loaded."""
        with self._lock:
            self._states[name].context_length = length

    def keep_home(self, before: bytes | None, conversation: bytes, name: str) -> None:
        """``name`` has read the conversation, whose next turn goes to it.

        Where another answered what was ``before`` it, that goes there again as soon as it can.
        """
        with self._lock:
            homes = self._homes.get(before, ()) if before else ()
            first = homes[0] if homes else name
            self._homes[conversation] = (first,) if name == first else (first, name)
            self._homes.move_to_end(conversation)
            if len(self._homes) > _MOST_CONVERSATIONS:
                self._homes.popitem(last=False)

    def context_of(self, name: str) -> int | None:
        """Its context length, where that is known."""
        return self._states[name].context_length

    def reports(self) -> tuple[MemberReport, ...]:
        """How all of them do, in their order."""
        now = time.monotonic()
        with self._lock:
            return tuple(self._report(state, now) for state in self._states.values())

    def _report(self, state: MemberState, now: float) -> MemberReport:
        name, health = state.name, state.health
        return MemberReport(
            name=name,
            health=health.state(now),
            seconds_left=max(0.0, health.cooling_until - now),
            reason=health.reason,
            running=state.running,
            answers=self._answers[name],
            failures=self._failures[name],
            latency=state.latency.mean if state.latency.weight else None,
        )

    async def changed(self, seconds: float) -> None:
        """Wait until something of the members has changed, but no longer than ``seconds``."""
        change: Future[None] = Future()
        with self._lock:
            self._waiting.append(change)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(change), seconds)
        finally:
            with self._lock:
                if change in self._waiting:
                    self._waiting.remove(change)

    def _tell(self) -> None:
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for change in waiting:
            if change.set_running_or_notify_cancel():
                change.set_result(None)


def conversation_key(messages: Sequence[Message]) -> bytes | None:
    """A conversation up to its last answer, which is what the next turn has in common with it.

    None where nothing was answered yet. Prompts that have the same examples are so many
    conversations, which are told apart by their first answers.
    """
    end = max((n for n, each in enumerate(messages, 1) if each.role == "assistant"), default=0)
    return _digest((each.role, each.text) for each in messages[:end]) if end else None


def answered_key(messages: Sequence[Message], answer: str) -> bytes:
    """The key of what the next turn has in common with a conversation that was just answered."""
    turns = ((each.role, each.text) for each in messages)
    return _digest(chain(turns, (("assistant", answer),)))


def _digest(turns: Iterable[tuple[str, str]]) -> bytes:
    digest = blake2b(digest_size=16)
    for role, text in turns:
        said = text[: 2 * _HASHED_CHARACTERS].strip()[:_HASHED_CHARACTERS]
        digest.update(f"{role}\0{said}\0".encode(errors="replace"))
    return digest.digest()
