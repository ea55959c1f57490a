"""``Trip``: one request to a router, on its way through the members; it decides when to end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from nbllm.core.errors import ModelError, RouterError
from nbllm.core.layers.retry import RetryPolicy, delayed, is_retryable
from nbllm.core.routing.choosing import ORDERED, WaitUntil
from nbllm.core.routing.health import FailureKind, kind_of_failure
from nbllm.core.routing.members import MemberReport, conversation_key
from nbllm.core.routing.route import Route, RouteTry, failure_words
from nbllm.core.routing.router_settings import RouterSettings
from nbllm.core.types import GenerationRequest, GenerationResult, RouteChosen
from nbllm.core.words import duration_words

__all__ = ["Attempt", "Trip"]

_USUAL_SECONDS = RetryPolicy().max_seconds


@dataclass(slots=True)
class Attempt:
    """One request to one member, sent at ``began``."""

    began: float
    is_asked: bool = False
    has_begun: bool = False
    seconds: float = 0.0

    def mark_asked(self) -> None:
        """The member itself works on it: no kept answer was found."""
        self.is_asked = True

    def begin(self) -> None:
        """Its first piece has come."""
        self.has_begun, self.seconds = True, time.monotonic() - self.began


@dataclass(slots=True)
class Trip:
    """One request to a router, on its way through the members."""

    router: str
    settings: RouterSettings
    request: GenerationRequest
    began: float = field(default_factory=time.monotonic)
    tries: list[RouteTry] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    only: str | None = None
    longer_than: int | None = None
    waited: float = 0.0
    waits_until: float = 0.0
    is_sticky: bool = False
    conversation: bytes | None = None
    broke_off: str = ""
    has_pieces: bool = False
    is_answered: bool = False
    last: Exception | None = None
    why: str = ""

    def __post_init__(self) -> None:
        self.is_sticky = self.settings.sticky and self.settings.strategy not in ORDERED
        if self.is_sticky:
            self.conversation = conversation_key(self.request.messages)

    @property
    def seconds_left(self) -> float:
        """Until no attempt may begin any more."""
        return max(0.0, self.began + self._limit - time.monotonic())

    @property
    def _limit(self) -> float:
        limit = self.request.options.max_retry_seconds
        return _USUAL_SECONDS if limit is None else limit

    @property
    def text(self) -> str:
        """What has come of the answer."""
        return "".join(self.texts)

    @property
    def last_words(self) -> str:
        """Why it is not answered yet."""
        if not self.tries:
            return f"{self.router}: all members are cooling down"
        last = self.tries[-1]
        return f"{last.member}: {failure_words(last.failure)}"

    def chosen(self, name: str, why: str, device: str) -> RouteChosen:
        """A member is asked."""
        self.why, restarts = why, self.has_pieces
        self.has_pieces = False
        self.texts.clear()
        return RouteChosen(self._route(RouteTry(member=name, why=why)), device, restarts=restarts)

    def _route(self, last: RouteTry) -> Route:
        return Route(
            router=self.router,
            strategy=self.settings.strategy,
            member=last.member,
            tries=(*self.tries, last),
            waited_seconds=self.waited,
            restarted=bool(self.broke_off),
        )

    def failed(
        self, name: str, attempt: Attempt, kind: FailureKind | None, failure: Exception
    ) -> None:
        """A member failed."""
        self.last = failure
        seconds = time.monotonic() - attempt.began
        word = kind.word if kind else type(failure).__name__
        tried = RouteTry(
            member=name, why=self.why, seconds=seconds, failure=word, problem=str(failure)
        )
        self.tries.append(tried)

    def check(self, name: str, attempt: Attempt, failure: Exception, length: int | None) -> None:
        """Raise the failure where no other attempt may follow it, and prepare that one else."""
        kind = kind_of_failure(failure)
        falls_back = kind is not None and kind.word in self.settings.fallback
        is_again = isinstance(failure, ModelError) and is_retryable(failure)
        if attempt.has_begun and not (self.settings.restart and falls_back):
            raise failure
        if not (falls_back or is_again):
            raise failure
        if len(self.tries) >= self.settings.max_attempts:
            when = f"in {len(self.tries)} attempts (max_attempts)"
            raise self._spent(when) from failure
        self.broke_off = name if attempt.has_begun else self.broke_off
        if not falls_back:
            self.only = name
        if kind is not None and kind.cooldown_seconds is None:
            self.excluded.add(name)
            if kind.word == "context_length":
                told = getattr(failure, "context_length", None)
                self.longer_than = max(filter(None, (self.longer_than, told, length)), default=None)

    def wait_seconds(self, wait: WaitUntil, reports: Sequence[MemberReport]) -> float:
        """How long to wait for a member. Raises ``RouterError`` where that is too long."""
        left, needed = self.seconds_left, wait.time - time.monotonic()
        if left <= 0 or not (needed <= left or wait.has_probe):
            when = f"within {duration_words(self._limit)} (max_retry_seconds)"
            raise self._spent(when, reports, needed) from self.last
        return max(0.0, min(needed, left))

    def is_news(self, wait: WaitUntil) -> bool:
        """Whether the end of a wait is known, and was not told yet."""
        is_news = math.isfinite(wait.time) and wait.time != self.waits_until
        self.waits_until = wait.time
        return is_news

    def give_up(self) -> NoReturn:
        """No member is left that could answer: raise why."""
        if self.last is not None:
            raise self.last
        raise RouterError(self.router, "it has no member for this request", reasons={})

    def _spent(
        self, when: str, reports: Sequence[MemberReport] = (), needed: float = math.inf
    ) -> RouterError:
        """That no more can be tried, with what is known of each member."""
        reasons = {
            each.member: each.problem.removeprefix(f"{each.member}: ") for each in self.tries
        }
        for each in reports:
            reason = reasons.get(each.name, each.reason)
            if each.seconds_left:
                reason += f" (it is left alone for {duration_words(each.seconds_left)})"
            if reason:
                reasons[each.name] = reason
        return RouterError(
            self.router,
            f"no member could answer {when}:",
            reasons=reasons,
            retry_after_seconds=max(0.0, needed) if math.isfinite(needed) else None,
        )

    def completed(self, name: str, attempt: Attempt, result: GenerationResult) -> GenerationResult:
        """The result with how it came about."""
        self.is_answered = True
        answered = RouteTry(member=name, why=self.why, seconds=attempt.seconds)
        route = self._route(answered)
        notes = result.notes
        if self.broke_off:
            notes = (*notes, f"{self.broke_off} broke off, so {name} began anew")
        timings = delayed(result.timings, attempt.began - self.began)
        return replace(result, route=route, notes=notes, timings=timings)
