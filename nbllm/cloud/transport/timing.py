"""How long a request may take, how long a server wants a client to wait, and how long it took."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from time import monotonic, time
from types import TracebackType
from typing import Any

from nbllm.core.types import GenerationOptions, Timings

__all__ = ["Deadlines", "SilenceTimer", "Stopwatch", "delay_in_words", "retry_delay"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for connecting, for the first token, and for silence after it.

    The first token has as long as the vendors' own libraries give it: a reasoning model thinks
    for minutes without a word. Silence means no byte at all, keep-alive comments included.
    """

    connect: float = 10.0
    first_token: float = 600.0
    stall: float = 120.0

    @classmethod
    def of(cls, options: GenerationOptions) -> Deadlines:
        """Those that ``options`` set, and the usual ones."""
        usual = cls()
        return cls(
            connect=options.connect_timeout or usual.connect,
            first_token=options.first_token_timeout or usual.first_token,
            stall=options.stall_timeout or usual.stall,
        )


class SilenceTimer:
    """Ends a wait inside it with ``TimeoutError`` once it has lasted ``seconds`` in one go.

    It is entered anew for each wait, thousands of times for a stream: that costs a look at the
    clock, where a limit of its own for each (``asyncio.timeout``, ``anyio.fail_after``) costs more
    than all the rest of a chunk. One timer runs meanwhile; ``close`` ends it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._check)
        self._waiting: asyncio.Task[Any] | None = None
        self._since = 0.0
        self._cancelling = 0
        self._expired = False

    def close(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def __enter__(self) -> None:
        self._waiting = task = asyncio.current_task()
        self._since = self._loop.time()
        if sys.version_info >= (3, 11) and task is not None:
            self._cancelling = task.cancelling()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._waiting = self._waiting, None
        if self._expired and task is not None:
            self._expired = False
            others_cancel = sys.version_info >= (3, 11) and task.uncancel() > self._cancelling
            if kind is asyncio.CancelledError and not others_cancel:
                raise TimeoutError

    def _check(self) -> None:
        """Cancel the wait that is too long; else look again when it could be."""
        now = self._loop.time()
        over = self._since + self._seconds
        if self._waiting is None or now < over:
            later = self._seconds if self._waiting is None else over - now
            self._timer = self._loop.call_later(later, self._check)
            return
        self._expired = True
        self._waiting.cancel()


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
