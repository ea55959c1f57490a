"""When a failed request is sent again, and after how long, as the server or a policy says.

Pure but for the clock; whoever sends does the waiting.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from time import monotonic, time

from nbllm.core.errors import ApiError, ModelError, QuotaError
from nbllm.core.types import GenerationOptions, Timings

__all__ = ["Attempts", "RetryPolicy", "Stopwatch", "delay_in_words", "retry_delay"]

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AMOUNT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(ms|s|m|h)", re.IGNORECASE)
_TRY_AGAIN = re.compile(
    r"(?:try again|retry(?: after)?) (?:in |after )?"
    r"((?:\d{1,6}(?:\.\d{1,6})? ?(?:ms|[smh])(?:inutes?|ours?|ec(?:ond)?s?)?[ ,]*){1,4})",
    re.IGNORECASE,
)


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


class Attempts:
    """The attempts of one request, from the moment in which the first begins."""

    def __init__(self, policy: RetryPolicy, options: GenerationOptions) -> None:
        limit = options.max_retry_seconds
        self._policy = policy if limit is None else replace(policy, max_seconds=limit)
        self.watch = Stopwatch()
        self.failed = 0
        """How many have failed."""

    def delay_after(self, failure: ModelError) -> float | None:
        """Seconds to wait after an attempt that failed; None where there is to be no other."""
        self.failed += 1
        chance = random.random()  # noqa: S311 - jitter is no secret
        elapsed = self.watch.seconds
        return self._policy.delay(failure, attempt=self.failed, elapsed=elapsed, chance=chance)


def is_retryable(error: ModelError) -> bool:
    """Whether the same request may succeed later. Anything that was delivered forbids it."""
    retryable = isinstance(error, ApiError) and error.retryable
    return retryable and not isinstance(error, QuotaError) and not error.partial_text


def retry_delay(headers: Mapping[str, str], told_seconds: float | None = None) -> float | None:
    """The seconds that the server wants us to wait, None where it does not say.

    ``retry-after-ms`` is the finest, ``retry-after`` holds seconds or a date, and Gemini tells it
    in the body. A date is compared with the server's own clock where its answer has one.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        delay = _number(headers.get(name))
        if delay is not None:
            return delay * scale
    when, now = _moment(headers.get("retry-after")), _moment(headers.get("date"))
    if when is not None:
        return max(0.0, when - (time() if now is None else now))
    return told_seconds


def delay_in_words(sentence: str) -> float | None:
    """The delay that OpenAI, Groq and Azure tell in a sentence: "try again in 1m2.5s"."""
    found = _TRY_AGAIN.search(sentence)
    if found is None:
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _AMOUNT.findall(found[1]))


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _moment(value: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


class Stopwatch:
    """When a request began, and when its first and last events came; in seconds."""

    def __init__(self) -> None:
        self._begun = monotonic()
        self._first: float | None = None
        self._last = 0.0

    @property
    def seconds(self) -> float:
        """Since the request began."""
        return monotonic() - self._begun

    def tick(self) -> None:
        """Events came."""
        self._last = monotonic()
        if self._first is None:
            self._first = self._last

    def timings(self) -> Timings:
        """For an answer that is whole now."""
        if self._first is None:
            return Timings(total_seconds=self.seconds)
        return Timings(
            first_token_seconds=self._first - self._begun,
            decode_seconds=self._last - self._first,
            total_seconds=self.seconds,
        )
