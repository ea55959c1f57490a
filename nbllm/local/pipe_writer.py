"""Writing to a process that may not read: nobody but a thread made for it waits."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from io import FileIO

__all__ = ["PipeWriter"]


class PipeWriter:
    """Writes lines to a pipe in their order, from a thread of its own.

    ``put`` never blocks. What waits is kept as it was given; it is dropped once the pipe's reader
    is gone, which whoever watches the process tells. ``pipe`` has no buffer.
    """

    def __init__(self, pipe: FileIO, name: str) -> None:
        self._pipe = pipe
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line written behind all others; from any thread."""
        self._lines.put(line)

    def close(self, seconds: float) -> None:
        """Write what waits and close the pipe; waits for that, at most ``seconds``."""
        self._lines.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        with suppress(OSError), self._pipe:  # the reader is gone
            while (line := self._lines.get()) is not None:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._pipe.write(rest) :]
