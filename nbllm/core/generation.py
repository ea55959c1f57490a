"""``Generation``: one answer while it is generated, for whoever reads, watches or stops it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeAlias

from nbllm.core.errors import InvalidOptionError
from nbllm.core.routing.route import Route
from nbllm.core.runs import Run, current_run
from nbllm.core.types import (
    BudgetWait,
    Event,
    FinishReason,
    GenerationResult,
    PromptProgress,
    ReasoningDelta,
    RetryScheduled,
    RouteChosen,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
)

__all__ = ["FIRST_INTERVAL_SECONDS", "MAX_INTERVALS", "Generation", "NewText", "Phase", "TokenPace"]

Phase: TypeAlias = Literal["waiting", "reading", "retrying", "thinking", "writing"]

FIRST_INTERVAL_SECONDS = 0.25
MAX_INTERVALS = 64


class Generation:
    """What has come of one answer so far: text, tokens, speed, phase.

    ``ModelInterface.stream`` fills one for each stream; give it one of your own to read it
    meanwhile. The thread of the stream's loop writes; any thread may read it, or stop it.

    ``model``, ``device``, ``started`` (local time, with its zone) and ``beginning``, which is that
    of the prompt in one line (see ``prompt_beginnings``), are known once the stream ``has_begun``.
    ``run`` is the run over many prompts that it is part of, if any.
    ``prompt`` tells how far the prompt is read, ``retry`` which attempt was the last that failed,
    ``route`` which member a router asks, ``budget`` which budget it waits for ("": none).
    ``texts`` are the pieces of the answer's text, which only grow; where another member begins the
    answer anew, they are another list.
    ``tokens`` counts what is told while it comes: for models behind HTTP, pieces of text.
    ``wake`` is set once, by the first text, so that it can be shown without delay; what comes later
    waits for the reader's next look, since each wake-up takes time from a model that decodes on
    the same cores.
    """

    def __init__(self, model: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self.model, self.device, self.beginning = model, "", ""
        self.started = datetime.now().astimezone()
        self.phase: Phase = "waiting"
        self.prompt: PromptProgress | None = None
        self.route: Route | None = None
        self.retry: RetryScheduled | None = None
        self.budget = ""
        self.pace = TokenPace()
        self.wake = threading.Event()
        self.stop_wanted = False
        self.run: Run | None = None
        self._clock, self._began = clock, 0.0
        self._first: float | None = None
        self._last = 0.0
        self.texts: list[str] = []
        self._reasoning: list[str] = []
        self._is_counted = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[object] | None = None
        self._cancelling_before: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether its stream is or was under way."""
        return self._loop is not None

    @property
    def text(self) -> str:
        """The text of the answer so far."""
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far."""
        return "".join(self._reasoning)

    @property
    def counted_tokens(self) -> int | None:
        """``tokens``, where every piece came with its count; else None."""
        return self.tokens if self._is_counted else None

    @property
    def tokens(self) -> int:
        """The tokens so far."""
        return self.pace.total

    @property
    def seconds(self) -> float:
        """Since its beginning."""
        return self._clock() - self._began if self.has_begun else 0.0

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
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._interrupt)
        except RuntimeError:  # its loop is closed, and so it has ended
            return

    # ------------------------------------------------------------ for the stream

    def begin(self, model: str, device: str, beginning: str) -> None:
        """The stream begins, in the task and on the loop that call this.

        Raises ``InvalidOptionError`` where another stream has filled it already.
        """
        if self.has_begun:
            problem = "collects another answer already; give each stream a new Generation"
            raise InvalidOptionError("generation", problem)
        self._loop = asyncio.get_running_loop()
        self.run = current_run.get()
        self.model, self.device, self.beginning = model, device, beginning
        self.started, self._began = datetime.now().astimezone(), self._clock()

    def wait_next(self) -> bool:
        """Note who waits for the next event; False where nobody wants it any more."""
        self._reader = asyncio.current_task()
        return not self.stop_wanted

    def take(self, event: Event) -> None:
        """Note what has come, and that nobody waits at the moment."""
        self._reader = None
        match event:
            case TextDelta(text, tokens):
                self.texts.append(text)
                self._count("writing", tokens)
                if len(self.texts) == 1:
                    self.wake.set()
            case ReasoningDelta(text, tokens):
                self._reasoning.append(text)
                self._count("thinking", tokens)
            case ToolCallDelta():
                self._count("writing", None)
            case PromptProgress():
                self.prompt, self.phase = event, "reading"
            case RetryScheduled():
                self.retry, self.phase = event, "retrying"
            case BudgetWait(budget):
                self.budget = budget
            case RouteChosen():
                self._take_route(event)

    def _take_route(self, chosen: RouteChosen) -> None:
        self.route, self.retry, self.phase = chosen.route, None, "waiting"
        self.device = chosen.device or self.device
        if chosen.restarts:
            self.texts, self._reasoning, self._is_counted = [], [], True

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
            text=self.text,
            reasoning=self.reasoning,
            model=self.route.member if self.route else self.model,
            route=self.route,
            device=self.device or None,
            finish_reason=finish_reason,
            raw_finish_reason=raw,
            usage=Usage(
                prompt_tokens=prompt.total if prompt else None,
                cached_tokens=prompt.cached if prompt else 0,
                completion_tokens=self.counted_tokens,
            ),
            timings=Timings(
                first_token_seconds=None if first is None else first - self._began,
                decode_seconds=None if first is None else self._last - first,
                total_seconds=self.seconds,
            ),
        )

    def _count(self, phase: Phase, tokens: int | None) -> None:
        self._last = self._clock()
        if self._first is None:
            self._first = self._last
        self.phase = phase
        self._is_counted = self._is_counted and tokens is not None
        self.pace.add(1 if tokens is None else tokens, self._last - self._first)

    def _interrupt(self) -> None:
        if self._reader is not None and self._cancelling_before is None:
            cancelling = getattr(self._reader, "cancelling", None)
            self._cancelling_before = cancelling() if cancelling else 0
            self._reader.cancel()

    def __repr__(self) -> str:
        return f"<Generation of {self.model} on {self.device}: {self.phase}, {self.tokens} tokens>"


_ANEW = "\n\n---\n\n*{0}; {1} begins anew:*\n\n---\n\n"


class NewText:
    """The text of a ``generation`` as one reader takes it, piece by piece, behind ``begun``.

    Where the answer began anew, a line between two rules says so.
    """

    def __init__(self, generation: Generation, begun: str = "") -> None:
        self._generation, self._texts = generation, generation.texts
        self._taken, self._begun = 0, begun

    def take(self) -> str:
        """The text that came since the last call."""
        if self._texts is not self._generation.texts:
            self._texts, self._taken = self._generation.texts, 0
            route = self._generation.route
            self._begun = _ANEW.format(route.reason, route.member) if route else ""
        new = self._texts[self._taken :]
        self._taken += len(new)
        begun, self._begun = self._begun, ""
        return begun + "".join(new)


class TokenPace:
    """Tokens counted in equal intervals of time, from the first call on.

    Whenever more than ``MAX_INTERVALS`` would be needed the intervals become twice as long, so an
    answer of any length takes the same memory. One thread writes; any may read.
    """

    def __init__(self) -> None:
        self.interval_seconds = FIRST_INTERVAL_SECONDS
        self.total = 0
        self._counts: list[int] = [0]
        self._ends = FIRST_INTERVAL_SECONDS

    @property
    def counts(self) -> tuple[int, ...]:
        """The tokens of each interval."""
        return tuple(self._counts)

    def add(self, tokens: int, seconds: float) -> None:
        """Count ``tokens`` that came ``seconds`` after the beginning; ``seconds`` never fall."""
        self.total += tokens
        if seconds >= self._ends:
            self._open_interval(seconds)
        self._counts[-1] += tokens

    def _open_interval(self, seconds: float) -> None:
        while seconds >= MAX_INTERVALS * self.interval_seconds:
            self.interval_seconds *= 2
            counts = self._counts
            self._counts = [sum(counts[i : i + 2]) for i in range(0, len(counts), 2)]
        number = int(seconds / self.interval_seconds)
        self._counts += [0] * (number + 1 - len(self._counts))
        self._ends = (number + 1) * self.interval_seconds
