"""When a failed request is sent again, and after how long. Pure; the transport does the waiting."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.core.errors import ApiError, ModelError, QuotaError

__all__ = ["RetryPolicy"]


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
