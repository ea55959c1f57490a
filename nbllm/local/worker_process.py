"""The parent's side of a worker: starting it, talking to it, and seeing it end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO

import nbllm
from nbllm.local import protocol
from nbllm.local.environment import engine_environment
from nbllm.local.installation import REINSTALL
from nbllm.local.pipe_writer import PipeWriter
from nbllm.local.protocol import Frame

__all__ = ["WORKER", "WorkerProcess", "describe_exit", "exit_remedy"]

WORKER = "nbllm.local.worker"
"""The module that owns one model and answers requests."""

_LOG_LINES = 200
_LEAVE_SECONDS = 2.0
_END_SECONDS = 10.0  # a killed process can hang in a driver; nobody can end it then


class WorkerProcess:
    """A running worker, which is ``python -m module`` and speaks ``protocol.py``.

    ``on_frame`` gets each frame that it sends, ``on_exit`` its exit status (negative: the signal
    that killed it) once all its frames were delivered; both are called from a reader thread.

    It belongs to the process that started it. In a forked child it is as if it had ended, and
    nothing here touches it.
    """

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        on_exit: Callable[[int], None],
        module: str = WORKER,
    ) -> None:
        self._owner = os.getpid()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        # Run from nbllm's own folder, so that no module beside a notebook shadows a real one, in
        # a session of its own, so that an interrupt of the notebook is not one of the worker.
        self._process = subprocess.Popen(  # noqa: S603 - the module is one of nbllm's own
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # a forked child would flush what is in a buffer, into our worker
            cwd=Path(nbllm.__file__).parent.parent,
            env=engine_environment(),
            start_new_session=True,
        )
        self._writer = PipeWriter(_pipe(self._process.stdin), "nbllm-worker-write")
        logger = _start("log", self._read_log, _pipe(self._process.stderr))
        output = _pipe(self._process.stdout)
        self._reader = _start("read", self._read_frames, output, logger, on_frame, on_exit)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def is_ours(self) -> bool:
        """Whether this process started it, and was not forked from the one that did."""
        return self._owner == os.getpid()

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def used_memory_bytes(self) -> int | None:
        """Its resident memory that the system cannot take back; None where it does not run."""
        import psutil

        try:
            memory = psutil.Process(self.pid).memory_info()
        except psutil.Error:
            return None
        return int(memory.rss - getattr(memory, "shared", 0))  # "shared" is Linux's: mapped files

    def log_tail(self, lines: int = 12) -> tuple[str, ...]:
        """The last lines that llama.cpp and the worker wrote, oldest first."""
        return tuple(self._log)[-lines:]

    def send(self, line: bytes) -> None:
        """Send an encoded frame, without waiting until it is read.

        Nothing is sent to a worker that is gone: its exit is told anyway.
        """
        if self.is_ours:
            self._writer.put(line)

    def close(self) -> None:
        """End the worker, by force if it does not leave by itself, and give back its pipes."""
        if not self.is_ours:
            return
        self.send(protocol.encode({"op": "close"}))
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        if threading.current_thread() is not self._reader:
            self._reader.join(_END_SECONDS)

    def kill(self) -> None:
        """End the worker at once."""
        self.end()
        self.close()

    def end(self) -> None:
        """Have the system end the worker, without waiting for it."""
        if self.is_ours:
            self._process.kill()

    def _read_log(self, pipe: FileIO) -> None:
        with BufferedReader(pipe) as lines:
            for line in lines:
                self._log.append(line.decode(errors="replace").rstrip())

    def _read_frames(
        self,
        pipe: FileIO,
        logger: threading.Thread,
        on_frame: Callable[[Frame], None],
        on_exit: Callable[[int], None],
    ) -> None:
        with BufferedReader(pipe) as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a killed worker's last line may be cut
                    self._deliver(line, on_frame)
        status = self._process.wait()
        logger.join(_LEAVE_SECONDS)
        self._writer.close(_LEAVE_SECONDS)
        on_exit(status)

    def _deliver(self, line: bytes, on_frame: Callable[[Frame], None]) -> None:
        """Pass a frame on. A worker that sends what is none would be waited for in vain."""
        try:
            frame = protocol.decode(line)
        except ValueError as error:
            self._log.append(f"nbllm terminated the worker, because its output is {error}")
            self._process.kill()
            return
        on_frame(frame)


def _pipe(pipe: IO[bytes] | None) -> FileIO:
    """A pipe that was asked for, unbuffered; ``Popen`` types it more widely."""
    assert isinstance(pipe, FileIO)  # noqa: S101
    return pipe


def _start(role: str, target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=f"nbllm-worker-{role}", daemon=True)
    thread.start()
    return thread


def describe_exit(status: int) -> str:
    """An exit status in words."""
    name = _ending(status)
    if name is None:
        return f"ended with exit code {status}"
    hint = {
        "SIGKILL": "; the system kills processes this way when memory runs out",
        "SIGABRT": "; llama.cpp gave up on an internal check",
        "SIGSEGV": "; a crash inside llama.cpp",
        _ILLEGAL: "; its llama.cpp was compiled for another processor",
    }.get(name, "")
    return f"was killed by {name}{hint}"


def exit_remedy(status: int, log: Iterable[str]) -> str:
    """Where only another llama.cpp helps: lines that say so, to follow a sentence; else nothing.

    ``log`` holds the process's last lines.
    """
    if _ending(status) == _ILLEGAL:
        cause = "It has instructions that this processor lacks"
    elif any("Failed to load shared library" in line for line in log):
        cause = "The installed llama-cpp-python cannot be loaded on this machine"
    else:
        return ""
    return f"\n{cause}. Compile it for this machine:\n    {REINSTALL}"


_ILLEGAL = "SIGILL"
_WINDOWS_ENDINGS = {0xC000001D: _ILLEGAL, 0xC0000005: "SIGSEGV"}  # of ntstatus.h


def _ending(status: int) -> str | None:
    """The signal that ended a process, by Unix's name; None for an exit code."""
    if status >= 0:
        return _WINDOWS_ENDINGS.get(status)
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
