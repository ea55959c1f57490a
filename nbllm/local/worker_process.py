"""The parent's side of a worker: starting it, talking to it, and seeing it end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import nbllm
from nbllm.local import protocol
from nbllm.local.environment import engine_environment
from nbllm.local.protocol import Frame

__all__ = ["WorkerProcess"]

_LOG_LINES = 200
_LEAVE_SECONDS = 2.0


class WorkerProcess:
    """One running worker.

    ``on_frame`` gets each frame that it sends, ``on_exit`` its exit status (negative: the signal
    that killed it) once all its frames were delivered; both are called from a reader thread.
    """

    def __init__(self, on_frame: Callable[[Frame], None], on_exit: Callable[[int], None]) -> None:
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._write_lock = threading.Lock()
        # Run from nbllm's own folder, so that no module beside a notebook shadows a real one, in
        # a session of its own, so that an interrupt of the notebook is not one of the worker.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nbllm.local.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(nbllm.__file__).parent.parent,
            env=engine_environment(),
            start_new_session=True,
        )
        logger = _start("log", self._read_log, _pipe(self._process.stderr))
        output = _pipe(self._process.stdout)
        self._reader = _start("read", self._read_frames, output, logger, on_frame, on_exit)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

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

    def send(self, frame: Frame) -> None:
        """Send a frame; one to a worker that is gone is dropped, its exit is told anyway."""
        pipe = _pipe(self._process.stdin)
        with self._write_lock, suppress(OSError, ValueError):
            pipe.write(protocol.encode(frame))
            pipe.flush()

    def close(self) -> None:
        """End the worker, by force if it does not leave by itself, and give back its pipes."""
        self.send({"op": "close"})
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def kill(self) -> None:
        """End the worker at once."""
        self.end()
        self.close()

    def end(self) -> None:
        """Have the system end the worker, without waiting for it."""
        self._process.kill()

    def _read_log(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._log.append(line.decode(errors="replace").rstrip())

    def _read_frames(
        self,
        pipe: IO[bytes],
        logger: threading.Thread,
        on_frame: Callable[[Frame], None],
        on_exit: Callable[[int], None],
    ) -> None:
        with pipe:
            for line in pipe:
                if line.endswith(b"\n"):  # a killed worker's last line may be cut
                    on_frame(protocol.decode(line))
        status = self._process.wait()
        logger.join()
        with self._write_lock, suppress(OSError):
            _pipe(self._process.stdin).close()
        on_exit(status)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe that was asked for; ``Popen`` types it as optional."""
    assert pipe is not None  # noqa: S101
    return pipe


def _start(role: str, target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=f"nbllm-worker-{role}", daemon=True)
    thread.start()
    return thread


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = {
        "SIGKILL": "; the system kills processes this way when memory runs out",
        "SIGABRT": "; llama.cpp gave up on an internal check",
        "SIGSEGV": "; a crash inside llama.cpp",
        "SIGILL": "; llama.cpp was built for another kind of CPU than this one",
    }.get(name, "")
    return f"was killed by {name}{hint}"
