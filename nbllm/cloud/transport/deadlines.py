"""How long each part of a request may take, and the timer that ends what takes longer."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nbllm.core.types import GenerationOptions

__all__ = ["Deadlines", "SilenceTimer"]


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
