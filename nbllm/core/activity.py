"""``Activity``: the generations that run now, which can be watched and stopped from anywhere.

Every stream of a model that reports to an ``Activity`` passes through ``Activity.follow``, whoever
reads it. That is the one place where generations are counted, stopped and recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from nbllm.core.forks import ChildSafeLock, keep_untouched, renew_in_children
from nbllm.core.history import GenerationLog, GenerationRecord
from nbllm.core.token_pace import TokenPace
from nbllm.core.types import (
    Completed,
    Event,
    FinishReason,
    GenerationResult,
    PromptProgress,
    ReasoningDelta,
    RetryScheduled,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
)

if TYPE_CHECKING:
    from nbllm.core.model_interface import ModelInterface

__all__ = ["Activity", "Generation", "Phase"]

Phase: TypeAlias = Literal["waiting", "reading", "retrying", "thinking", "writing"]


class Generation:
    """One generation that runs. Its loop's thread writes; any thread may read it, or stop it.

    ``started`` is in local time, with its zone; ``prompt`` tells how far the prompt is read, and
    ``beginning`` is that of its text, in one line (see ``prompt_beginnings``).
    ``tokens`` counts what is told while it comes: for models behind HTTP, pieces of text.
    """

    def __init__(
        self, model: str, device: str, clock: Callable[[], float], beginning: str = ""
    ) -> None:
        self.model, self.device, self.beginning = model, device, beginning
        self.started = datetime.now().astimezone()
        self.phase: Phase = "waiting"
        self.prompt: PromptProgress | None = None
        self.pace = TokenPace()
        self._clock, self._began = clock, clock()
        self._first: float | None = None
        self._last = 0.0
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Task[object] | None = None
        self._cancelling_before: int | None = None
        self.stop_wanted = False

    @property
    def tokens(self) -> int:
        """The tokens so far."""
        return self.pace.total

    @property
    def seconds(self) -> float:
        """Since its beginning."""
        return self._clock() - self._began

    @property
    def tokens_per_second(self) -> float | None:
        """The speed since the first token; None before there are two."""
        if self._first is None or self.tokens < 2 or self._last <= self._first:
            return None
        return (self.tokens - 1) / (self._last - self._first)

    def cancel(self) -> None:
        """Stop it, from any thread. Its reader gets the text so far, as an answer that was stopped.

        Stopping twice, or after its end, is harmless.
        """
        self.stop_wanted = True
        try:
            self._loop.call_soon_threadsafe(self._interrupt)
        except RuntimeError:  # its loop is closed, and so it has ended
            return

    # ------------------------------------------------------------ for follow()

    def wait_next(self) -> bool:
        """Note who waits for the next event; False where nobody wants it any more."""
        self._reader = asyncio.current_task()
        return not self.stop_wanted

    def take(self, event: Event) -> None:
        """Note what has come, and that nobody waits at the moment."""
        self._reader = None
        match event:
            case TextDelta(text, tokens):
                self._texts.append(text)
                self._count("writing", 1 if tokens is None else tokens)
            case ReasoningDelta(text):
                self._reasoning.append(text)
                self._count("thinking", 1)
            case ToolCallDelta():
                self._count("writing", 1)
            case PromptProgress():
                self.prompt, self.phase = event, "reading"
            case RetryScheduled():
                self.phase = "retrying"

    def absorbs(self, error: BaseException) -> bool:
        """Whether ``error`` is the cancellation by which ``cancel`` stopped it, and no other."""
        before = self._cancelling_before
        if before is None or not isinstance(error, asyncio.CancelledError):
            return False
        # Python 3.10 does not count cancellations.
        uncancel = getattr(asyncio.current_task(), "uncancel", None)
        return uncancel is None or uncancel() <= before

    def partial_result(self, finish_reason: FinishReason, raw: str) -> GenerationResult:
        """What has come so far, as an answer that ended early."""
        first, prompt = self._first, self.prompt
        return GenerationResult(
            text="".join(self._texts),
            reasoning="".join(self._reasoning),
            model=self.model,
            device=self.device,
            finish_reason=finish_reason,
            raw_finish_reason=raw,
            usage=Usage(
                prompt_tokens=prompt.total if prompt else None,
                cached_tokens=prompt.cached if prompt else 0,
                completion_tokens=self.tokens,
            ),
            timings=Timings(
                first_token_seconds=None if first is None else first - self._began,
                decode_seconds=None if first is None else self._last - first,
                total_seconds=self.seconds,
            ),
        )

    def _count(self, phase: Phase, tokens: int) -> None:
        self._last = self._clock()
        if self._first is None:
            self._first = self._last
        self.phase = phase
        self.pace.add(tokens, self._last - self._first)

    def _interrupt(self) -> None:
        if self._reader is not None and self._cancelling_before is None:
            cancelling = getattr(self._reader, "cancelling", None)
            self._cancelling_before = cancelling() if cancelling else 0
            self._reader.cancel()

    def __repr__(self) -> str:
        return f"<Generation of {self.model} on {self.device}: {self.phase}, {self.tokens} tokens>"


class Activity:
    """The generations of the models that report to it; each is recorded in ``history`` at its end.

    It may be used from any thread and any event loop.
    """

    def __init__(
        self, history: GenerationLog, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._history, self._clock = history, clock
        self._running: list[Generation] = []
        self._finished: Counter[str] = Counter()
        self._lock = ChildSafeLock()
        renew_in_children(self)

    def renew(self) -> None:
        """Have no generation that runs, in a forked child: those are the parent's."""
        keep_untouched(self._running)
        self._running = []

    def running(self, model: str | None = None) -> list[Generation]:
        """Those that run now, the oldest first; of one model where that is named."""
        with self._lock:
            return [each for each in self._running if model in (None, each.model)]

    def tokens_by_device(self) -> dict[str, int]:
        """All tokens that were ever written, by device; what runs now is part of it."""
        with self._lock:
            totals = Counter(self._finished)
            for generation in self._running:
                totals[generation.device] += generation.tokens
        return dict(totals)

    async def follow(
        self, model: ModelInterface, events: AsyncGenerator[Event, None], beginning: str = ""
    ) -> AsyncGenerator[Event, None]:
        """``events``, watched. One that is stopped by ``cancel`` ends with its partial result.

        ``beginning`` is that of the prompt, for those who watch.
        """
        generation = self._begin(model, beginning)
        try:
            async with aclosing(events):
                generation.wait_next()
                async for event in events:
                    generation.take(event)
                    if isinstance(event, Completed):
                        self._end(generation, event.result)
                    yield event
                    if not generation.wait_next():
                        break
        except BaseException as error:
            if not generation.absorbs(error):
                self._end(generation, _failed(generation, error), error)
                raise
        reason = FinishReason.CANCELLED if generation.stop_wanted else FinishReason.FAILED
        result = generation.partial_result(reason, "stopped" if generation.stop_wanted else "")
        if self._end(generation, result) and generation.stop_wanted:
            yield Completed(result)

    def _begin(self, model: ModelInterface, beginning: str) -> Generation:
        generation = Generation(model.name, model.device, self._clock, beginning)
        with self._lock:
            self._running.append(generation)
        return generation

    def _end(
        self, generation: Generation, result: GenerationResult, error: BaseException | None = None
    ) -> bool:
        """Record it; False where that was done already."""
        with self._lock:
            if generation not in self._running:
                return False
            self._running.remove(generation)
            self._finished[generation.device] += generation.tokens
        is_failure = isinstance(error, Exception)
        self._history.append(
            GenerationRecord.of(
                result,
                started=generation.started,
                device=generation.device,
                error=type(error).__name__ if is_failure else None,
                interval_seconds=generation.pace.interval_seconds,
                token_counts=generation.pace.counts,
            )
        )
        return True


def _failed(generation: Generation, error: BaseException) -> GenerationResult:
    is_failure = isinstance(error, Exception)
    reason = FinishReason.FAILED if is_failure else FinishReason.CANCELLED
    return generation.partial_result(reason, type(error).__name__)
