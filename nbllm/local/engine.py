"""The scheduler: many answers in one context, a step at a time.

Each running request has a *slot*, a sequence of llama.cpp's memory. A step decodes one batch: the
newest token of every answer that is being written, with guesses of the next ones where that pays,
and beside them pieces of prompts that are being read. The last token of a prompt is decoded like
a written one, in a batch without a piece of its own prompt, so that a prompt read afresh and one
found in a slot give the same numbers.

When the memory is full, slots at rest are emptied; after them the request that came last goes
back into the queue, background ones first, and its tokens are read again later.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nbllm.core.grammars.gbnf import GrammarError
from nbllm.local.ipc.liveness import TOKEN_SECONDS, Stage
from nbllm.local.ipc.protocol import Event
from nbllm.local.llama.native import NativeModel
from nbllm.local.request_refusals import unforeseen
from nbllm.local.scheduling.label_decisions import Decision
from nbllm.local.scheduling.model_drafter import ModelDrafter
from nbllm.local.scheduling.prefix_disk import PrefixDisk
from nbllm.local.scheduling.prefixes import shared_length
from nbllm.local.scheduling.request_queue import RequestQueue
from nbllm.local.scheduling.slots import Slots
from nbllm.local.scheduling.step_times import StepTimes
from nbllm.local.scheduling.steps import AdapterTurns, Limits, Row, fill
from nbllm.local.scheduling.tasks import Slot, Task
from nbllm.local.scheduling.thread_governor import GovernedThreads, ThreadGovernor
from nbllm.local.scheduling.writing import Reports, Writer

__all__ = ["Engine"]

_LONG_PROMPT = 64  # tokens that are worth a look around before they are read
_REHEARSED_TOKENS = 8
_REST_SECONDS = 1.0  # without a request, after which long prompts are saved to disk
_LONG_STEP_SECONDS = 0.2  # which is worth beginning anew where other processes hold it up


class Engine:
    """Runs the requests of one model; ``run`` is the worker's main thread.

    ``governor`` chooses the number of threads while it runs; without it the number stays as it is.
    ``drafter`` drafts what comes next where the text itself gives no hint; ``stage`` is where
    ``run`` tells what it is at. ``send`` takes the events. Up to ``kept_bytes`` of the prompts that
    have to leave the context are kept outside it, and what is in it is saved to ``disk``.
    ``submit``, ``cancel``, ``watch`` and ``leave`` may be called from other threads.
    """

    def __init__(
        self,
        model: NativeModel,
        send: Callable[[Event], None],
        governor: ThreadGovernor | None = None,
        *,
        kept_bytes: int = 0,
        disk: PrefixDisk | None = None,
        drafter: ModelDrafter | None = None,
        stage: Stage | None = None,
    ) -> None:
        self._model = model
        self._reports = Reports(send)
        self._writer = Writer(model, self._reports)
        self._governor, self._drafter = governor, drafter
        self._threads = GovernedThreads(governor, [model, *([drafter] if drafter else [])])
        self._stage = stage or Stage()
        self._slots = Slots(model, kept_bytes, disk)
        self._saves = disk is not None
        self._rest_seconds: float | None = None
        self._turns = AdapterTurns()
        self._times = StepTimes()
        self._limits = Limits(model.context_length, model.settings.max_outputs)
        self._requests = RequestQueue()
        self._lock = self._requests.lock
        self._reading: set[int] = set()
        self._began = 0.0
        self._is_held_up = self._is_crowded = False

    # ------------------------------------------------------------ from other threads

    def submit(self, task: Task) -> bool:
        """Queue a request; False where too many wait already."""
        return self._requests.submit(task)

    def cancel(self, id: int) -> None:  # noqa: A002 - the protocol's word
        """Stop a request; a prompt of it that is being read is aborted at once."""
        with self._lock:
            if self._requests.cancel(id) and id in self._reading:
                self._model.set_abort(True)

    def watch(self) -> None:
        """See what other processes do; to be called some times a second from one thread.

        A prompt is read in long steps. One whose threads lose their cores to others takes ten times
        as long, so it is broken off and begun anew with fewer threads.
        """
        if self._governor is None:
            return
        self._governor.note()
        began = self._began
        if time.perf_counter() - began > _LONG_STEP_SECONDS and self._governor.is_crowded:
            with self._lock:
                if self._reading and self._began == began:
                    self._is_held_up = True
                    self._model.set_abort(True)

    def leave(self) -> None:
        """Have ``run`` break off what it is at, save what the context holds, and return."""
        with self._lock:
            self._requests.close()
            self._model.set_abort(True)

    # ------------------------------------------------------------ the loop

    def rehearse(self) -> None:
        """Compute a few tokens before the first request, to know how long a step takes.

        The first time llama.cpp makes ready what it computes with.
        """
        for _ in range(2):
            self._model.batch.clear()
            self._model.batch.add(range(_REHEARSED_TOKENS), 0, 0, logits=1)
            began = time.perf_counter()
            self._model.decode()
            self._model.finish()
            seconds = time.perf_counter() - began
            self._model.cells.clear()
        self._times.note_whole(_REHEARSED_TOKENS, seconds)

    def run(self) -> None:
        """Serve requests until ``leave`` is called."""
        while True:
            with self._lock:
                rested = self._requests.is_empty
                self._stage.rest()
            while not self._wait():
                pass
            if self._requests.is_closed:
                self._slots.save_all()
                return
            with self._lock:
                self._stage.begin()
                cancelled = self._requests.cancelled()
            for task in cancelled:
                self._end(task)
            self._admit()
            if rested and sum(t.pending(s) for t, s in self._slots.running()) > _LONG_PROMPT:
                self._threads.look_afresh()
            self._step()

    def _wait(self) -> bool:
        """Wait for something to do; False after a rest in which a prompt may have been saved."""
        if self._requests.wait(self._rest_seconds):
            self._rest_seconds = _REST_SECONDS if self._saves else None
            return True
        if not self._slots.save_next():
            self._rest_seconds = None
        return False

    def _admit(self) -> None:
        """Give waiting requests their slots, while there are some."""
        while (
            not self._is_crowded
            and self._slots.has_free
            and (task := self._requests.next_waiting()) is not None
            and self._slots.has_place(task)
        ):
            self._requests.take(task)
            with self._for(task):
                self._place(task)

    def _place(self, task: Task) -> None:
        try:
            slot = self._slots.place(task)
        except Exception:
            self._slots.empty_resting()  # nobody knows which one it has changed
            raise
        if not task.started:
            task.started = time.perf_counter()
            task.cached = len(slot.tokens)
            self._reports.progress(task, task.cached)

    def _step(self) -> None:
        """Decode one batch and pass on what it brought."""
        for task, slot in list(self._slots.running()):
            with self._for(task):
                self._prepare(task, slot)
        running = self._turns.choose(list(self._slots.running()))
        fillers = self._slots.gap_fillers()
        rows = fill(self._model.batch, running, self._times, self._limits, self._drafter, fillers)
        if not rows:
            return
        self._model.use_scales(running[0][0].scales)
        self._threads.update()
        began = time.perf_counter()
        outcome = self._decode(rows)
        self._slots.drop_fillers(fillers or {}, rows)
        if outcome == 0:
            answers = sum(1 + row.guesses for row in rows if row.index is not None)
            prompts = sum(len(row.tokens) for row in rows if row.index is None)
            self._times.record(answers, prompts, time.perf_counter() - began)
            self._stage.begin()
            for row in rows:
                with self._for(row.task):
                    self._advance(row)
            self._slots.took(self._model.batch.size)
            self._reports.flush(task for task, _ in self._slots.running())
            return
        for row in rows:  # drop the cells that a failed or aborted batch may have left
            self._slots.cut(row.slot, len(row.slot.tokens))
        if outcome == 1:
            self._make_room()
        elif outcome == 2:
            if self._is_held_up:
                self._threads.give_way()
        else:
            for row in rows:
                self._fail(row.task, f"llama.cpp could not decode (code {outcome})")

    def _prepare(self, task: Task, slot: Slot) -> None:
        """What is due between steps: room at the context's end, and a prompt that others read."""
        if len(task.tokens) >= self._model.context_length and task.pending(slot) == 1:
            self._slots.shift(task, slot)
        if task.leader is not None and not task.waits_for_leader:
            self._slots.catch_up(task, slot)

    def _decode(self, rows: list[Row]) -> int:
        with self._lock:
            self._reading = {row.task.id for row in rows if row.index is None}
            self._began, self._is_held_up = time.perf_counter(), False
            self._model.set_abort(
                self._requests.is_closed or any(row.task.cancelled for row in rows)
            )
        self._stage.begin(self._allowed_seconds(self._model.batch.size))
        outcome = self._model.decode()
        with self._lock:
            self._reading = set()
        return outcome

    def _allowed_seconds(self, rows: int) -> float:
        """How long a step may take; the servers that may be lost in it are held to what they did.

        The machine itself may be as slow as it likes.
        """
        usual = TOKEN_SECONDS * rows
        known = self._times.longest(rows) if self._model.settings.rpc else None
        return usual if known is None else min(usual, known)

    def _make_room(self) -> None:
        """Free cells, else send a request back: a background one, the last that came.

        Nobody is admitted then before another request has ended, or it would come back in vain.
        """
        if self._slots.make_room():
            return
        running = list(self._slots.running())
        task, slot = max(running, key=lambda pair: (pair[0].background, pair[0].arrived))
        if len(running) == 1:
            self._fail(task, "llama.cpp found no free space in the KV cache")
            return
        self._is_crowded = True
        self._slots.release(task)
        self._slots.empty(slot)
        self._requests.put_back(task)

    # ------------------------------------------------------------ answers

    @contextmanager
    def _for(self, task: Task) -> Iterator[None]:
        """Whatever goes wrong in here ends this request and no other."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            self._break_off(task, error)

    def _break_off(self, task: Task, error: Exception) -> None:
        traceback.print_exception(error)
        problem = unforeseen(error)
        if task in self._requests:
            self._fail(task, problem)
        else:  # it had ended, and could not be told so
            self._reports.failed(task, problem)

    def _advance(self, row: Row) -> None:
        """Take a decoded row in: the tokens that it brought, and the cells that stay."""
        task, slot = row.task, row.slot
        if row.index is None:
            slot.tokens += row.tokens
            self._reports.progress(task, len(slot.tokens))
            return
        if task.decision is not None:
            self._decide(row, task.decision, row.index)
            return
        try:
            written, reason = self._writer.write(row, row.index)
        except GrammarError as error:
            self._fail(task, str(error))
            return
        slot.tokens += row.tokens[: len(written)]
        if len(written) < len(row.tokens):
            self._slots.cut(slot, len(slot.tokens))
        if task.lookup is not None:
            task.lookup.compare(written)
        if self._drafter is not None:
            self._drafter.compare(slot.id, written)
        task.accepted_drafts += len(written) - 1
        if reason:
            self._finish(task, reason)

    def _decide(self, row: Row, decision: Decision, index: int) -> None:
        """Take in what was found of labels, and go on to the next; cells of both are kept."""
        task, slot = row.task, row.slot
        slot.tokens += row.tokens
        decision.take(map(self._model.logits, range(index, index + len(row.tokens))))
        task.written += len(row.tokens)
        task.last_token = time.perf_counter()
        task.first_token = task.first_token or task.last_token
        if decision.is_over:
            self._end(task)
            self._reports.decided(task, decision)
            return
        task.tokens[task.prompt_length :] = decision.path
        kept = min(shared_length(slot.tokens, task.tokens), len(task.tokens) - 1)
        if kept < len(slot.tokens):
            self._slots.cut(slot, kept)

    def _finish(self, task: Task, reason: str) -> None:
        task.unsent += task.text.finish()
        self._end(task)
        self._reports.done(task, reason)

    def _fail(self, task: Task, problem: str) -> None:
        if task.slot is not None:
            self._slots.empty(task.slot)
        self._end(task)
        self._reports.failed(task, problem)

    def _end(self, task: Task) -> None:
        """Take a request off the books; its slot rests, with its cells."""
        with self._lock:
            self._requests.end(task)
            if task.slot is not None:
                self._is_crowded = False
        self._slots.release(task)
        task.sampler.close()
