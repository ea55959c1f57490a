"""A long job of the dashboard: how far it is, what came of it, and the button that stops it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from nbllm.core.rendering.escaping import text_html
from nbllm.notebook.dashboard.widgets import box, button, failure_words, mark, problem_html, text
from nbllm.notebook.loop import LoopJob, LoopThread

__all__ = ["JobBar"]


class JobBar:
    """One job at a time, on ``loop``. It goes on while no page shows it.

    ``on_end`` gets a line for the log when a job has ended.
    """

    def __init__(self, loop: LoopThread, on_end: Callable[[str], None]) -> None:
        self._loop, self._on_end = loop, on_end
        self._job: LoopJob[None] | None = None
        self._words, self._outcome = "", ""
        self._fraction: float | None = None
        self._shown = text()
        self._stop = button("Stop", "Stop it", self.stop)
        mark(self._stop, "nbllm-hidden", on=True)
        self.widget = box([self._shown, self._stop], "nbllm-line")

    @property
    def is_running(self) -> bool:
        """Whether a job has not ended yet."""
        return self._job is not None and not self._job.result.done()

    def start(self, work: Callable[[], Coroutine[Any, Any, str]], words: str) -> None:
        """Do ``work``, whose result is what is said in the end, unless a job is running."""
        if self.is_running:
            return
        self.report(words)
        self._outcome = ""
        self._job = self._loop.submit(self._run(work()))
        self.update()

    def report(self, words: str, fraction: float | None = None) -> None:
        """Note what is being done, and the finished fraction, 0 to 1; from any thread."""
        self._words, self._fraction = words, fraction

    def stop(self) -> None:
        """Stop the job."""
        if self._job is not None:
            self._job.stop()

    def say(self, problem: str) -> None:
        """Show what is wrong in place of a job's outcome."""
        self._outcome = problem_html(problem)
        self.update()

    def update(self) -> None:
        """Show what is now."""
        is_running = self.is_running and not self._outcome
        self._shown.value = self._progress() if is_running else self._outcome
        mark(self._stop, "nbllm-hidden", on=not is_running)

    async def _run(self, work: Coroutine[Any, Any, str]) -> None:
        outcome, line = _soft("■ stopped"), f"■ stopped: {self._words}"
        try:
            said = await work
            outcome, line = _soft(said), said
        except Exception as error:  # noqa: BLE001 - nobody else hears of what a press raises
            words = failure_words(error)
            outcome, line = problem_html(words), f"✗ {words.splitlines()[0]}"
        finally:
            self._outcome = outcome
            self.update()
            self._on_end(line)

    def _progress(self) -> str:
        words = _soft(self._words)
        if self._fraction is None:
            return words
        width = f"{min(max(self._fraction, 0.0), 1.0):.1%}"
        return f'{words}<div class="nbllm-bar"><i style="width:{width}"></i></div>'


def _soft(words: str) -> str:
    return f'<div class="nbllm-soft nbllm-wrap">{text_html(words)}</div>'
