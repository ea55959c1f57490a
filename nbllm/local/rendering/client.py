"""``Renderer``: the worker's side of the process that renders its model's chat template."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

import nbllm
from nbllm.local.ipc.threads import start_thread
from nbllm.local.rendering.rendered import MEMORY_BYTES, WALL_SECONDS, Rendered
from nbllm.local.rendering.template_turns import Turn
from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["CPU_SECONDS", "Renderer"]

CPU_SECONDS = 3.0
"""The processor time that a request may take; a long conversation takes a hundredth of it."""

_LOOK_SECONDS = 0.05
_REMEDY = "; load the model with another one (chat_template), or use raw=True"


class Renderer:
    """Renders in a process apart, which is started at once and anew after one that was ended.

    Give it a template with ``set_up`` before anything is rendered. All methods may be called from
    any thread; requests are answered one after another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = _started()
        self._setup: dict[str, Any] = {}
        self._problem: str | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the process, where it runs."""
        return None if self._process is None else self._process.pid

    def set_up(
        self, source: str, *, bos: str, eos: str, marks: Sequence[str], own: Sequence[str]
    ) -> None:
        """Have the template compiled, without waiting for it; see ``Template``."""
        given = {"source": source, "bos": bos, "eos": eos, "marks": marks, "own": own}
        self._setup = {"op": "setup", **given}
        if self._process is not None:
            self._process.send(self._setup)

    def check(self) -> None:
        """Raise ``TemplateRefusalError`` for a template that cannot be used at all."""
        with self._lock:
            self._ready()

    def render(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Turn] = (),
        effort: str | None = None,
        shows_tools: bool = True,
    ) -> Rendered:
        """See ``Template.render``; a template that exceeds its limits is refused too."""
        request = {
            "op": "render",
            "turns": turns,
            "tools": tools,
            "effort": effort,
            "shows_tools": shows_tools,
        }
        with self._lock:
            self._ready().send(request)
            return Rendered(**self._answer())

    def written(self, turns: Sequence[Turn], tools: Sequence[Turn]) -> str | None:
        """See ``Template.written``; None for a template that cannot be used at all, too."""
        try:
            with self._lock:
                self._ready().send({"op": "written", "turns": turns, "tools": tools})
                text: str | None = self._answer()["text"]
        except TemplateRefusalError:
            return None
        return text

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ready(self) -> _Process:
        """The process, once it has the template."""
        if self._problem is not None:
            raise TemplateRefusalError(self._problem)
        if self._process is None:
            self._process = _started()
            if self._process is None:
                raise TemplateRefusalError(
                    "the process that renders its chat template could not be started"
                )
            self._process.send(self._setup)
        if not self._process.is_set_up:
            try:
                self._answer()
            except TemplateRefusalError as error:
                self._problem = f"{error}{_REMEDY}"
                self._end()
                raise TemplateRefusalError(self._problem) from None
            self._process.is_set_up = True
        return self._process

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None  # noqa: S101 - for the type checker
        try:
            answer = self._process.answer()
        except _EndedError as error:
            self._end()
            problem = f"its chat template rejected the conversation: {error}"
            raise TemplateRefusalError(problem) from None
        if "problem" in answer:
            raise TemplateRefusalError(answer["problem"])
        return answer

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._process = None


def _started() -> _Process | None:
    """A new process; None where the system has none left, which a later request may find again."""
    try:
        return _Process()
    except (OSError, RuntimeError):  # neither a process nor a thread
        return None


class _EndedError(Exception):
    """There is no answer; the text says why."""


class _Process:
    """One process. Threads of its own write and read, so that a process that hangs holds nobody."""

    def __init__(self) -> None:
        self.is_set_up = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nbllm.local.rendering.template_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(nbllm.__file__).parent.parent,
        )
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for work, pipe in ((self._write, self._process.stdin), (self._read, self._process.stdout)):
            self._start(work, pipe)

    def _start(self, work: Callable[[IO[bytes]], None], pipe: IO[bytes] | None) -> None:
        assert pipe is not None  # noqa: S101 - for the type checker: it was asked for
        try:
            start_thread(work, pipe)
        except RuntimeError:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: dict[str, Any]) -> None:
        self._requests.put(json.dumps(request).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises ``_EndedError``; the process is of no use then."""
        began, spent = time.monotonic(), None
        while True:
            with suppress(queue.Empty):
                line = self._answers.get(timeout=_LOOK_SECONDS)
                if line is None:
                    status = self._process.wait()
                    raise _EndedError(f"its rendering process exited with code {status}")
                answer: dict[str, Any] = json.loads(line)
                return answer
            spent = self._check(time.monotonic() - began, spent)

    def _check(self, seconds: float, spent: float | None) -> float:
        """Raise ``_EndedError`` for one that takes too much; the processor time at the start."""
        if seconds > WALL_SECONDS:
            raise _EndedError(f"it took longer than {WALL_SECONDS:g} s")
        try:
            process = psutil.Process(self.pid)
            times, memory = process.cpu_times(), process.memory_info().rss
        except psutil.Error:
            return spent or 0.0
        now = times.user + times.system
        if now - (now if spent is None else spent) > CPU_SECONDS:
            raise _EndedError(f"it took more than {CPU_SECONDS:g} s of CPU time")
        if memory > 2 * MEMORY_BYTES:
            raise _EndedError(f"it needed more than {MEMORY_BYTES // 2**20} MiB of memory")
        return now if spent is None else spent

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._requests.put(None)

    def _write(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError), pipe:
            while (line := self._requests.get()) is not None:
                pipe.write(line)
                pipe.flush()

    def _read(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError), pipe:
            for line in pipe:
                self._answers.put(line)
        self._answers.put(None)
