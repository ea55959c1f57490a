"""``GenerationLog``: what was generated, with its times, tokens and price; never with its text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from nbllm.core.forks import ChildSafeLock
from nbllm.core.manager_events import Listeners
from nbllm.core.routing.route import Route
from nbllm.core.runs import Run
from nbllm.core.texts import brief_repr
from nbllm.core.types import FinishReason, GenerationResult, Timings, Usage
from nbllm.core.words import counted

__all__ = ["GenerationLog", "GenerationRecord"]

MAX_RECORDS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRecord:
    """One generation that has ended, however it ended.

    ``started`` is in local time, with its zone. ``error`` is the class of the exception that
    ended it, None where none did. ``token_counts`` are the tokens of equal intervals of
    ``interval_seconds``, the first of which begins with the first token. ``route`` is that of a
    result that has one, whose router was asked; ``model`` is the member. ``from_cache`` is that of
    the result, ``run`` the run over many prompts that it is part of, if any. Neither the prompt nor
    the answer is part of it.
    """

    started: datetime
    model: str
    device: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    tokens_per_second: float | None = None
    error: str | None = None
    interval_seconds: float = 0.25
    token_counts: tuple[int, ...] = field(default=(), repr=False)
    run: Run | None = field(default=None, repr=False)
    route: Route | None = field(default=None, repr=False)
    from_cache: bool = False

    __repr__ = brief_repr

    @classmethod
    def of(
        cls,
        result: GenerationResult,
        *,
        started: datetime,
        device: str,
        error: str | None = None,
        interval_seconds: float = 0.25,
        token_counts: tuple[int, ...] = (),
        run: Run | None = None,
    ) -> GenerationRecord:
        """The record of ``result``; ``device`` stands where the result names none."""
        return cls(
            started=started,
            model=result.model,
            device=result.device or device,
            finish_reason=result.finish_reason,
            from_cache=result.from_cache,
            usage=result.usage,
            timings=result.timings,
            tokens_per_second=result.tokens_per_second,
            error=error,
            interval_seconds=interval_seconds,
            token_counts=token_counts,
            run=run,
            route=result.route,
        )

    @property
    def stopped(self) -> bool:
        """Whether the reader stopped it."""
        return self.finish_reason is FinishReason.CANCELLED


class GenerationLog:
    """The last ``max_records`` generations, the oldest first. It may be used from any thread."""

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        self._records: deque[GenerationRecord] = deque(maxlen=max_records)
        self._listeners: Listeners[GenerationRecord] = Listeners()
        self._lock = ChildSafeLock()

    def append(self, record: GenerationRecord) -> None:
        """Add a record and tell the listeners."""
        with self._lock:
            self._records.append(record)
        self._listeners.tell(record)

    def subscribe(self, listener: Callable[[GenerationRecord], None]) -> Callable[[], None]:
        """Call ``listener`` with every record from now on; returns what ends that.

        It is called in the thread that generated, so it must be quick and must not raise.
        """
        return self._listeners.subscribe(listener)

    def records(self) -> tuple[GenerationRecord, ...]:
        """All of them, as they are now."""
        with self._lock:
            return tuple(self._records)

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._records.clear()

    def __iter__(self) -> Iterator[GenerationRecord]:
        return iter(self.records())

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<GenerationLog of {counted(len(self), 'generation')}>"
