"""How long a server wants a client to wait before the next attempt, and how long it took."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from time import monotonic, time

from nbllm.core.types import Timings

__all__ = ["Stopwatch", "delay_in_words", "retry_delay"]

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AMOUNT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(ms|s|m|h)", re.IGNORECASE)
_TRY_AGAIN = re.compile(
    r"(?:try again|retry(?: after)?) (?:in |after )?"
    r"((?:\d{1,6}(?:\.\d{1,6})? ?(?:ms|[smh])(?:inutes?|ours?|ec(?:ond)?s?)?[ ,]*){1,4})",
    re.IGNORECASE,
)


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
