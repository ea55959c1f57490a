"""Adding the tokens that a decoded row brings to its answer."""

from __future__ import annotations

import time

from nbllm.local.llama.native import NativeModel
from nbllm.local.scheduling.reports import Reports
from nbllm.local.scheduling.steps import Row
from nbllm.local.scheduling.tasks import Task

__all__ = ["Writer"]


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
