"""The parent's side of a process: starting it, talking to it, and seeing it end.

Workers, jobs and dry runs are started in this one way.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO, Generic, TypeVar

import msgspec

import nbllm
from nbllm.local.installation import REINSTALL
from nbllm.local.ipc.protocol import Close, decode, encode

__all__ = [
    "SERVER_PROBLEM",
    "SERVER_STATUS",
    "PipeWriter",
    "WorkerProcess",
    "describe_exit",
    "engine_environment",
    "exit_remedy",
    "launch",
    "server_problems",
]

_DEFAULTS = {
    "GGML_NO_BACKTRACE": "1",  # it would start a debugger on each failed check
    # The order of the driver's list and of nvidia-smi; CUDA's own begins with the fastest GPU.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # How often a thread that waits for the others looks again before it sleeps. It then keeps
    # its core for microseconds, not OpenMP's usual milliseconds, from a thread that is waited
    # for; on a quiet machine there is no difference to measure.
    "GOMP_SPINCOUNT": "50000",
    # numpy's library of linear algebra starts a thread for each processor as it is imported, and
    # nothing here multiplies matrices with it: half of what the import of numpy takes.
    "OPENBLAS_NUM_THREADS": "1",
}


def engine_environment() -> dict[str, str]:
    """The variables of this process, with ours where the user has not set them."""
    return _DEFAULTS | os.environ


def launch(module: str, *, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start ``python -m module``, with unbuffered pipes. Raises ``OSError``.

    It runs from nbllm's own folder, so that no module beside a notebook shadows a real one, and in
    a session of its own, so that an interrupt of the notebook is not one of the process. Nothing
    is buffered here, for a forked child would flush it into the process.
    """
    return subprocess.Popen(  # noqa: S603 - the module is one of nbllm's own
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        cwd=Path(nbllm.__file__).parent.parent,
        env=engine_environment(),
        start_new_session=True,
    )


SERVER_STATUS = 69
"""How a process ends that cannot go on because of an RPC server (``EX_UNAVAILABLE``)."""

SERVER_PROBLEM = "nbllm-rpc: "
"""What its last line begins with, which has the problem for reading."""

_LOG_LINES = 200
LEAVE_SECONDS = 2.0
"""A worker that has nothing to save leaves sooner."""
_END_SECONDS = 10.0  # a killed process can hang in a driver; nobody can end it then

E = TypeVar("E")


class WorkerProcess(Generic[E]):
    """A running process, which is ``python -m module`` and speaks ``protocol.py``.

    ``on_event`` gets each event that it sends, ``on_exit`` its exit status (negative: the signal
    that killed it) once all its events were delivered; both are called from a reader thread. What
    ``events`` does not know ends the process.

    It belongs to the process that started it. In a forked child it is as if it had ended, and
    nothing here touches it.
    """

    def __init__(
        self,
        module: str,
        events: msgspec.json.Decoder[E],
        on_event: Callable[[E], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._owner = os.getpid()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._events, self._on_event, self._on_exit = events, on_event, on_exit
        self._process = launch(module)
        self._writer = PipeWriter(_pipe(self._process.stdin), "nbllm-worker-write")
        logger = _start("log", self._read_log, _pipe(self._process.stderr))
        output = _pipe(self._process.stdout)
        self._reader = _start("read", self._read_events, output, logger)

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

    def final_log(self) -> tuple[str, ...]:
        """End the process, and return the last lines that it wrote by then, oldest first. Blocks.

        An event says nothing of the log: another pipe carries it, and another thread reads it, so
        the lines that explain a failure may arrive after the event that reports it.
        """
        self.kill()
        return self.log_tail()

    def send(self, line: bytes) -> None:
        """Send an encoded operation, without waiting until it is read.

        Nothing is sent to a worker that is gone: its exit is told anyway.
        """
        if self.is_ours:
            self._writer.put(line)

    def close(self, seconds: float = LEAVE_SECONDS) -> None:
        """End the worker, by force if it does not leave in time, and give back its pipes."""
        if not self.is_ours:
            return
        self.send(encode(Close()))
        try:
            self._process.wait(seconds)
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

    def _read_events(self, pipe: FileIO, logger: threading.Thread) -> None:
        with BufferedReader(pipe) as lines:
            for line in lines:
                # A killed process's last line may be cut.
                if not line.endswith(b"\n") or not self._deliver(line):
                    break
        status = self._process.wait()
        logger.join(LEAVE_SECONDS)
        self._writer.close(LEAVE_SECONDS)
        self._on_exit(status)

    def _deliver(self, line: bytes) -> bool:
        """Pass an event on. A process that sends what is none would be waited for in vain."""
        try:
            event = decode(line, self._events)
        except ValueError as error:
            self._log.append(f"nbllm terminated the worker, because its output is {error}")
            self._process.kill()
            return False
        self._on_event(event)
        return True


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
    if status == SERVER_STATUS:
        return "ended because of an RPC server"
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
    """What helps, in lines to follow a sentence: another llama.cpp, or another RPC server.

    Empty where that is not known. ``log`` holds the process's last lines.
    """
    if status == SERVER_STATUS:
        return "".join(f"\n{problem[:1].upper()}{problem[1:]}." for problem in server_problems(log))
    if _ending(status) == _ILLEGAL:
        cause = "It has instructions that this processor lacks"
    elif any("Failed to load shared library" in line for line in log):
        cause = "The installed llama-cpp-python cannot be loaded on this machine"
    else:
        return ""
    return f"\n{cause}. Compile it for this machine:\n    {REINSTALL}"


def server_problems(log: Iterable[str]) -> list[str]:
    """What a process's last lines say of RPC servers that it cannot go on with."""
    problems = (line.partition(SERVER_PROBLEM)[2] for line in log)
    return [problem for problem in problems if problem]


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
