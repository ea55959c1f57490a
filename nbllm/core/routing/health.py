"""What a failure means: whether another member may be asked, and how long this one is left alone.

Health is a value; what changes it gives a new one. Times are seconds of one steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nbllm.core.errors import (
    ApiConnectionError,
    ApiTimeoutError,
    AuthenticationError,
    BudgetError,
    ContextLengthError,
    EngineBusyError,
    EngineCrashedError,
    EngineStalledError,
    InterruptedStreamError,
    ModelClosedError,
    ModelLoadError,
    ModelNotFoundError,
    NbllmError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedError,
)

__all__ = ["FAILURES", "USUAL_FALLBACK", "FailureKind", "Health", "HealthState", "kind_of_failure"]

_LONGEST_SECONDS = 300.0
_MOST_TROUBLE = 10.0
_RELIEF = 0.5

HealthState = Literal["healthy", "cooling", "probing"]


@dataclass(frozen=True, slots=True)
class FailureKind:
    """Errors that mean the same for a router.

    ``cooldown_seconds`` is how long a member is left alone after its first one, where its server
    requests no delay; each further one doubles it. None: it tells nothing of the requests to come.
    """

    word: str
    errors: tuple[type[NbllmError], ...]
    cooldown_seconds: float | None


FAILURES = (
    FailureKind("rate_limit", (RateLimitError,), 5.0),
    FailureKind("overload", (OverloadedError, EngineBusyError), 2.0),
    FailureKind("timeout", (ApiTimeoutError,), 5.0),
    FailureKind("server", (ServerError, ProtocolError), 1.0),
    FailureKind("connection", (ApiConnectionError, InterruptedStreamError), 1.0),
    FailureKind("context_length", (ContextLengthError,), None),
    FailureKind("crash", (EngineCrashedError, EngineStalledError, ModelClosedError), 5.0),
    FailureKind("does_not_fit", (ModelLoadError,), 30.0),
    FailureKind("quota", (QuotaError,), 300.0),
    FailureKind("authentication", (AuthenticationError, PermissionDeniedError), 300.0),
    FailureKind("not_found", (NotFoundError, ModelNotFoundError), 300.0),
    FailureKind("budget", (BudgetError,), None),
    FailureKind("unsupported", (UnsupportedError,), None),
)
"""All kinds that a router's entry can list; no error is of two."""

USUAL_FALLBACK = tuple(kind.word for kind in FAILURES[:8])
"""What another member may well not have. The others are faults of the entries, to be mended."""


def kind_of_failure(error: Exception) -> FailureKind | None:
    """What an error means; None where it is the fault of the request."""
    return next((kind for kind in FAILURES if isinstance(error, kind.errors)), None)


@dataclass(frozen=True, slots=True)
class Health:
    """How a member has done.

    ``trouble`` grows by 1 with each failure and falls by half of that with each answer. From 1 on
    the member is on probation: when its cooldown is over, one request at a time may try it, and
    ``is_probing`` says that one does. So a member that fails every other request is asked ever
    more rarely, and one that failed once is soon trusted again.
    """

    trouble: float = 0.0
    cooling_until: float = 0.0
    failed_at: float = float("-inf")
    is_probing: bool = False
    reason: str = ""

    def state(self, now: float) -> HealthState:
        """Whether it can be asked ("healthy"), or is on probation ("probing"), or left alone."""
        if now < self.cooling_until:
            return "cooling"
        return "probing" if self.trouble >= 1 else "healthy"

    def takes_request(self, now: float) -> bool:
        """Whether a request may be sent to it at this moment."""
        return now >= self.cooling_until and not (self.trouble >= 1 and self.is_probing)

    def chosen(self) -> Health:
        """A request is sent to it."""
        return replace(self, is_probing=True) if self.trouble >= 1 else self

    def left(self) -> Health:
        """The request that was the probe has ended."""
        return replace(self, is_probing=False) if self.is_probing else self

    def answered(self) -> Health:
        """It began to answer."""
        if not self.trouble:
            return self
        trouble = max(0.0, self.trouble - _RELIEF)
        return replace(self, trouble=trouble, is_probing=False)

    def failed(
        self,
        reason: str,
        *,
        now: float,
        began: float,
        cooldown: float | None,
        delay: float | None,
    ) -> Health:
        """It failed on a request that was sent at ``began``.

        ``delay`` is what its server requested, which is obeyed to the second. Requests that were
        under way when an earlier one failed tell nothing new, and are not counted again.
        """
        if cooldown is None:  # it did work, but not for this request
            return self.left()
        is_news = began >= self.failed_at
        trouble = min(_MOST_TROUBLE, self.trouble + 1) if is_news else self.trouble
        seconds = delay or min(_LONGEST_SECONDS, cooldown * 2 ** max(0.0, trouble - 1))
        until = now + seconds if is_news or delay else self.cooling_until
        return Health(
            trouble=trouble,
            cooling_until=max(until, self.cooling_until),
            failed_at=now if is_news else self.failed_at,
            reason=reason,
        )
