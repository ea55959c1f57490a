"""Speculative decoding: a smaller model with the same vocabulary drafts the next tokens.

Drafts are checked as those of ``prompt_lookup.py`` are, so answers stay what they are
(https://arxiv.org/abs/2211.17192; tokens are accepted where they are what the model's own sampler
chose). How often they are accepted is learnt by how sure the small model was, and how long it takes
is measured; from both follows how far it drafts ahead, if at all.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nbllm.local.llama.native import NativeModel
from nbllm.local.scheduling.prefixes import shared_length
from nbllm.local.scheduling.prompt_lookup import best_length
from nbllm.local.scheduling.tasks import Task

__all__ = ["Draft", "DraftRequest", "ModelDrafter"]

_CONFIDENCES = (0.3, 0.5, 0.7, 0.85, 0.95)
_FIRST_RATES = (0.2, 0.4, 0.6, 0.75, 0.88, 0.97)  # of guesses that come true, by confidence
_FIRST_MEAN = 0.7
_FIRST_SHARE = 0.1  # of the model's own step, until a step of the small one is measured
_WEIGHT = 0.05  # of the newest comparison
_TIME_WEIGHT = 0.2  # of the newest step
_PROBING_SHARE = 0.02  # of the time, to learn whether guessing would pay again
_READ_AHEAD = 128  # tokens that the small model may have to read before an answer has a word
_READ_PER_WORD = 32  # and further ones for each token of the answer, which then was no short one

Seconds = Callable[[int], float | None]


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """An answer that could do with ``most`` guesses, and the number of its slot."""

    task: Task
    slot: int
    most: int


@dataclass(slots=True)
class Draft:
    """Guesses for one answer, and the rate at which such guesses come true, for each."""

    request: DraftRequest
    tokens: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    chance: float = 1.0
    row: int = 0


class ModelDrafter:
    """The guesses of ``model`` for all answers of an engine; it has a sequence for each slot."""

    def __init__(self, model: NativeModel) -> None:
        self._model = model
        self._held: list[list[int]] = [[] for _ in range(model.settings.parallel)]
        self._compared: dict[int, Draft] = {}
        self._rates = list(_FIRST_RATES)
        self._mean = _FIRST_MEAN
        self._seconds: float | None = None
        self._allowance = 0.0
        self._works = True

    def set_threads(self, threads: int, batch_threads: int) -> None:
        """Compute with as many threads as the model does."""
        self._model.set_threads(threads, batch_threads)

    # ------------------------------------------------------------ guessing

    def guess(
        self, requests: Sequence[DraftRequest], *, rows: int, seconds: Seconds
    ) -> list[Draft]:
        """Guesses for some of the ``requests``, as many as are expected to pay; maybe none.

        ``rows`` are in the step anyway, and ``seconds`` tells the time of a step by its rows.
        """
        self._compared.clear()
        requests = [request for request in requests if request.most > 0 and self._may_read(request)]
        alone = seconds(rows)
        if not requests or not alone or not self._works:
            return []
        length = self._length(requests, rows, alone, seconds)
        probes = length == 0
        if probes:
            self._allowance += _PROBING_SHARE * alone
            if self._allowance < 0:
                return []
        began = time.perf_counter()
        drafts = self._write(requests, max(1, length), self._least(requests, length, rows, seconds))
        self._compared = {draft.request.slot: draft for draft in drafts}
        if probes:
            self._allowance -= time.perf_counter() - began
        return [] if probes else drafts

    def compare(self, slot: int, written: Sequence[int]) -> None:
        """Learn from what was written where the last guesses for a slot stood."""
        draft = self._compared.pop(slot, None)
        if draft is None:
            return
        for kind, guessed, token in zip(draft.kinds, draft.tokens, written, strict=False):
            right = guessed == token
            self._rates[kind] += _WEIGHT * (right - self._rates[kind])
            self._mean += _WEIGHT * (right - self._mean)
            if not right:
                break

    def _may_read(self, request: DraftRequest) -> bool:
        """Whether what the small model has to read first is little, for so long an answer."""
        tokens = request.task.tokens
        unread = len(tokens) - shared_length(self._held[request.slot], tokens)
        return unread <= _READ_AHEAD + _READ_PER_WORD * request.task.written

    def _length(
        self, requests: Sequence[DraftRequest], rows: int, alone: float, seconds: Seconds
    ) -> int:
        """How far to write ahead, by what came true so far and what it takes."""
        each = (self._seconds or _FIRST_SHARE * alone) / len(requests)

        def with_drafting(count: int) -> float | None:
            time = seconds(count)
            return None if time is None else time + (count - rows) * each

        most = max(request.most for request in requests)
        return best_length(
            [self._mean] * most, rows=rows, seconds=with_drafting, answers=len(requests)
        )

    def _least(
        self, requests: Sequence[DraftRequest], length: int, rows: int, seconds: Seconds
    ) -> float:
        """The chance to come true that a further guess must have to be worth its time."""
        alone, checked = seconds(rows), seconds(rows + len(requests) * length)
        if not length or not alone or checked is None:
            return 0.0
        taken = (self._seconds or 0.0) / len(requests) + (checked - alone) / (
            len(requests) * length
        )
        return taken * rows / alone

    # ------------------------------------------------------------ the small model

    def _write(self, requests: Sequence[DraftRequest], length: int, least: float) -> list[Draft]:
        """Up to ``length`` tokens for each request whose text is read, while they may be right."""
        batch = self._model.batch
        batch.clear()
        for request in requests:  # all before the first is read, which has its cells only then
            self._align(request)
        drafts = [draft for request in requests if (draft := self._read(request)) is not None]
        if not batch.size or not self._decode(few=batch.size <= 2 * len(drafts)):
            return []
        going = drafts
        for written in range(1, length + 1):
            for draft in going:
                self._add_likeliest(draft)
            going = [
                draft
                for draft in going
                if len(draft.tokens) < draft.request.most and draft.chance * self._mean >= least
            ]
            if written == length or not going:
                break
            batch.clear()
            for draft in going:
                held = self._held[draft.request.slot]
                draft.row = batch.add(draft.tokens[-1:], len(held), draft.request.slot, logits=1)
                held.append(draft.tokens[-1])
            if not self._decode(few=True):
                return []
        return drafts

    def _read(self, request: DraftRequest) -> Draft | None:
        """Put what a sequence lacks of its text into the batch; None where that is not all."""
        batch, held, tokens = self._model.batch, self._held[request.slot], request.task.tokens
        piece = tokens[len(held) : len(held) + batch.capacity - batch.size]
        if not piece:
            return None
        is_all = len(held) + len(piece) == len(tokens)
        row = batch.add(piece, len(held), request.slot, logits=int(is_all))
        held += piece
        return Draft(request, row=row) if is_all else None

    def _align(self, request: DraftRequest) -> None:
        """Keep the beginning that a sequence has in common with its text, or copy a longer one."""
        held, tokens = self._held[request.slot], request.task.tokens[:-1]
        shared = shared_length(held, tokens)
        source = max(range(len(self._held)), key=lambda at: shared_length(self._held[at], tokens))
        longest = shared_length(self._held[source], tokens)
        if longest > shared and self._model.can_copy_prefix:
            self._model.cells.forget(request.slot, 0)
            self._model.cells.copy_prefix(source, request.slot, longest)
            held[:] = tokens[:longest]
        elif self._model.cells.forget(request.slot, shared):
            del held[shared:]
        else:
            self._model.cells.forget(request.slot, 0)
            held.clear()

    def _add_likeliest(self, draft: Draft) -> None:
        logits = self._model.logits(draft.row)
        token = int(logits.argmax())
        confidence = 1 / float(np.exp(logits - logits[token]).sum())
        kind = bisect_right(_CONFIDENCES, confidence)
        draft.tokens.append(token)
        draft.kinds.append(kind)
        draft.rates.append(self._rates[kind])
        draft.chance *= self._rates[kind]

    def _decode(self, *, few: bool) -> bool:
        """Process the batch, which has ``few`` tokens where its time is that of a guess.

        Where that fails all is forgotten, for good if it is a fault.
        """
        began = time.perf_counter()
        outcome = self._model.decode()
        if outcome:
            self._works = outcome > 0
            self._model.cells.clear()
            for held in self._held:
                held.clear()
        elif few:
            seconds = time.perf_counter() - began
            before = seconds if self._seconds is None else self._seconds
            self._seconds = before + _TIME_WEIGHT * (seconds - before)
        return outcome == 0
