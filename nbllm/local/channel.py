"""The line to a worker: each question gets a number, and a mailbox for what comes back."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nbllm.local.mailbox import Mailbox
from nbllm.local.protocol import Frame
from nbllm.local.worker_process import WorkerProcess, describe_exit

__all__ = ["STALL_SECONDS", "Channel", "merged"]

STALL_SECONDS = 60.0
"""A worker that gives no sign of life for so long is ended. It gives one every second, in the
middle of the longest step too, unless it was stopped or the machine has no memory left."""

_LEAST_STALL_SECONDS = 3.0  # three of the worker's signs
_LOOK_SECONDS = 5.0
_LOAD_LOOK_SECONDS = 0.05


class Channel:
    """Sends frames to a worker of its own, and sorts those that come back.

    A worker that ended has told every open mailbox so, by an ``exit`` frame with its ``status``;
    ``stalled`` says that it was ended because it gave no sign of life.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._mailboxes: dict[int, Mailbox[Frame]] = {}
        self._lock = threading.Lock()
        self._first: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._signs = 0
        self.stalled = False
        self.exit_status: int | None = None
        self.worker = WorkerProcess(self._on_frame, self._on_exit)

    @contextmanager
    def mailbox(self) -> Iterator[tuple[int, Mailbox[Frame]]]:
        """A number to ask under, and where the answers come; leaving it takes the question back.

        The mailbox of a worker that has ended holds its exit already.
        """
        mailbox: Mailbox[Frame] = Mailbox(merged)
        with self._lock:
            number = next(self._numbers)
            self._mailboxes[number] = mailbox
            if self.exit_status is not None:
                mailbox.ended = True
                mailbox.put({"op": "exit", "status": self.exit_status})
        try:
            yield number, mailbox
        finally:
            with self._lock:
                self._mailboxes.pop(number, None)
            if not mailbox.ended:
                self.worker.send({"op": "cancel", "id": number})

    async def take(self, mailbox: Mailbox[Frame], stall_seconds: float | None) -> list[Frame]:
        """The next frames of a mailbox; a worker that gives no sign of life is ended meanwhile."""
        limit = _limit(stall_seconds)
        look, silent, signs = min(_LOOK_SECONDS, limit / 8), 0.0, self._signs
        while not (frames := await mailbox.take(look)):
            silent = silent + look if signs == self._signs else 0.0
            signs = self._signs
            if silent >= limit:
                self._give_up()
        return frames

    def first_frame(self, cancelled: threading.Event, stall_seconds: float | None) -> Frame | None:
        """The next frame of a worker that is loading; None as soon as ``cancelled`` is set.

        Blocks, but not for ever: see ``take``.
        """
        limit, silent, signs = _limit(stall_seconds), 0.0, self._signs
        while not cancelled.is_set():
            with suppress(queue.Empty):
                return self._first.get(timeout=_LOAD_LOOK_SECONDS)
            silent = silent + _LOAD_LOOK_SECONDS if signs == self._signs else 0.0
            signs = self._signs
            if silent >= limit:
                self._give_up()
        return None

    def _give_up(self) -> None:
        """End a worker that does nothing; its exit follows, to whoever waits."""
        self.stalled = True
        self.worker.end()

    # ------------------------------------------------------------ from the reader's thread

    def _on_frame(self, frame: Frame) -> None:
        self._signs += 1
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
        problem = f"its worker process {describe_exit(status)} while loading"
        if self.stalled:
            problem = "its worker process gave no sign of life while loading, and was ended"
        self._first.put({"op": "exit", "status": status, "problem": problem})
        with self._lock:
            self.exit_status = status
            mailboxes = list(self._mailboxes.values())
        for mailbox in mailboxes:
            mailbox.ended = True
            mailbox.put({"op": "exit", "status": status})


def _limit(stall_seconds: float | None) -> float:
    return max(_LEAST_STALL_SECONDS, stall_seconds or STALL_SECONDS)


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
