"""Loading and asking from a cell: waits, shows, and keeps what has come whatever happens."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Literal

from nbllm.core.errors import ModelNotFoundError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import WAIT_SECONDS
from nbllm.core.types import FinishReason, GenerationResult, LoadOptions, ModelInfo
from nbllm.notebook.asking.answer import Answer
from nbllm.notebook.asking.continuation import Asked, joined, sent_messages
from nbllm.notebook.asking.loading import NOTE_AFTER_SECONDS, Loading
from nbllm.notebook.asking.pipeline import DELIVER, FIT, Question
from nbllm.notebook.asking.recipe import recipe_of
from nbllm.notebook.asking.stop_button import StopButton
from nbllm.notebook.asking.values import keep_from_display
from nbllm.notebook.failures import Stopped
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.views.bundles import Ending
from nbllm.notebook.views.display import TICK_SECONDS, View
from nbllm.notebook.words import EARLY_ENDS, ready_words, status_words

__all__ = ["Asking", "ask", "load_model", "show_result"]


def load_model(
    session: NotebookSession,
    name: str | Path,
    view: View,
    *,
    alias: str | None = None,
    options: LoadOptions | None = None,
    wait: float = WAIT_SECONDS,
) -> tuple[ModelInterface, float]:
    """The loaded model, and the seconds that it took; what was unloaded for it is told.

    ``wait`` is for how many seconds it waits for busy models. Raises what the manager raises.
    """
    with Loading(session.manager, alias or str(name)) as loading:

        def look() -> None:
            if loading.words:
                view.note(loading.words)

        work = session.manager.load_model(
            name, alias=alias, options=options, progress=loading.report, wait=wait, reload=True
        )
        try:
            model, _ = session.loop.run(work, on_tick=look, tick_seconds=TICK_SECONDS)
        except KeyboardInterrupt:
            view.drop_note("")
            raise Stopped(f"Loading {alias or name} was stopped.") from None
        except Exception:  # whatever it is, it is told in place of the progress
            view.drop_note("")
            raise
        for words in loading.evictions(model.name):
            view.keep(words)
        return model, loading.seconds


class Asking:
    """One question on its way: the work, which runs on a loop, and what there is to see of it.

    The result goes into ``_llm``, and into ``variable``. ``ending`` is what is shown at the end.
    """

    def __init__(
        self, session: NotebookSession, question: Question, view: View, variable: str | None = None
    ) -> None:
        self.question, self.view = question, view
        self.answer = Answer(question.model or "", question.begun)
        self.ending = Ending("")
        self._session, self._variable = session, variable
        self._info: ModelInfo | None = None
        self._loading: Loading | None = None
        self._ready: list[str] = []
        self._began, self._is_fitting = time.monotonic(), False

    async def work(self) -> GenerationResult:
        """Load the model where that is still to be done, and ask it."""
        model = await self._model()
        self._info = model.info
        with model.uses.lease():  # what comes before the question may take a while
            self._began, self._is_fitting = time.monotonic(), True
            for fit in FIT:
                self.question = await fit(self._session, self.question, model)
            self._began, self._is_fitting = time.monotonic(), False
            asked, messages = self.question, sent_messages(self.question, model)
            events = model.stream(messages, options=asked.options, schema=asked.schema)
            result = await self.answer.follow(events, model.name, model.device)
            return joined(asked, result)

    async def _model(self) -> ModelInterface:
        """The model of the wanted name, or the one used last, or else the bundled one."""
        name, manager = self.question.model, self._session.manager
        try:
            return manager.get_model(name)
        except ModelNotFoundError:
            wanted = name or manager.bundled_model().name
        with Loading(manager, wanted) as loading:
            self._loading = loading
            options = self._session.load_options()
            model, info = await manager.load_model(wanted, options=options, progress=loading.report)
            why = "" if name else "No model was loaded, so the bundled one answers: "
            ready = why + ready_words(info, loading.seconds, model.unready)
            self._ready = [*loading.evictions(info.name), ready]
            self._loading = None
        return model

    @property
    def model(self) -> str:
        """The name of the model that answers, as far as it is known."""
        loading = self._loading.name if self._loading else self.question.model or ""
        return self._info.name if self._info else loading

    @property
    def activity(self) -> str:
        """What goes on as long as there is no text, in words; "" where it is not worth telling."""
        if self._loading is not None:
            return self._loading.words
        if time.monotonic() - self._began < NOTE_AFTER_SECONDS:
            return ""
        return (
            "fitting the conversation into the context"
            if self._is_fitting
            else self.answer.activity
        )

    def look(self) -> None:
        """Show what is new; called in turn with all else that uses the view."""
        self._keep_ready_lines()
        text = self.answer.take_new_text()
        if not text and self.activity:
            self.view.note(self.activity)
        self.view.add(text)

    def _keep_ready_lines(self) -> None:
        lines, self._ready = self._ready, []
        for words in lines:
            self.view.keep(words)

    @property
    def stage(self) -> Literal["loading", "waiting", "writing"]:
        """How far the work is."""
        if self._loading is not None:
            return "loading"
        return "writing" if self.answer.text else "waiting"

    def finish(self, result: GenerationResult, problem: str = "") -> None:
        """Keep and show the answer, a partial one too, and hand it to those who want more.

        ``problem`` is what the status line tells besides.
        """
        self._session.keep(result, self._variable)
        self._session.asked = Asked(self.question, result)
        self._keep_ready_lines()
        shown = self.question.render(result)
        remarks = [remark(result) for remark in self.question.remarks]
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
        for deliver in DELIVER:
            deliver(self._session, self.question, result)

    @property
    def stop_words(self) -> str:
        """What a stop does now."""
        if self._loading is not None:
            return f"Loading {self.model} was stopped."
        if self.answer.text:
            return "Stopped. What had arrived is in _llm."
        began = "the answer began" if self.answer.has_begun else "the prompt was sent"
        return f"Stopped before {began}."

    def stop(self) -> None:
        """Finish what had come when the reader stopped it."""
        if self.answer.has_begun:
            self.finish(self._partial(FinishReason.CANCELLED, "interrupt"))
        else:
            self.view.drop_note("")

    def fail(self, error: Exception, problem: str = "") -> None:
        """Finish what had come when ``error`` broke it, and tell the ``problem`` if there is one.

        Where the error itself is shown below the answer, none is needed.
        """
        if self.answer.has_begun:
            self.finish(self._partial(FinishReason.FAILED, type(error).__name__), problem)
        elif problem:
            self._show_ending(Ending("", f"✗ failed · {problem}"))
        else:
            self.view.drop_note("")

    def _partial(self, finish_reason: FinishReason, raw: str) -> GenerationResult:
        partial = self.answer.partial_result(finish_reason, raw)
        return replace(partial, schema=self.question.schema)

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


def ask(session: NotebookSession, question: Question, view: View) -> GenerationResult:
    """Show the answer while it comes, keep it, and return it; as a cell's value it is not shown.

    Raises ``Stopped`` on an interrupt and when its button is pressed, and what loading and asking
    raise.
    """
    asking = Asking(session, question, view, question.args.output)
    job = session.loop.submit(asking.work(), wake=asking.answer.wake)
    with StopButton(session, job.stop) as button:

        def look() -> None:
            asking.look()
            button.offer(view)

        try:
            result = job.wait(on_tick=look, tick_seconds=TICK_SECONDS)
        except (KeyboardInterrupt, CancelledError):
            what = asking.stop_words
            asking.stop()
            raise Stopped(what) from None
        except Exception as error:
            asking.fail(error)
            raise
        asking.finish(result)
        keep_from_display(session.shell, result)
        return result
