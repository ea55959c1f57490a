"""A worker's side of the line: frames for the parent, and signs of life."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import BinaryIO

from nbllm.local import protocol
from nbllm.local.protocol import Frame
from nbllm.local.stages import Stage, overdue_seconds

__all__ = ["Outbox", "take_standard_output"]

_BEAT_SECONDS = 1.0


class Outbox:
    """Where all threads put the frames for the parent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Write a frame; a parent that is gone ends the worker."""
        data = protocol.encode(frame)
        with self._lock:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError:
                os._exit(0)

    def keep_beating(self, stages: dict[str, Stage]) -> None:
        """From now on give signs of life as long as the parent lives; then leave."""
        threading.Thread(target=self._beat, args=(stages, os.getppid()), daemon=True).start()

    def _beat(self, stages: dict[str, Stage], parent: int) -> None:
        while os.getppid() == parent:
            self.send({"op": "beat", "overdue": overdue_seconds(stages, _BEAT_SECONDS)})
            time.sleep(_BEAT_SECONDS)
        os._exit(0)


def take_standard_output() -> BinaryIO:
    """The pipe to the parent; from here on, printing goes to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private
