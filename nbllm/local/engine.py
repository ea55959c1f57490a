"""The scheduler: many answers in one context, a step at a time.

Each running request has a *slot*, a sequence of llama.cpp's memory. A step decodes one batch: the
newest token of every answer that is being written, and beside them a piece of a prompt that is
being read. The last token of a prompt is decoded like a written one, in a batch without prompt
pieces of its own, so that a prompt read afresh and one found in a slot give the same numbers.

A slot keeps its tokens after its request ended; the next request that begins alike goes on there.
When the memory is full, slots at rest are emptied, the longest unused first; after them the
request that came last goes back into the queue, and its tokens are read again later.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Lock

from nbllm.local.native import NativeModel
from nbllm.local.pace import Pace
from nbllm.local.protocol import Frame
from nbllm.local.sampling import Sampler
from nbllm.local.text import TextAssembler

__all__ = ["Engine", "Task"]

_QUEUE_LIMIT = 256
_SHARED_CHUNK = 32  # prompt tokens in a step beside answers that are being written
_GROWTH = 32  # cells kept free for each running answer before one more is admitted
_PROGRESS_SECONDS = 0.2
_FLUSH_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence of the context, and the tokens whose cells it holds, the last prompt's first."""

    id: int
    tokens: list[int] = field(default_factory=list)
    prompt_length: int = 0
    task: Task | None = None
    used: float = 0.0


@dataclass(slots=True, eq=False)
class Task:
    """One request. ``tokens`` are the prompt's and, behind them, those that were written."""

    id: int
    tokens: list[int]
    max_tokens: int
    sampler: Sampler
    text: TextAssembler
    arrived: float = field(default_factory=time.perf_counter)
    prompt_length: int = field(init=False)
    cached: int = 0
    started: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    told_progress: float = 0.0
    unsent: str = ""
    told_tokens: int = 0
    slot: Slot | None = None
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def written(self) -> int:
        """Tokens of the answer so far, the one that ended it included."""
        return len(self.tokens) - self.prompt_length

    def pending(self, slot: Slot) -> int:
        """Tokens that have no cells yet; at 1 the next step continues the answer."""
        return len(self.tokens) - len(slot.tokens)

    def take_unsent(self) -> tuple[int, str, int]:
        """The id, the text that was not passed on yet, and the tokens that it took."""
        text, self.unsent = self.unsent, ""
        tokens, self.told_tokens = self.written - self.told_tokens, self.written
        return self.id, text, tokens


@dataclass(frozen=True, slots=True)
class Row:
    """What a batch holds of one request; ``index`` is the row with logits, None in a prompt."""

    task: Task
    slot: Slot
    tokens: Sequence[int]
    index: int | None


class Engine:
    """Runs the requests of one model; ``run`` is the worker's main thread.

    ``pace`` chooses the number of threads while it runs; without it the number stays as it is.
    ``send`` takes the frames of ``protocol.py``. ``submit`` and ``cancel`` may be called from
    any thread.
    """

    def __init__(
        self, model: NativeModel, send: Callable[[Frame], None], pace: Pace | None = None
    ) -> None:
        self._model = model
        self._send = send
        self._pace = pace
        self._slots = [Slot(number) for number in range(model.settings.parallel)]
        self._queue: deque[Task] = deque()
        self._tasks: dict[int, Task] = {}
        self._lock = Lock()
        self._wake = Condition(self._lock)
        self._reading: set[int] = set()
        self._flushed = 0.0

    # ------------------------------------------------------------ from other threads

    def submit(self, task: Task) -> bool:
        """Queue a request; False where too many wait already."""
        with self._lock:
            if len(self._queue) >= _QUEUE_LIMIT:
                return False
            self._tasks[task.id] = task
            self._queue.append(task)
            self._wake.notify()
            return True

    def cancel(self, id: int) -> None:  # noqa: A002 - the protocol's word
        """Stop a request; a prompt of it that is being read is aborted at once."""
        with self._lock:
            task = self._tasks.get(id)
            if task is not None:
                task.cancelled = True
                if id in self._reading:
                    self._model.set_abort(True)
                self._wake.notify()

    # ------------------------------------------------------------ the loop

    def run(self) -> None:
        """Serve requests for ever."""
        while True:
            with self._lock:
                while not self._tasks:
                    self._wake.wait()
                cancelled = [task for task in self._tasks.values() if task.cancelled]
            for task in cancelled:
                self._end(task)
            self._admit()
            self._step()

    def _admit(self) -> None:
        """Give waiting requests their slots, in the order in which they came."""
        while self._queue and self._has_place(self._queue[0]):
            self._place(self._queue[0])
            with self._lock:
                self._queue.popleft()

    def _has_place(self, task: Task) -> bool:
        """Whether a slot is free, and cells for this request with some growth for all.

        Cells that slots share are counted for each, so this errs on the careful side.
        """
        running = [other for slot in self._slots if (other := slot.task)]
        if len(running) == len(self._slots):
            return False
        cells = sum(len(other.tokens) + _GROWTH for other in [*running, task])
        return not running or cells <= self._model.context_length

    def _step(self) -> None:
        """Decode one batch and pass on what it brought."""
        rows = self._fill()
        if not rows:
            return
        if self._pace is not None and self._pace.update():
            self._model.set_threads(self._pace.threads)
        outcome = self._decode(rows)
        if outcome == 0:
            for row in rows:
                row.slot.tokens += row.tokens
                self._advance(row)
            self._flush()
            return
        self._rewind(rows)
        if outcome == 1:
            self._make_room()
        elif outcome != 2:
            for row in rows:
                self._fail(row.task, f"llama.cpp could not decode (code {outcome})")

    # ------------------------------------------------------------ batches

    def _fill(self) -> list[Row]:
        """Fill the batch: the newest token of each answer, then pieces of prompts."""
        batch = self._model.batch
        batch.clear()
        running = [(task, slot) for slot in self._slots if (task := slot.task)]
        running.sort(key=lambda pair: pair[0].arrived)
        rows = [
            Row(task, slot, task.tokens[-1:], self._put(slot, task.tokens[-1:], logits=True))
            for task, slot in running
            if task.pending(slot) == 1
        ]
        room = _SHARED_CHUNK if rows else batch.capacity
        for task, slot in running:
            start = len(slot.tokens)
            piece = task.tokens[start : min(start + room, len(task.tokens) - 1)]
            if piece and task.pending(slot) > 1:
                self._put(slot, piece, logits=False)
                rows.append(Row(task, slot, piece, None))
                room -= len(piece)
        return rows

    def _put(self, slot: Slot, tokens: Sequence[int], *, logits: bool) -> int:
        return self._model.batch.add(tokens, len(slot.tokens), slot.id, logits=logits)

    def _decode(self, rows: list[Row]) -> int:
        with self._lock:
            self._reading = {row.task.id for row in rows if row.index is None}
            self._model.set_abort(any(row.task.cancelled for row in rows))
        outcome = self._model.decode()
        with self._lock:
            self._reading = set()
        return outcome

    def _rewind(self, rows: list[Row]) -> None:
        """Drop the cells that a failed or aborted batch may have left."""
        for row in rows:
            self._cut(row.slot, len(row.slot.tokens))

    def _advance(self, row: Row) -> None:
        task = row.task
        if row.index is None:
            self._tell_progress(task, len(row.slot.tokens))
            return
        token = task.sampler.choose(row.index)
        task.tokens.append(token)
        task.last_token = time.perf_counter()
        if not task.first_token:
            task.first_token = task.last_token
            self._flushed = 0.0
        stops = token in task.sampler.stop_tokens
        piece = None if stops else self._model.vocabulary.piece(token)
        if piece is not None:
            task.unsent += task.text.feed(piece)
        reason = self._reason_to_end(task, ended=piece is None)
        if reason:
            self._finish(task, reason)

    def _reason_to_end(self, task: Task, *, ended: bool) -> str | None:
        if ended or task.text.stopped is not None:
            return "stop"
        full = len(task.tokens) >= self._model.context_length
        return "length" if full or task.written >= task.max_tokens else None

    # ------------------------------------------------------------ messages

    def _flush(self) -> None:
        """Pass on new text, at most every 100 ms: each message costs the reader a wake-up."""
        now = time.perf_counter()
        if now - self._flushed < _FLUSH_SECONDS:
            return
        tasks = [task for slot in self._slots if (task := slot.task) and task.unsent]
        texts = [task.take_unsent() for task in tasks]
        if texts:
            self._flushed = now
            self._send({"op": "step", "texts": texts})

    def _tell_progress(self, task: Task, processed: int) -> None:
        now = time.perf_counter()
        if now - task.told_progress >= _PROGRESS_SECONDS:
            task.told_progress = now
            self._send(
                {
                    "op": "progress",
                    "id": task.id,
                    "processed": processed,
                    "total": task.prompt_length,
                    "cached": task.cached,
                }
            )

    def _finish(self, task: Task, reason: str) -> None:
        task.unsent += task.text.finish()
        _, text, tokens = task.take_unsent()
        self._end(task)
        self._send(
            {
                "op": "done",
                "id": task.id,
                "text": text,
                "tokens": tokens,
                "reason": "stop" if task.text.stopped is not None else reason,
                "stop": task.text.stopped,
                "prompt_tokens": task.prompt_length,
                "cached_tokens": task.cached,
                "completion_tokens": task.written,
                "seed": task.sampler.seed,
                "logprobs": task.sampler.logprobs and task.sampler.logprobs.records,
                "queue_seconds": task.started - task.arrived,
                "prompt_seconds": task.first_token - task.started,
                "decode_seconds": task.last_token - task.first_token,
            }
        )

    def _fail(self, task: Task, problem: str) -> None:
        if task.slot is not None:
            self._empty(task.slot)
        self._end(task)
        self._send({"op": "failed", "id": task.id, "kind": "engine", "problem": problem})

    # ------------------------------------------------------------ slots

    def _place(self, task: Task) -> None:
        """Take a free slot, with as much of the prompt in it as any slot holds already.

        A slot whose prompt is asked again or carried on is used itself; one that only begins
        alike, as under a shared system prompt, keeps its cells and shares the beginning.
        """
        free = [slot for slot in self._slots if slot.task is None]
        donor = max(self._slots, key=lambda slot: _shared(slot.tokens, task.tokens))
        shared = min(_shared(donor.tokens, task.tokens), len(task.tokens) - 1)
        stays = donor.task is None and 2 * shared >= donor.prompt_length
        slot = donor if stays else min(free, key=lambda slot: (len(slot.tokens) > 0, slot.used))
        if slot is donor or not self._model.can_copy_prefix:
            kept = min(_shared(slot.tokens, task.tokens), len(task.tokens) - 1)
            self._cut(slot, kept)
        else:
            self._empty(slot)
            if shared:
                self._model.copy_prefix(donor.id, slot.id, shared)
                slot.tokens = task.tokens[:shared]
        task.slot, slot.task, slot.prompt_length = slot, task, task.prompt_length
        if not task.started:
            task.started = time.perf_counter()
            task.cached = len(slot.tokens)
            self._tell_progress(task, task.cached)

    def _cut(self, slot: Slot, length: int) -> None:
        """Keep the first ``length`` tokens of a slot, or none where that is not possible."""
        if self._model.forget(slot.id, length):
            del slot.tokens[length:]
        else:
            self._empty(slot)

    def _empty(self, slot: Slot) -> None:
        self._model.forget(slot.id, 0)
        slot.tokens, slot.prompt_length = [], 0

    def _end(self, task: Task) -> None:
        """Take a request off the books; its slot rests, with its cells."""
        with self._lock:
            self._tasks.pop(task.id, None)
            if task.slot is None:
                self._queue.remove(task)
        if task.slot is not None:
            task.slot.task, task.slot.used = None, time.perf_counter()
        task.sampler.close()

    def _make_room(self) -> None:
        """Empty the slot at rest that was unused longest, else send the last request back."""
        resting = [slot for slot in self._slots if slot.task is None and slot.tokens]
        if resting:
            self._empty(min(resting, key=lambda slot: slot.used))
            return
        running = [(task, slot) for slot in self._slots if (task := slot.task)]
        task, slot = max(running, key=lambda pair: pair[0].arrived)
        if len(running) == 1:
            self._fail(task, "llama.cpp found no room in the context")
            return
        slot.task = task.slot = None
        self._empty(slot)
        with self._lock:
            self._queue.appendleft(task)


def _shared(cells: Sequence[int], tokens: Sequence[int]) -> int:
    """The length of the common beginning."""
    for index, (have, want) in enumerate(zip(cells, tokens, strict=False)):
        if have != want:
            return index
    return min(len(cells), len(tokens))
