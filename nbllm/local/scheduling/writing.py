"""What a decoded row brings: the tokens of its answer, and what the parent is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from nbllm.local.ipc.events import Decided, Done, Progress, Step
from nbllm.local.ipc.protocol import Event, Failed
from nbllm.local.llama.native import NativeModel
from nbllm.local.scheduling.label_decisions import Decision
from nbllm.local.scheduling.steps import Row
from nbllm.local.scheduling.tasks import Task

__all__ = ["Reports", "Writer"]

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


class Writer:
    """Chooses the tokens of answers and makes text of them; knows when an answer ends."""

    def __init__(self, model: NativeModel, reports: Reports) -> None:
        self._model, self._reports = model, reports

    def write(self, row: Row, index: int) -> tuple[list[int], str | None]:
        """Choose the next token, and further ones as long as the guesses were right."""
        task, written = row.task, list[int]()
        while True:
            token = task.sampler.choose(index + len(written))
            written.append(token)
            reason = self._append(task, token)
            right = len(written) < len(row.tokens) and row.tokens[len(written)] == token
            if reason or not right:
                return written, reason

    def _append(self, task: Task, token: int) -> str | None:
        """Add a token to an answer; why the answer ends with it, None where it goes on."""
        task.tokens.append(token)
        task.written += 1
        task.last_token = time.perf_counter()
        if not task.first_token:
            task.first_token = task.last_token
            self._reports.begins()
        stops = token in task.sampler.stop_tokens
        piece = None if stops else self._model.vocabulary.piece(token)
        if piece is None:
            return "stop"
        task.unsent += task.text.feed(piece)
        if task.text.stopped is not None:
            return "stop"
        if task.repetition is not None and task.repetition.add(token, piece):
            return "repetition"
        full = len(task.tokens) >= self._model.context_length and not task.shifts
        return "length" if full or task.written >= task.max_tokens else None
