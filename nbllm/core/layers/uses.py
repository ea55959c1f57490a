"""``Uses``: the requests that a model works on, and the one moment at which it takes no more.

``CountedUse`` is the layer that counts streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager

from nbllm.core.errors import ModelClosedError
from nbllm.core.forks import ChildSafeLock
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.types import GenerationRequest

__all__ = ["GRACE_SECONDS", "CountedUse", "Uses", "retire_idle"]

GRACE_SECONDS = 0.5
"""So long a model that was requested and not used yet counts as busy: whoever loaded it must
find it there, even where another load waits for just its memory."""

# One lock for all models: several can only be found idle and closed at one moment under one lock.
# It is held for as long as a counter takes.
_LOCK = ChildSafeLock()


class Uses:
    """Counts the requests of a model, as the context manager that each of them runs in.

    It may be entered from any thread, any number of times at once. Entering raises
    ``ModelClosedError`` once the model was retired.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._count = self._leases = 0
        self._last = time.monotonic()
        self._expected, self._grace_until = 0, 0.0
        self._reason: str | None = None
        self._on_idle: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        self._enter(count=1)

    def __exit__(self, *_: object) -> None:
        self._leave(count=1)

    def _enter(self, *, count: int = 0, leases: int = 0) -> None:
        with _LOCK:
            if self._reason is not None:
                raise ModelClosedError(self._model, self._reason)
            self._count += count
            self._leases += leases
            self._expected = max(0, self._expected - count)

    def _leave(self, *, count: int = 0, leases: int = 0) -> None:
        with _LOCK:
            self._count -= count
            self._leases -= leases
            self._last = time.monotonic()
            is_idle = not self.in_use
        if is_idle:
            self._on_idle()

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep it loaded between requests, without counting as one."""
        self._enter(leases=1)
        try:
            yield
        finally:
            self._leave(leases=1)

    def when_idle(self, call: Callable[[], None]) -> None:
        """From now on call ``call`` whenever the last request ends, in the thread of its end."""
        self._on_idle = call

    def grace(self, times: int = 1) -> None:
        """Count it as busy for ``GRACE_SECONDS``; so many callers are about to use it."""
        with _LOCK:
            self._last = time.monotonic()
            if self._last >= self._grace_until:
                self._expected = 0
            self._expected += times
            self._grace_until = self._last + GRACE_SECONDS

    @property
    def count(self) -> int:
        """The requests under way."""
        return self._count

    @property
    def in_use(self) -> bool:
        """Whether requests are under way, or somebody leases it."""
        return self._count + self._leases > 0

    @property
    def busy(self) -> bool:
        """Whether it is in use, or is expected to be because its grace period runs."""
        with _LOCK:
            return self._is_busy(time.monotonic())

    @property
    def last_used(self) -> float:
        """When the last request ended or the last grace period began; by ``time.monotonic``."""
        return self._last

    @property
    def grace_until(self) -> float:
        """When the grace period ends, by ``time.monotonic``; 0 where no first use is expected."""
        return self._grace_until if self._expected else 0.0

    def _is_busy(self, now: float) -> bool:
        return self.in_use or now < self.grace_until

    def _retire(self, reason: str) -> None:
        self._reason = reason


def retire_idle(models: Iterable[Uses], reason: str) -> bool:
    """Close all of the models to requests, or none of them where one is busy; whether they are.

    ``reason`` is what a request says that comes too late.
    """
    chosen = list(models)
    with _LOCK:
        now = time.monotonic()
        if any(uses._is_busy(now) for uses in chosen):  # noqa: SLF001 - of this module
            return False
        for uses in chosen:
            uses._retire(reason)  # noqa: SLF001
    return True


class CountedUse:
    """Counts every stream among the ``uses`` of its model, from its first event to its end."""

    place = Place.USES

    def __init__(self, uses: Uses) -> None:
        self._uses = uses

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """Raises ``ModelClosedError`` where the model takes no more requests."""
        with self._uses:
            async with aclosing(following(request)) as events:
                async for event in events:
                    yield event
