"""Asking from a cell: waits, shows, and keeps what has come whatever happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.displayhook import CapturingDisplayHook

from nbllm.core.generation import Generation, NewText
from nbllm.core.types import FinishReason, GenerationResult, ModelInfo
from nbllm.notebook.asking.pipeline import LastAnswer, Prepared, joined, sent_messages
from nbllm.notebook.asking.question import recipe_of
from nbllm.notebook.asking.waiting import NOTE_AFTER_SECONDS, Loading, StopButton, WantedModel
from nbllm.notebook.running_cell import Stopped
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.status_messages import EARLY_ENDS, activity_words, status_words
from nbllm.notebook.views.bundles import Ending
from nbllm.notebook.views.display import TICK_SECONDS, View

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["LiveAnswer", "ask", "keep_from_display", "show_result"]


class LiveAnswer:
    """One question being answered: the work, which runs on a loop, and what it shows meanwhile.

    The result goes into ``_llm``, and into ``variable``. ``ending`` is what is shown at the end.
    """

    def __init__(
        self, session: NotebookSession, prepared: Prepared, view: View, variable: str | None = None
    ) -> None:
        self.question, self.view = prepared.question, view
        self.generation = Generation(self.question.model or "")
        self._new_text = NewText(self.generation, self.question.begun)
        self.ending = Ending("")
        self._session, self._steps, self._variable = session, prepared.steps, variable
        self._info: ModelInfo | None = None
        self._wanted = WantedModel(session, self.question.model)
        self._began, self._is_fitting = time.monotonic(), False

    async def work(self) -> GenerationResult:
        """Load the model where that is still to be done, and ask it."""
        model = await self._wanted.get()
        self._info = model.info
        with model.uses.lease():  # what comes before the question may take a while
            self._began, self._is_fitting = time.monotonic(), True
            for step in self._steps:
                self.question = await step.fit(self.question, model)
            self._began, self._is_fitting = time.monotonic(), False
            question, messages = self.question, sent_messages(self.question, model)
            result = await model.generate(
                messages,
                options=question.options,
                schema=question.schema,
                generation=self.generation,
            )
            return joined(question, result)

    @property
    def _loading(self) -> Loading | None:
        return self._wanted.loading

    @property
    def model(self) -> str:
        """The name of the model that answers, as far as it is known."""
        loading = self._loading.name if self._loading else self.question.model or ""
        return self._info.name if self._info else loading

    @property
    def activity(self) -> str:
        """What goes on as long as there is no text, in words; "" where it is not worth telling."""
        if self._loading is not None:
            return self._loading.message
        if time.monotonic() - self._began < NOTE_AFTER_SECONDS:
            return ""
        return (
            "fitting the conversation into the context"
            if self._is_fitting
            else activity_words(self.generation)
        )

    @property
    def text(self) -> str:
        """All the text so far."""
        return self.question.begun + self.generation.text

    def look(self) -> None:
        """Show what is new; called in turn with all else that uses the view."""
        self._keep_ready_lines()
        text = self._new_text.take()
        if not text and self.activity:
            self.view.note(self.activity)
        self.view.add(text)

    def _keep_ready_lines(self) -> None:
        for line in self._wanted.lines():
            self.view.keep(line)

    @property
    def stage(self) -> Literal["loading", "waiting", "writing"]:
        """How far the work is."""
        if self._loading is not None:
            return "loading"
        return "writing" if self.text else "waiting"

    def finish(self, result: GenerationResult, problem: str = "") -> None:
        """Keep and show the answer, a partial one too, and hand it to those who want more.

        ``problem`` is what the status line tells besides.
        """
        self._session.keep(result, self._variable)
        self._session.part(LastAnswer).keep(Prepared(self.question, self._steps), result)
        self._keep_ready_lines()
        shown = self.question.render(result)
        remarks = [step.remark(self.question, result) for step in self._steps]
        self._show_ending(
            Ending(
                text=shown if isinstance(shown, str) else shown.data["text/plain"],
                form=None if isinstance(shown, str) else shown,
                written=None if shown == result.text else result.text,
                status=_status(self._session, result, problem, *remarks),
                reasoning=_reasoning(self._session, result),
                recipe=recipe_of(self._info, self.question.options, result) if self._info else {},
            )
        )
        for step in reversed(self._steps):
            step.deliver(self.question, result)

    @property
    def stop_message(self) -> str:
        """What a stop does now."""
        if self._loading is not None:
            return f"Loading {self.model} was stopped."
        if self.text:
            return "Stopped. The text so far is in _llm."
        began = "the answer began" if self.generation.has_begun else "the prompt was sent"
        return f"Stopped before {began}."

    def stop(self) -> None:
        """Finish what had come when the reader stopped it."""
        if self.generation.has_begun:
            self.finish(self.partial(FinishReason.CANCELLED, "interrupt"))
        else:
            self.view.drop_note("")

    def fail(self, error: Exception, problem: str = "") -> None:
        """Finish what had come when ``error`` broke it, and tell the ``problem`` if there is one.

        Where the error itself is shown below the answer, none is needed.
        """
        if self.generation.has_begun:
            self.finish(self.partial(FinishReason.FAILED, type(error).__name__), problem)
        elif problem:
            self._show_ending(Ending("", f"✗ failed · {problem}"))
        else:
            self.view.drop_note("")

    def partial(self, finish_reason: FinishReason, raw: str) -> GenerationResult:
        """What has come so far, as an answer that ended early."""
        partial = self.generation.partial_result(finish_reason, raw)
        return joined(self.question, replace(partial, schema=self.question.schema))

    def _show_ending(self, ending: Ending) -> None:
        self.ending = ending
        self.view.finish(ending)


def show_result(session: NotebookSession, result: GenerationResult) -> None:
    """Show an answer that is the value of a cell as it was shown when it came."""
    view = session.open_view("llm_last", is_value=True)
    status, reasoning = _status(session, result), _reasoning(session, result)
    view.finish(Ending(result.text, status=status, reasoning=reasoning))


def _status(
    session: NotebookSession, result: GenerationResult, problem: str = "", *more: str
) -> str:
    """The line under an answer, "" where the reader wants none and nothing is wrong."""
    is_told = session.settings.show_status or problem or result.finish_reason in EARLY_ENDS
    return status_words(result, problem, *more) if is_told else ""


def _reasoning(session: NotebookSession, result: GenerationResult) -> str:
    return result.reasoning if session.settings.show_reasoning else ""


def ask(session: NotebookSession, prepared: Prepared, view: View) -> GenerationResult:
    """Show the answer while it comes, keep it, and return it; as a cell's value it is not shown.

    Raises ``Stopped`` on an interrupt and when its button is pressed, and what loading and asking
    raise.
    """
    live = LiveAnswer(session, prepared, view, prepared.question.flags.output)
    job = session.loop.submit(live.work(), wake=live.generation.wake)
    with StopButton(session, job.stop) as button:

        def look() -> None:
            live.look()
            button.offer(view)

        try:
            result = job.wait(on_tick=look, tick_seconds=TICK_SECONDS)
        except (KeyboardInterrupt, CancelledError):
            message = live.stop_message
            live.stop()
            raise Stopped(message) from None
        except Exception as error:
            live.fail(error)
            raise
        live.finish(result)
        keep_from_display(session.shell, result)
        return result


class _Display:
    """Stands in front of a display hook until the cell ends, and passes shown answers over.

    They become ``_`` and ``Out[n]`` all the same.
    """

    def __init__(self, shell: InteractiveShell, hook: Callable[[object], object]) -> None:
        self._shell, self._hook = shell, hook
        self._shown: list[object] = []

    def pass_over(self, answer: object) -> None:
        self._shown.append(answer)

    def __call__(self, value: object = None) -> None:
        if all(value is not answer for answer in self._shown):
            self._hook(value)
            return
        values: Any = self._shell.displayhook
        is_captured = self._hook is not self._shell.displayhook
        if not is_captured and not values.quiet():
            values.update_user_ns(value)
            values.fill_exec_result(value)


def keep_from_display(shell: InteractiveShell, answer: object) -> None:
    """Do not show ``answer`` if it is the value of the cell that runs now."""
    hook = sys.displayhook
    if not isinstance(hook, _Display):
        # Whoever replaced the hook puts back the one before, and so takes this one away.
        if hook is not shell.display_trap.hook and not isinstance(hook, CapturingDisplayHook):
            return
        hook = _Display(shell, hook)
        sys.displayhook = hook
    hook.pass_over(answer)
