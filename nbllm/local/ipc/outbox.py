"""A process's side of the line: its operations, its events, and its signs of life."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, TypeVar

import msgspec

from nbllm.local.ipc.liveness import Stage, overdue_seconds
from nbllm.local.ipc.protocol import Beat, Event, decode, encode
from nbllm.local.ipc.threads import start_thread

__all__ = ["Outbox", "job_input", "take_standard_output"]

_BEAT_SECONDS = 1.0

T = TypeVar("T")


class Outbox:
    """Where all threads put the events for the parent.

    ``on_orphaned`` is called, perhaps more than once, when the parent is gone.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.on_orphaned: Callable[[], None] = partial(os._exit, 0)

    def send(self, event: Event) -> None:
        """Write an event."""
        data = encode(event)
        with self._lock:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError:
                self.on_orphaned()

    def keep_beating(self, stages: dict[str, Stage]) -> None:
        """From now on give signs of life as long as the parent lives; then leave."""
        start_thread(self._beat, stages, os.getppid())

    def _beat(self, stages: dict[str, Stage], parent: int) -> None:
        while os.getppid() == parent:
            self.send(Beat(overdue_seconds(stages, _BEAT_SECONDS)))
            time.sleep(_BEAT_SECONDS)
        self.on_orphaned()


def take_standard_output() -> BinaryIO:
    """The pipe to the parent; from here on, printing goes to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


def job_input(decoder: msgspec.json.Decoder[T]) -> T:
    """The one operation of a process that does no other; it leaves when its input ends."""
    operation = decode(sys.stdin.buffer.readline(), decoder)
    start_thread(_leave_with_parent)
    return operation


def _leave_with_parent() -> None:
    """The input ends when the parent does, however that ends."""
    sys.stdin.buffer.read()
    os._exit(1)
