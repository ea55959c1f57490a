"""The line to a worker: each question gets a number, and a mailbox for what comes back."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nbllm.local import protocol
from nbllm.local.mailbox import Mailbox
from nbllm.local.protocol import Frame
from nbllm.local.signs import Patience, Signs
from nbllm.local.worker_process import WORKER, WorkerProcess, describe_exit, exit_remedy

__all__ = ["Channel", "merged"]

_LOAD_LOOK_SECONDS = 0.05
_KILLED = -9


class Channel:
    """Sends frames to a worker of its own, and sorts those that come back.

    A worker that ended has told every open mailbox so, by an ``exit`` frame with its ``status``;
    ``stalled`` says that it was ended because it gave no sign of life, or hung at one thing. In a
    forked child of the process that made it, mailboxes get a frame ``forked``, and nothing else.
    """

    def __init__(self, module: str = WORKER) -> None:
        self._numbers = itertools.count()
        self._mailboxes: dict[int, Mailbox[Frame]] = {}
        self._lock = threading.Lock()
        self._first: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._signs = Signs()
        self.stalled = False
        self.exit_status: int | None = None
        self.worker = WorkerProcess(self._on_frame, self._on_exit, module)

    @property
    def usable(self) -> bool:
        """Whether the worker runs, as far as is known, and is this process's."""
        worker = self.worker
        return worker.is_ours and self.exit_status is None and worker.exit_status is None

    @contextmanager
    def mailbox(self) -> Iterator[tuple[int, Mailbox[Frame]]]:
        """A number to ask under, and where the answers come; leaving it takes the question back.

        The mailbox of a worker that has ended holds its exit already.
        """
        mailbox: Mailbox[Frame] = Mailbox(merged)
        if not self.worker.is_ours:
            mailbox.put({"op": "forked"})
            yield -1, mailbox
            return
        with self._lock:
            number = next(self._numbers)
            self._mailboxes[number] = mailbox
            if self.exit_status is not None:
                mailbox.ended = True
                mailbox.put({"op": "exit", "status": self.exit_status})
        try:
            yield number, mailbox
        finally:
            if self.worker.is_ours:
                self._take_back(number, mailbox)

    def _take_back(self, number: int, mailbox: Mailbox[Frame]) -> None:
        with self._lock:
            self._mailboxes.pop(number, None)
        if not mailbox.ended:
            self.send({"op": "cancel", "id": number})

    def send(self, frame: Frame) -> None:
        """Send a frame, without waiting until it is read. Raises ``UnsendableError``."""
        self.worker.send(protocol.encode(frame))

    async def ask(self, frame: Frame) -> None:
        """The same from an event loop, which goes on while a long frame is encoded."""
        self.worker.send(await asyncio.to_thread(protocol.encode, frame))

    async def take(
        self, mailbox: Mailbox[Frame], stall_seconds: float | None, *stages: str
    ) -> list[Frame]:
        """The next frames of a mailbox, which the worker makes in one of these ``stages``.

        A worker that gives no sign of life, or hangs at one thing there, is ended meanwhile.
        """
        patience = Patience(self._signs, stall_seconds, stages)
        while self.worker.is_ours:
            if frames := await mailbox.take(patience.look_seconds):
                return frames
            self._look(patience, patience.look_seconds)
        return [{"op": "forked"}]

    def first_frame(self, cancelled: threading.Event, stall_seconds: float | None) -> Frame | None:
        """The next frame of a worker that is loading; None as soon as ``cancelled`` is set.

        Blocks, but not for ever: see ``take``.
        """
        patience = Patience(self._signs, stall_seconds, ("load",))
        while not cancelled.is_set():
            with suppress(queue.Empty):
                return self._first.get(timeout=_LOAD_LOOK_SECONDS)
            self._look(patience, _LOAD_LOOK_SECONDS)
        return None

    def _look(self, patience: Patience, seconds: float) -> None:
        """After ``seconds`` in vain: end a worker that does nothing; its exit follows.

        Where it does not follow, it is told all the same: a process that was forked meanwhile may
        hold the worker's pipe open, or a driver the worker itself.
        """
        if not patience.is_over(seconds):
            return
        status = self.worker.exit_status
        if status is None and not self.stalled:
            self.stalled = True
            self.worker.end()
        elif self.exit_status is None:
            self._on_exit(_KILLED if status is None else status)

    # ------------------------------------------------------------ from the reader's thread

    def _on_frame(self, frame: Frame) -> None:
        self._signs.note(frame)
        if frame["op"] == "step":
            for number, text, tokens in frame["texts"]:
                self._deliver(number, {"op": "text", "text": text, "tokens": tokens})
        elif "id" in frame:
            self._deliver(frame["id"], frame)
        elif frame["op"] != "beat":
            self._first.put(frame)

    def _deliver(self, number: int, frame: Frame) -> None:
        with self._lock:
            mailbox = self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.ended = frame["op"] in ("done", "failed", "reply")
            mailbox.put(frame)

    def _on_exit(self, status: int) -> None:
        remedy = exit_remedy(status, self.worker.log_tail())
        problem = f"its worker process {describe_exit(status)} while loading.{remedy}"
        if self.stalled:
            problem = "its worker process stopped responding while loading and was terminated"
        self._first.put({"op": "exit", "status": status, "problem": problem})
        with self._lock:
            self.exit_status = status
            mailboxes = list(self._mailboxes.values())
        for mailbox in mailboxes:
            mailbox.ended = True
            mailbox.put({"op": "exit", "status": status})


def merged(frame: Frame, newer: Frame) -> Frame | None:
    """Two frames as one, where a slow reader misses nothing by it; None where they stay two.

    So what waits for a reader is bounded by the length of its answer, however slow it is.
    """
    if frame["op"] == newer["op"] == "progress":
        return newer
    if frame["op"] == newer["op"] == "text":
        text, tokens = frame["text"] + newer["text"], frame["tokens"] + newer["tokens"]
        return {"op": "text", "text": text, "tokens": tokens}
    return None
