"""The decision which member gets a request: a pure function of what is known of them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from nbllm.core.routing.health import Health
from nbllm.core.routing.router_settings import MemberPrice, RouterMember, RouterSettings, Strategy

__all__ = [
    "ORDERED",
    "Chosen",
    "Decision",
    "Latency",
    "MemberState",
    "NoMember",
    "Request",
    "WaitUntil",
    "choose",
    "credits_after",
]

_KEPT = 0.6
_HALF_LIFE_SECONDS = 15.0
_PROBE_AFTER, _PROBE_AFTER_EACH = 12, 4
_ANSWER_TOKENS = 500
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Latency:
    """The seconds to a member's first token: a mean in which older samples count ever less.

    What was measured counts half as much after ``_HALF_LIFE_SECONDS``.
    """

    mean: float = 0.0
    weight: float = 0.0
    at: float = 0.0

    def with_sample(self, seconds: float, *, now: float, alone: bool = False) -> Latency:
        """The mean after another measurement, which stands ``alone`` where it is of a probe."""
        trust = 0.0 if alone else 2.0 ** (min(0.0, self.at - now) / _HALF_LIFE_SECONDS)
        weight = 1.0 + self.weight * _KEPT * trust
        return Latency(self.mean + (seconds - self.mean) / weight, weight, now)


@dataclass(slots=True, kw_only=True)
class MemberState:
    """A member, and what is known of it: ``Members`` alone changes it, under its lock.

    ``running`` are the requests under way, and ``asked`` is the number of the last one that it got.
    ``is_probe`` says that this one is to measure it anew. ``context_length`` and ``price`` are None
    where they are not known.
    """

    member: RouterMember
    running: int = 0
    asked: int = 0
    is_probe: bool = False
    latency: Latency = field(default_factory=Latency)
    health: Health = field(default_factory=Health)
    context_length: int | None = None
    price: MemberPrice | None = None

    @property
    def name(self) -> str:
        """The member's."""
        return self.member.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What matters of a request: ``number`` counts those to the router.

    ``homes`` are the members that have read the conversation: the one that answered its first
    turn, and the one that answered when that could not. ``excluded`` cannot answer it,
    and ``only``, where it is given, is the one that may. ``longer_than`` is a context length that
    was too short. ``running`` are the requests that members have from everybody, ``credits`` what
    they still have to get for their weights, of the requests that they could have got.
    ``prompt_tokens`` is an estimate.
    """

    number: int = 0
    homes: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    only: str | None = None
    longer_than: int | None = None
    prompt_tokens: int = 0
    answer_tokens: int | None = None
    running: Mapping[str, int] = field(default_factory=dict)
    credits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The member ``name`` gets the request; ``why`` is a phrase.

    ``is_probe``: it is asked only to learn whether it is still slow.
    """

    name: str
    why: str
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """No member can be asked now; the first cooldown ends at ``time``.

    Where ``has_probe``, the outcome of another request may change that earlier; ``time`` is
    infinite where it is all that there is to wait for.
    """

    time: float
    has_probe: bool


@dataclass(frozen=True, slots=True)
class NoMember:
    """No member can ever answer this request."""


Decision: TypeAlias = Chosen | WaitUntil | NoMember


def choose(
    states: Sequence[MemberState], settings: RouterSettings, request: Request, now: float
) -> Decision:
    """Which member gets the ``request`` at the time ``now``."""
    able = [state for state in states if _is_able(state, request)]
    if not able:
        return NoMember()
    free = [state for state in able if state.health.takes_request(now)]
    if not free:
        return _wait(able, now)
    if request.homes and settings.sticky and settings.strategy not in ORDERED:
        names = {state.name for state in free}
        for home in request.homes:
            if home in names:
                return Chosen(home, "same conversation")
    if settings.strategy == "lowest-latency":
        due = _due_probe(free, request, members=len(states))
        if due is not None:
            return Chosen(due.name, "to measure it again", is_probe=True)
    score, why = _STRATEGIES[settings.strategy]
    best = min(free, key=lambda state: score(state, request, now))
    is_later = settings.strategy == "in-order" and best is not states[0]
    return Chosen(best.name, "next in order" if is_later else why)


def _due_probe(
    free: Sequence[MemberState], request: Request, *, members: int
) -> MemberState | None:
    """The member that was asked longest ago, where that is so long that it may be quick again.

    Each gets one request of twelve at least, and with many members all such requests together are
    one of four at most.
    """
    wait = max(_PROBE_AFTER, _PROBE_AFTER_EACH * (members - 1))
    due = [s for s in free if s.latency.weight and request.number - s.asked >= wait]
    return min(due, key=lambda state: state.asked, default=None)


def credits_after(
    states: Sequence[MemberState],
    settings: RouterSettings,
    chosen: str,
    request: Request,
    now: float,
) -> Mapping[str, float]:
    """The credits after a choice: those that could have been chosen have their share to get."""
    if settings.strategy in ORDERED:
        return request.credits
    free = [s for s in states if _is_able(s, request) and s.health.takes_request(now)]
    total, had = sum(state.member.weight for state in free), request.credits
    shares = {s.name: had.get(s.name, 0.0) + s.member.weight for s in free}
    return {**had, **shares, chosen: shares[chosen] - total}


def _is_able(state: MemberState, request: Request) -> bool:
    if state.name in request.excluded or request.only not in (None, state.name):
        return False
    too_short, length = request.longer_than, state.context_length
    return too_short is None or length is None or length > too_short


def _wait(able: Sequence[MemberState], now: float) -> WaitUntil:
    ends = [s.health.cooling_until for s in able if s.health.cooling_until > now]
    return WaitUntil(min(ends, default=math.inf), has_probe=len(ends) < len(able))


# ---------------------------------------------------------------- strategies: the least score wins

Score: TypeAlias = tuple[float, ...]


def _in_order(state: MemberState, request: Request, now: float) -> Score:
    return (0.0,)  # of equals, min takes the first


def _by_weight(state: MemberState, request: Request, now: float) -> Score:
    return (-(request.credits.get(state.name, 0.0) + state.member.weight),)


def _running(state: MemberState, request: Request) -> int:
    return max(state.running, request.running.get(state.name, 0))


def _by_load(state: MemberState, request: Request, now: float) -> Score:
    load = _running(state, request) / state.member.weight
    return (load, *_by_weight(state, request, now))


def _by_latency(state: MemberState, request: Request, now: float) -> Score:
    running, latency = _running(state, request), state.latency
    expected = latency.mean * (1 + running)
    if not latency.weight and state.running:  # nobody knows how long its first answer takes
        expected = math.inf
    return (expected, *_by_load(state, request, now))


def _by_cost(state: MemberState, request: Request, now: float) -> Score:
    answer = request.answer_tokens or _ANSWER_TOKENS
    length, price = state.context_length, state.price
    needed = request.prompt_tokens + (request.answer_tokens or 1)
    is_short = length is not None and needed > length
    if price is None:
        return (is_short, math.inf)
    cost = request.prompt_tokens * price.input + answer * price.output
    return (is_short, cost / _MILLION)


_STRATEGIES: Mapping[Strategy, tuple[Callable[[MemberState, Request, float], Score], str]] = {
    "in-order": (_in_order, "first in order"),
    "least-busy": (_by_load, "least busy"),
    "lowest-latency": (_by_latency, "lowest latency"),
    "weighted": (_by_weight, "by weight"),
    "cheapest": (_by_cost, "cheapest that fits"),
}
ORDERED = ("in-order", "cheapest")
"""What prefers the same member for every turn of a conversation, and returns to it."""
