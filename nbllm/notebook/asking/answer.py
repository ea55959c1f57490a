"""An answer as far as it has come: written by the loop's thread, read by the cell's."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from nbllm.core.errors import NbllmError
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

__all__ = ["Answer"]

SHORT_PROMPT = 128
"""So many tokens to be read are read before anybody could read a note about it."""


class Answer:
    """Collects the events of one stream.

    ``wake`` is set once, when the first text is there, so that it is shown without delay; what
    comes later waits for the reader's next look. Every wake-up takes time from a model that
    decodes on the same cores. ``begun`` is the beginning of an answer that is continued.
    """

    def __init__(
        self, model: str, begun: str = "", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.wake = threading.Event()
        self.has_begun = False
        self._model, self._clock = model, clock
        self._began = clock()
        self._device: str | None = None
        self._first_token_seconds: float | None = None
        self._last_token_seconds = 0.0
        self._texts = [begun] if begun else []
        self._is_new = True
        self._reasoning: list[str] = []
        self._taken = 0
        self._tokens = 0
        self._prompt: PromptProgress | None = None
        self._retry: RetryScheduled | None = None

    async def follow(
        self,
        events: AsyncGenerator[Event, None],
        model: str | None = None,
        device: str | None = None,
    ) -> GenerationResult:
        """Collect the ``events`` of ``model``, which runs on ``device``, to their end.

        The result is that of the last one.
        """
        self._model, self._device = model or self._model, device
        self._began, self.has_begun = self._clock(), True
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Completed):
                    return event.result
                self._take(event)
        raise NbllmError(f"{self._model}: the stream ended without a result")

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta(text, tokens):
                self._texts.append(text)
                self._tokens += tokens or 0
                self._note_token()
                if self._is_new:
                    self._is_new = False
                    self.wake.set()
            case ReasoningDelta(text):
                self._reasoning.append(text)
                self._note_token()
            case PromptProgress():
                self._prompt = event
            case RetryScheduled():
                self._retry = event
            case ToolCallDelta() | Completed():
                self._note_token()

    def _note_token(self) -> None:
        self._last_token_seconds = self._clock() - self._began
        if self._first_token_seconds is None:
            self._first_token_seconds = self._last_token_seconds

    def take_new_text(self) -> str:
        """The text that came since the last call."""
        new = self._texts[self._taken :]
        self._taken += len(new)
        return "".join(new)

    @property
    def tokens(self) -> int:
        """The tokens of the text so far; 0 where they are not told."""
        return self._tokens

    @property
    def text(self) -> str:
        """All the text so far."""
        return "".join(self._texts)

    @property
    def activity(self) -> str:
        """What the model does as long as it has written no text, in words; "" where unknown."""
        if self._reasoning:
            return f"thinking: {sum(map(len, self._reasoning)):,} characters so far"
        if self._retry is not None:
            retry = self._retry
            return f"trying again in {retry.delay_seconds:.0f} s: {retry.reason}"
        if self._prompt is not None and self._prompt.total - self._prompt.cached > SHORT_PROMPT:
            done, total = self._prompt.processed, self._prompt.total
            return f"prefill: {done:,} of {total:,} tokens ({done / total:.0%})"
        return ""

    def partial_result(self, finish_reason: FinishReason, raw: str) -> GenerationResult:
        """The answer that ended early, with what is known of it."""
        first = self._first_token_seconds
        return GenerationResult(
            text=self.text,
            model=self._model,
            device=self._device,
            finish_reason=finish_reason,
            raw_finish_reason=raw,
            reasoning="".join(self._reasoning),
            usage=Usage(
                prompt_tokens=self._prompt.total if self._prompt else None,
                cached_tokens=self._prompt.cached if self._prompt else 0,
                completion_tokens=self._tokens or None,
            ),
            timings=Timings(
                first_token_seconds=first,
                decode_seconds=None if first is None else self._last_token_seconds - first,
                total_seconds=self._clock() - self._began,
            ),
        )
