"""What goes into a step: answers that are written, guesses to check, and pieces of prompts.

Answers come first. Beside them prompts are read in pieces, so that the answers' steps stay on
average within 2.8 times the length that they had before; short prompts that came along with the
answers are read at once. While anybody asks interactively, background requests live on what that
leaves.

A context computes with one set of LoRA adapters at a time, so the requests of each set take turns.
A change costs milliseconds, about half a step of a small model, and so a turn lasts several steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nbllm.local.llama.token_batch import TokenBatch
from nbllm.local.scheduling.model_drafter import DraftRequest, ModelDrafter
from nbllm.local.scheduling.prompt_lookup import best_length
from nbllm.local.scheduling.step_times import StepTimes
from nbllm.local.scheduling.tasks import Slot, Task

__all__ = ["AdapterTurns", "Limits", "Row", "fill"]

_MOST_GUESSED_ROWS = 63
_BURST_SECONDS = 0.5
_BURST_TOKENS = 512
_SHORT_TOKENS = 64
_LONGEST_GAP = 2  # rows that cost less than reading the weights once more
_ANY_TOKEN = 0
_BACKGROUND_SHARE = 4  # of what fits beside interactive answers, one in so many at least


@dataclass(frozen=True, slots=True)
class Row:
    """What a batch holds of one request.

    ``index`` is the row with the logits behind the newest token, None in a prompt; the last
    ``guesses`` of the ``tokens`` are guesses, each with its logits in the row behind.
    """

    task: Task
    slot: Slot
    tokens: Sequence[int]
    index: int | None = None
    guesses: int = 0


Running = list[tuple[Task, Slot]]

_Part = tuple[Task, Slot, list[int], int]
"""The tokens that a batch gets of a request, and of how many, the last ones, the logits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a context: its cells, and how many rows of a batch may have logits.

    Guesses keep below 64 rows: from there on llama.cpp's attention on CPUs uses other kernels,
    whose results differ in their last bits.
    """

    cells: int
    outputs: int


def fill(
    batch: TokenBatch,
    running: Running,
    times: StepTimes,
    limits: Limits,
    drafter: ModelDrafter | None = None,
    split: Mapping[int, int] | None = None,
) -> list[Row]:
    """Fill the batch for the next step. Its prompts never include their last token.

    ``split`` is given where the KV cache is: the lengths of the slots that may fill a gap. These
    have a row more in the context after the step, which is to be dropped.
    """
    batch.clear()
    now = time.perf_counter()
    running = sorted(running, key=lambda pair: pair[0].rank(now))
    writing = [pair for pair in running if pair[0].pending(pair[1]) == 1]
    reading = [
        pair for pair in running if pair[0].pending(pair[1]) > 1 and not pair[0].waits_for_leader
    ]
    first, later = _by_urgency(writing, running)
    if not reading and not later:
        guesses = _guesses(first, times, limits, drafter, alone=split is None or len(first) == 1)
        return _lay(batch, _answers(first, guesses), split)
    room = share = batch.capacity - len(first)
    if first and not _is_burst(first, reading):
        share = max(1, times.row_room(len(first), room) // _BACKGROUND_SHARE)
        most, room = room, times.prompt_room(len(first), room)
        if room == 0:  # a short question need not wait until a long prompt's piece is made up for
            reading = [pair for pair in reading if pair[0].pending(pair[1]) <= _SHORT_TOKENS]
            room = times.prompt_room(len(first), most, short=True)
    waiting = sorted(later, key=lambda pair: pair[0].last_token)[:share]
    answers = _answers([*first, *waiting], {})
    return _lay(batch, answers + _prompts(reading, max(0, room - len(waiting))), split)


def _is_burst(writing: Running, reading: Running) -> bool:
    """Whether short prompts came together with the answers that are being written.

    They are read at once then: no answer is far on its way yet, and all of them are sooner done.
    """
    began = min(task.arrived for task, _ in writing)
    together = all(task.arrived - began < _BURST_SECONDS for task, _ in reading)
    return (
        bool(reading)
        and together
        and sum(task.pending(slot) for task, slot in reading) <= _BURST_TOKENS
    )


def _by_urgency(writing: Running, running: Running) -> tuple[Running, Running]:
    """The answers of every step, and those that yield to interactive ones."""
    if all(task.background for task, _ in running):
        return writing, []
    first = [pair for pair in writing if not pair[0].background]
    return first, [pair for pair in writing if pair[0].background]


def _answers(writing: Running, guesses: Mapping[int, Sequence[int]]) -> list[_Part]:
    """The newest token of each answer, and the guesses behind it."""
    parts = []
    for task, slot in writing:
        tokens = [task.tokens[-1], *guesses.get(slot.id, ())]
        parts.append((task, slot, tokens, len(tokens)))
    return parts


def _lay(batch: TokenBatch, parts: list[_Part], split: Mapping[int, int] | None) -> list[Row]:
    """Put the parts into the batch.

    Where the KV cache is split, llama.cpp reads the weights once for sequences whose numbers follow
    on one another, and once more behind each gap; a row for each slot in a short gap costs less.
    """
    spare = batch.capacity - sum(len(tokens) for _, _, tokens, _ in parts)
    if split is not None:
        parts = sorted(parts, key=lambda part: part[1].id)
    rows, end = [], parts[0][1].id if parts else 0
    for task, slot, tokens, outputs in parts:
        gap = range(end, slot.id)
        if split and len(gap) <= min(_LONGEST_GAP, spare) and all(each in split for each in gap):
            spare -= len(gap)
            for each in gap:
                batch.add([_ANY_TOKEN], split[each], each, logits=0)
        end = slot.id + 1
        last = batch.add(tokens, len(slot.tokens), slot.id, logits=outputs)
        guesses = max(0, outputs - 1)
        rows.append(Row(task, slot, tokens, last - guesses if outputs else None, guesses))
    return rows


def _guesses(
    writing: Running,
    times: StepTimes,
    limits: Limits,
    drafter: ModelDrafter | None,
    *,
    alone: bool,
) -> dict[int, Sequence[int]]:
    """The guessed tokens that are worth checking in this step, by slot.

    They are what followed the same words before, and where there is no such thing, what the draft
    model would write. Tokens that a decision needs in any case are read along. Only those are
    where an answer is not ``alone`` in a pass: each further token of it would be one more.
    """
    guesses: dict[int, Sequence[int]] = {}
    rows = len(writing)
    for task, slot in writing:
        if task.decision is not None:
            ahead = task.decision.ahead()[: max(0, _most_guesses(task, rows, limits))]
            guesses[slot.id] = ahead
            rows += len(ahead)
        if task.lookup is not None and alone:
            guess = task.lookup.guess(task.tokens)
            rates = task.lookup.rates(min(len(guess), _most_guesses(task, rows, limits)))
            if length := best_length(rates, rows=rows, seconds=times.seconds):
                guesses[slot.id] = guess[:length]
                rows += length
    if drafter is None or not alone:
        return guesses
    requests = [
        DraftRequest(task, slot.id, _most_guesses(task, rows, limits))
        for task, slot in writing
        if slot.id not in guesses
    ]
    for draft in drafter.guess(requests, rows=rows, seconds=times.seconds):
        rates = draft.rates[: max(0, _most_guesses(draft.request.task, rows, limits))]
        if length := best_length(rates, rows=rows, seconds=times.seconds):
            guesses[draft.request.slot] = draft.tokens[:length]
            rows += length
    return guesses


def _most_guesses(task: Task, rows: int, limits: Limits) -> int:
    """How many guesses the answer, the context and the batch leave room for."""
    return min(
        task.max_tokens - task.written - 1,
        limits.cells - len(task.tokens) - 1,
        min(limits.outputs, _MOST_GUESSED_ROWS) - rows,
    )


def _prompts(reading: Running, room: int) -> list[_Part]:
    """Pieces of prompts; background ones get what the others leave."""
    parts = []
    urgent = [pair for pair in reading if not pair[0].background]
    for group in (urgent, [pair for pair in reading if pair[0].background]):
        for task, slot, length in _pieces(group, room):
            piece = task.tokens[len(slot.tokens) : len(slot.tokens) + length]
            parts.append((task, slot, piece, 0))
            room -= length
    return parts


def _pieces(reading: Running, room: int) -> list[tuple[Task, Slot, int]]:
    """How ``room`` is dealt out: half to who came first, the rest to who needs least.

    So a short prompt is never stuck behind a long one, nor a long one behind many short ones,
    and prompts of one length are read one after the other, which serves each the soonest.
    """
    lengths = [0] * len(reading)
    needs = [task.pending(slot) - 1 for task, slot in reading]
    by_need = sorted(range(len(reading)), key=lambda number: needs[number])
    portions = [(0, -(-room // 2)), *((number, room) for number in by_need)]
    for number, portion in portions if reading else ():
        extra = min(portion, room, needs[number] - lengths[number])
        lengths[number] += extra
        room -= extra
    return [
        (task, slot, length)
        for (task, slot), length in zip(reading, lengths, strict=True)
        if length
    ]


_TURN_SECONDS = 0.1
_BACKGROUND_SECONDS = 0.025  # of a turn without interactive requests, while others have them

Scales = tuple[float, ...]


class AdapterTurns:
    """Deals out turns; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._served: dict[Scales, float] = {}  # when each set's last turn began
        self._current: Scales | None = None

    def choose(self, running: Sequence[tuple[Task, Slot]]) -> Running:
        """Those of the running requests, all with the same scales, whose turn it is."""
        groups: dict[Scales, Running] = {}
        for pair in running:
            groups.setdefault(pair[0].scales, []).append(pair)
        if not groups:
            return []
        now = self._clock()
        self._served = {scales: self._served.get(scales, 0.0) for scales in groups}
        if self._current not in groups or now - self._served[self._current] >= self._length(groups):
            self._current = min(groups, key=self._served.__getitem__)
            self._served[self._current] = now
        return groups[self._current]

    def _length(self, groups: dict[Scales, Running]) -> float:
        assert self._current is not None  # noqa: S101 - for the type checker: it is in groups
        waits = any(not task.background for pairs in groups.values() for task, _ in pairs)
        yields = all(task.background for task, _ in groups[self._current])
        return _BACKGROUND_SECONDS if waits and yields else _TURN_SECONDS
