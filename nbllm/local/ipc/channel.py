"""The line to a process: each operation gets a number, and a mailbox for what comes back."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeAlias, TypeVar

import msgspec

from nbllm.local.ipc.events import Notice, Progress, Step
from nbllm.local.ipc.liveness import Patience, Signs
from nbllm.local.ipc.protocol import (
    Beat,
    Cancel,
    Event,
    Fraction,
    LastEvent,
    Message,
    NumberedEvent,
    encode,
)
from nbllm.local.ipc.worker_process import WorkerProcess, describe_exit, exit_remedy

__all__ = ["Channel", "Delivery", "Exited", "Forked", "Mailbox", "NewText", "merged"]

_LOAD_LOOK_SECONDS = 0.05
_KILLED = -9

E = TypeVar("E", bound=Event)
T = TypeVar("T")


class NewText(msgspec.Struct):
    """A part of a ``Step``: new text of one answer, and the tokens that it took."""

    text: str
    tokens: int


class Exited(msgspec.Struct):
    """The process has ended, with ``status``.

    ``stalled`` says that it was terminated because it hung. ``remedy`` has lines to follow a
    sentence, where what helps is known.
    """

    status: int
    stalled: bool
    remedy: str

    def problem(self, phase: str = "") -> str:
        """How it ended, to follow "its process"; ``phase`` may be " while loading"."""
        if self.stalled:
            return f"stopped responding{phase} and was terminated"
        return f"{describe_exit(self.status)}{phase}.{self.remedy}"


class Forked(msgspec.Struct):
    """The process belongs to the one that this one was forked from; nothing comes here."""


Delivery: TypeAlias = E | NewText | Exited | Forked


class Channel(Generic[E]):
    """Sends operations to a process of its own, and sorts the ``events`` that come back.

    A process that ended has told every open mailbox so, by ``Exited``; ``stalled`` says that it was
    ended because it gave no sign of life, or hung at one thing. In a forked child of the process
    that made it, mailboxes get ``Forked``, and nothing else.
    """

    def __init__(self, module: str, events: msgspec.json.Decoder[E]) -> None:
        self._numbers = itertools.count()
        self._mailboxes: dict[int, Mailbox[Delivery[E]]] = {}
        self._lock = threading.Lock()
        self._first: queue.SimpleQueue[E | Exited] = queue.SimpleQueue()
        self._signs = Signs()
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stalled = False
        self.exited: Exited | None = None
        self.worker = WorkerProcess(module, events, self._on_event, self._on_exit)

    @property
    def usable(self) -> bool:
        """Whether the process runs, as far as is known, and is this process's."""
        worker = self.worker
        return worker.is_ours and self.exited is None and worker.exit_status is None

    @contextmanager
    def mailbox(self) -> Iterator[tuple[int, Mailbox[Delivery[E]]]]:
        """A number for an operation, and where its events come; leaving it cancels the operation.

        The mailbox of a process that has ended holds its exit already.
        """
        mailbox: Mailbox[Delivery[E]] = Mailbox(merged)
        if not self.worker.is_ours:
            mailbox.put(Forked())
            yield -1, mailbox
            return
        with self._lock:
            number = next(self._numbers)
            self._mailboxes[number] = mailbox
            if self.exited is not None:
                mailbox.ended = True
                mailbox.put(self.exited)
        try:
            yield number, mailbox
        finally:
            if self.worker.is_ours:
                self._take_back(number, mailbox)

    def _take_back(self, number: int, mailbox: Mailbox[Delivery[E]]) -> None:
        with self._lock:
            self._mailboxes.pop(number, None)
        if not mailbox.ended:
            self.send(Cancel(number))

    def send(self, operation: Message) -> None:
        """Send an operation, without waiting until it is read. Raises ``UnsendableError``."""
        self.worker.send(encode(operation))

    async def send_long(self, operation: Message) -> None:
        """The same from an event loop, which goes on while a long operation is encoded."""
        self.worker.send(await asyncio.to_thread(encode, operation))

    def notices(self) -> Iterator[str]:
        """What the process has noted for the user since the last call."""
        with suppress(queue.Empty):
            while True:
                yield self._notices.get_nowait()

    async def take(
        self, mailbox: Mailbox[Delivery[E]], stall_seconds: float | None, *stages: str
    ) -> list[Delivery[E]]:
        """The next events of a mailbox, which the process makes in one of these ``stages``.

        A process that gives no sign of life, or hangs at one thing there, is ended meanwhile.
        """
        patience = Patience(self._signs, stall_seconds, stages)
        while self.worker.is_ours:
            if events := await mailbox.take(patience.look_seconds):
                return events
            self._look(patience, patience.look_seconds)
        return [Forked()]

    def first_event(
        self, cancelled: threading.Event, stall_seconds: float | None
    ) -> E | Exited | None:
        """The next event of a load; None as soon as ``cancelled`` is set.

        Blocks, but not for ever: see ``take``.
        """
        patience = Patience(self._signs, stall_seconds, ("load",))
        while not cancelled.is_set():
            with suppress(queue.Empty):
                return self._first.get(timeout=_LOAD_LOOK_SECONDS)
            self._look(patience, _LOAD_LOOK_SECONDS)
        return None

    def _look(self, patience: Patience, seconds: float) -> None:
        """After ``seconds`` in vain: end a process that does nothing; its exit follows.

        Where it does not follow, it is told all the same: a process that was forked meanwhile may
        hold the worker's pipe open, or a driver the worker itself.
        """
        if not patience.is_over(seconds):
            return
        status = self.worker.exit_status
        if status is None and not self.stalled:
            self.stalled = True
            self.worker.end()
        elif self.exited is None:
            self._on_exit(_KILLED if status is None else status)

    # ------------------------------------------------------------ from the reader's thread

    def _on_event(self, event: E) -> None:
        self._signs.note(event)
        match event:
            case Beat():
                pass
            case Notice(text):
                self._notices.put(text)
            case Step(texts):
                for number, text, tokens in texts:
                    self._deliver(number, NewText(text, tokens), is_last=False)
            case NumberedEvent(number):
                self._deliver(number, event, is_last=isinstance(event, LastEvent))
            case _:
                self._first.put(event)

    def _deliver(self, number: int, delivery: Delivery[E], *, is_last: bool) -> None:
        with self._lock:
            mailbox = self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.ended = is_last
            mailbox.put(delivery)

    def _on_exit(self, status: int) -> None:
        exited = Exited(status, self.stalled, exit_remedy(status, self.worker.log_tail()))
        self._first.put(exited)
        with self._lock:
            self.exited = exited
            mailboxes = list(self._mailboxes.values())
        for mailbox in mailboxes:
            mailbox.ended = True
            mailbox.put(exited)


class Mailbox(Generic[T]):
    """Many writers, one reader. It holds a loop only while its reader waits on that loop.

    ``merge`` may make one value of the last that waits and a newer one, or None to keep both; so
    a slow reader's mailbox need not grow. ``ended`` is for the writers to note that no more comes.
    """

    def __init__(self, merge: Callable[[T, T], T | None] = lambda last, newer: None) -> None:
        self._merge = merge
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False

    def put(self, item: T) -> None:
        """Add a value; from any thread, never blocking."""
        with self._lock:
            merged = self._merge(self._items[-1], item) if self._items else None
            if merged is None:
                self._items.append(item)
            else:
                self._items[-1] = merged
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with suppress(RuntimeError):  # the reader's loop is closed: nobody reads any more
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def take(self, seconds: float | None = None) -> list[T]:
        """All values since the last call, oldest first.

        Waits for one, at most ``seconds``; the list is empty if none came.
        """
        with self._lock:
            if not self._items:
                self._waiter = asyncio.get_running_loop().create_future()
            waiter = self._waiter
        if waiter is not None:
            await asyncio.wait((waiter,), timeout=seconds)
        with self._lock:
            self._waiter = None
            items, self._items = self._items, []
        return items


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def merged(delivery: Delivery[E], newer: Delivery[E]) -> Delivery[E] | None:
    """Two deliveries as one, where a slow reader misses nothing by it; None where they stay two.

    So what waits for a reader is bounded by the length of its answer, however slow it is.
    """
    match delivery, newer:
        case (Progress(), Progress()) | (Fraction(), Fraction()):
            return newer
        case NewText(), NewText():
            return NewText(delivery.text + newer.text, delivery.tokens + newer.tokens)
    return None
