"""``Activity``: the generations that run now, which can be watched and stopped from anywhere.

It makes the outermost layer of every stream: whoever reads it, that is the one place where
generations are counted, stopped and recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from nbllm.core.errors import NbllmError
from nbllm.core.forks import ChildSafeLock, keep_untouched, renew_in_children
from nbllm.core.generation import Generation
from nbllm.core.history import GenerationLog, GenerationRecord
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.messages import beginning_of
from nbllm.core.runs import Run, current_run
from nbllm.core.types import (
    Completed,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    Timings,
)

__all__ = ["Activity", "Watched"]


class Activity:
    """The generations of the models that report to it; each is recorded in ``history`` at its end.

    It may be used from any thread and any event loop.
    """

    def __init__(self, history: GenerationLog) -> None:
        self._history = history
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
                if generation.tokens:
                    totals[generation.device] += generation.tokens
        return dict(totals)

    def begin(self, generation: Generation) -> None:
        """Count a generation that has begun."""
        with self._lock:
            self._running.append(generation)

    @contextmanager
    def during(
        self, run: Run, model: str, device: str
    ) -> Iterator[Callable[[GenerationResult | NbllmError], None]]:
        """List a run whose answers come without streams; what this gives records each of them."""
        generation, token = Generation(), current_run.set(run)
        generation.begin(model, device, "")
        current_run.reset(token)

        def record(found: GenerationResult | NbllmError) -> None:
            if isinstance(found, GenerationResult):
                result, error = found, None
            else:
                error = type(found).__name__
                result = generation.partial_result(FinishReason.FAILED, error)
            timings = Timings(total_seconds=generation.seconds)
            self._history.append(
                GenerationRecord.of(
                    replace(result, timings=timings),
                    started=generation.started,
                    device=device,
                    error=error,
                    run=run,
                )
            )

        self.begin(generation)
        try:
            yield record
        finally:
            with self._lock:
                self._running.remove(generation)

    def end(
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
                run=generation.run,
            )
        )
        return True


@dataclass(frozen=True, slots=True)
class Watched:
    """The layer of one stream: fills ``generation``, which ``activity`` lists as long as it runs.

    A stream that is stopped by ``Generation.cancel`` ends with its partial result.
    """

    activity: Activity
    generation: Generation
    device: str

    @property
    def place(self) -> Place:
        """Outermost."""
        return Place.ACTIVITY

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """The same events; the record is there when the last one is."""
        generation = self.generation
        generation.begin(request.model.name, self.device, beginning_of(request.messages))
        self.activity.begin(generation)
        try:
            async with aclosing(following(request)) as events:
                if generation.wait_next():
                    async for event in events:
                        generation.take(event)
                        if isinstance(event, Completed):
                            self.activity.end(generation, event.result)
                        yield event
                        if not generation.wait_next():
                            break
        except BaseException as error:
            if not generation.absorbs(error):
                self.activity.end(generation, _failed(generation, error), error)
                raise
        reason = FinishReason.CANCELLED if generation.stop_wanted else FinishReason.FAILED
        result = generation.partial_result(reason, "stopped" if generation.stop_wanted else "")
        if self.activity.end(generation, result) and generation.stop_wanted:
            yield Completed(result)


def _failed(generation: Generation, error: BaseException) -> GenerationResult:
    is_failure = isinstance(error, Exception)
    reason = FinishReason.FAILED if is_failure else FinishReason.CANCELLED
    return generation.partial_result(reason, type(error).__name__)
