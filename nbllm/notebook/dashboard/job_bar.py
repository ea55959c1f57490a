"""A long job of the dashboard: how far it is, what came of it, and the button that stops it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from nbllm.core.forks import ChildSafeLock
from nbllm.core.rendering.escaping import text_html
from nbllm.notebook.dashboard.widgets import box, button, failure_words, mark, problem_html, text
from nbllm.notebook.loop import LoopJob, LoopThread

__all__ = ["JobBar"]


@dataclass(slots=True, eq=False)
class _Work:
    """What is being done. ``makes_way`` says that whatever is started next takes its place."""

    words: str
    makes_way: bool
    fraction: float | None = None
    job: LoopJob[None] | None = None


class JobBar:
    """One job at a time, on ``loop``. It goes on while no page shows it.

    ``on_end`` gets a line for the log when a job has ended.
    """

    def __init__(self, loop: LoopThread, on_end: Callable[[str], None]) -> None:
        self._loop, self._on_end = loop, on_end
        self._lock = ChildSafeLock()
        self._work: _Work | None = None
        self._outcome = ""
        self._shown = text()
        self._stop = button("Stop", "Stop it", self.stop)
        mark(self._stop, "nbllm-hidden", on=True)
        self.widget = box([self._shown, self._stop], "nbllm-line")

    @property
    def is_running(self) -> bool:
        """Whether a job has not ended yet."""
        return self._work is not None

    def start(
        self, work: Callable[[], Coroutine[Any, Any, str]], words: str, *, makes_way: bool = False
    ) -> None:
        """Do ``work``, whose result is what is said in the end.

        It takes the place of a job that ``makes_way``, as one does that only looks something up;
        beside any other one it is refused, in words.
        """
        mine = _Work(words, makes_way)
        with self._lock:
            before = self._work
            if is_free := before is None or before.makes_way:
                self._work, self._outcome = mine, ""
        if not is_free:
            self.say("One job at a time: wait for it, or press Stop first.")
            return
        if before is not None and before.job is not None:
            before.job.stop()
        mine.job = self._loop.submit(self._run(mine, work()))
        self.update()

    def report(self, words: str, fraction: float | None = None) -> None:
        """Note what is being done, and the finished fraction, 0 to 1; from any thread."""
        if (now := self._work) is not None:
            now.words, now.fraction = words, fraction

    def stop(self) -> None:
        """Stop the job."""
        if (now := self._work) is not None and now.job is not None:
            now.job.stop()

    def say(self, problem: str) -> None:
        """Show what is wrong, below the job that runs."""
        self._outcome = problem_html(problem)
        self.update()

    def update(self) -> None:
        """Show what is now."""
        with self._lock:  # so that nobody shows what was before after what is now
            now, outcome = self._work, self._outcome
            self._shown.value = (_progress(now) if now is not None else "") + outcome
            mark(self._stop, "nbllm-hidden", on=now is None)

    async def _run(self, mine: _Work, work: Coroutine[Any, Any, str]) -> None:
        outcome, line = _soft("■ stopped"), f"■ stopped: {mine.words}"
        try:
            said = await work
            outcome, line = _soft(said), said
        except Exception as error:  # noqa: BLE001 - nobody else hears of what a press raises
            words = failure_words(error)
            outcome, line = problem_html(words), f"✗ {words.splitlines()[0]}"
        finally:
            self._end(mine, outcome, line)

    def _end(self, mine: _Work, outcome: str, line: str) -> None:
        with self._lock:
            if self._work is not mine:  # another one has taken its place
                return
            self._work, self._outcome = None, outcome
        self.update()
        self._on_end(line)


def _progress(work: _Work) -> str:
    words = _soft(work.words)
    if work.fraction is None:
        return words
    width = f"{min(max(work.fraction, 0.0), 1.0):.1%}"
    return f'{words}<div class="nbllm-bar"><i style="width:{width}"></i></div>'


def _soft(words: str) -> str:
    return f'<div class="nbllm-soft nbllm-wrap">{text_html(words)}</div>'
