"""What the engine tells the parent of its requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from nbllm.local.ipc.events import Decided, Done, Progress, Step
from nbllm.local.ipc.protocol import Event, Failed
from nbllm.local.scheduling.decisions import Decision
from nbllm.local.scheduling.tasks import Task

__all__ = ["Reports"]

_PROGRESS_SECONDS = 0.2
_FLUSH_SECONDS = 0.1
_MANY = 4  # answers, from which on their readers together would take a noticeable share of a core


class Reports:
    """Makes the events and passes them to ``send``, not more often than a reader can see."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send
        self._flushed = 0.0

    def begins(self) -> None:
        """An answer has its first token, which is shown at once."""
        self._flushed = 0.0

    def flush(self, tasks: Iterable[Task]) -> None:
        """Pass on new text: every 100 ms, of many answers every 200.

        Each message costs every reader a wake-up, and the computing threads their cores meanwhile.
        """
        writing = [task for task in tasks if task.unsent]
        now = time.perf_counter()
        if now - self._flushed < _FLUSH_SECONDS * (1 if len(writing) <= _MANY else 2):
            return
        texts = [task.take_unsent() for task in writing]
        if texts:
            self._flushed = now
            self._send(Step(texts))

    def progress(self, task: Task, processed: int) -> None:
        """Tell how far a prompt is read, five times a second."""
        now = time.perf_counter()
        if now - task.told_progress < _PROGRESS_SECONDS:
            return
        task.told_progress = now
        self._send(Progress(task.id, processed, task.prompt_length, task.cached))

    def done(self, task: Task, reason: str) -> None:
        """Tell that an answer is whole, with all that is known of it."""
        _, text, tokens = task.take_unsent()
        self._send(
            Done(
                task.id,
                text=text,
                tokens=tokens,
                reason="stop" if task.text.stopped is not None else reason,
                stop=task.text.stopped,
                seed=task.sampler.seed,
                prompt_tokens=task.prompt_length,
                cached_tokens=task.cached,
                completion_tokens=task.written,
                accepted_draft_tokens=task.accepted_drafts,
                queue_seconds=task.started - task.arrived,
                prompt_seconds=task.first_token - task.started,
                decode_seconds=task.last_token - task.first_token,
                logprobs=task.sampler.logprobs.records if task.sampler.logprobs else None,
            )
        )

    def decided(self, task: Task, decision: Decision) -> None:
        """Tell how probable each label is."""
        self._send(
            Decided(
                task.id,
                scores=decision.scores.astype(np.float32).tobytes(),
                prompt_tokens=task.prompt_length,
                cached_tokens=task.cached,
                label_tokens=task.written - 1,
                queue_seconds=task.started - task.arrived,
                prompt_seconds=task.first_token - task.started,
                decode_seconds=task.last_token - task.first_token,
            )
        )

    def failed(self, task: Task, problem: str) -> None:
        """Tell that a request cannot be served."""
        self._send(Failed(task.id, problem))
