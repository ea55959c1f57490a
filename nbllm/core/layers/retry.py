"""The layer that sends a failed request again, and the pure policy that says when."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from dataclasses import dataclass, replace

from nbllm.core.errors import ApiError, ModelError, QuotaError
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.types import (
    BudgetWait,
    Completed,
    Event,
    GenerationRequest,
    RetryScheduled,
    Timings,
)

__all__ = ["Attempts", "Retry", "RetryPolicy", "delayed", "is_retryable"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter, in which the server's own delay has the last word.

    No attempt begins later than ``max_seconds`` after the request began, so this bounds what a
    person waits for nothing; ``max_attempts`` counts the first attempt too. Times are seconds.
    """

    max_seconds: float = 60.0
    max_attempts: int = 5
    first_delay: float = 0.5
    longest_delay: float = 8.0

    def delay(
        self, error: ModelError, *, attempt: int, elapsed: float, chance: float
    ) -> float | None:
        """Seconds to wait before the next attempt, or None where there is to be none.

        ``attempt`` is the number of the one that failed, from 1, ``elapsed`` the seconds since
        the request began, ``chance`` a random number from [0, 1). A server's delay is exceeded
        by up to a tenth, never undercut, so that many clients do not come back all at once.
        """
        if not is_retryable(error) or attempt >= self.max_attempts:
            return None
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        if asked:  # a delay of 0 is none: a busy server is not asked again in the same moment
            delay = asked + min(1.0, 0.1 * asked) * chance
        else:
            delay = min(self.first_delay * 2 ** (attempt - 1), self.longest_delay)
            delay *= 0.5 + 0.5 * chance
        return delay if elapsed + delay <= self.max_seconds else None


def is_retryable(error: ModelError) -> bool:
    """Whether the same request may succeed later. Anything that was delivered forbids it."""
    retryable = isinstance(error, ApiError) and error.retryable
    return retryable and not isinstance(error, QuotaError) and not error.partial_text


class Attempts:
    """The attempts of one request, from the moment in which the first begins.

    ``limit_seconds`` stands for the policy's ``max_seconds`` where it is given.
    """

    def __init__(self, policy: RetryPolicy, limit_seconds: float | None) -> None:
        self._policy = (
            policy if limit_seconds is None else replace(policy, max_seconds=limit_seconds)
        )
        self._began = time.monotonic()
        self.failed = 0
        """How many have failed."""

    @property
    def seconds(self) -> float:
        """Since the first one began."""
        return time.monotonic() - self._began

    def delay_after(self, failure: ModelError) -> float | None:
        """Seconds to wait after an attempt that failed; None where there is to be no other."""
        self.failed += 1
        chance = random.random()  # noqa: S311 - jitter is no secret
        return self._policy.delay(failure, attempt=self.failed, elapsed=self.seconds, chance=chance)


@dataclass(frozen=True, slots=True)
class Retry:
    """Sends a request again when it failed before any event of it had arrived.

    ``RetryScheduled`` tells of each wait. ``max_retry_seconds`` of the request bounds them.
    """

    policy: RetryPolicy

    @property
    def place(self) -> Place:
        """Around each attempt."""
        return Place.RETRY

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """The events of the attempt that succeeds; raises the last failure."""
        attempts = Attempts(self.policy, request.options.max_retry_seconds)
        while True:
            earlier = attempts.seconds
            delivered, failure = False, None
            try:
                async with aclosing(following(request)) as events:
                    async for event in events:
                        delivered = delivered or not isinstance(event, BudgetWait)
                        yield _counted_from(earlier, event) if attempts.failed else event
            except ModelError as error:
                failure = error
            if failure is None:
                return
            delay = None if delivered else attempts.delay_after(failure)
            if delay is None:
                raise failure  # here, so that it does not have itself as its context
            yield RetryScheduled(attempts.failed, delay, str(failure))
            await asyncio.sleep(delay)


def _counted_from(earlier: float, event: Event) -> Event:
    """The times of a result, with the ``earlier`` seconds that failed attempts and waits took."""
    if not isinstance(event, Completed):
        return event
    timings = delayed(event.result.timings, earlier)
    return Completed(replace(event.result, timings=timings))


def delayed(timings: Timings, earlier: float) -> Timings:
    """The times of a request that was answered after ``earlier`` seconds were spent on it."""
    first, total = timings.first_token_seconds, timings.total_seconds
    return replace(
        timings,
        first_token_seconds=None if first is None else first + earlier,
        total_seconds=None if total is None else total + earlier,
    )
