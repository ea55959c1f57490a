"""Loading and asking from a cell: waits, shows, and keeps what has come whatever happens."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from pathlib import Path

from nbllm.core.errors import ModelNotFoundError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import FinishReason, GenerationResult, LoadOptions, ModelInfo
from nbllm.notebook.answer import Answer
from nbllm.notebook.bundles import Ending
from nbllm.notebook.display import TICK_SECONDS, View
from nbllm.notebook.failures import Stopped
from nbllm.notebook.pipeline import DELIVER, FIT, Question
from nbllm.notebook.recipe import recipe_of
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.stop_button import StopButton
from nbllm.notebook.words import EARLY_ENDS, loading_words, ready_words, status_words

__all__ = ["Asking", "ask", "load_model"]

NOTE_AFTER_SECONDS = 0.3
"""What is done sooner shows no progress: it would only flicker."""


class Loading:
    """One load on its way, and what there is to see of it."""

    def __init__(self, name: str) -> None:
        self.name, self._fraction = name, 0.0
        self._began = time.monotonic()

    def report(self, fraction: float) -> None:
        """Takes the progress, from any thread."""
        self._fraction = fraction

    @property
    def seconds(self) -> float:
        """Since the load began."""
        return time.monotonic() - self._began

    @property
    def words(self) -> str:
        """How far it is; "" as long as it is not worth telling."""
        told = self.seconds >= NOTE_AFTER_SECONDS
        return loading_words(self.name, self._fraction) if told else ""


def load_model(
    session: NotebookSession,
    name: str | Path,
    view: View,
    *,
    alias: str | None = None,
    options: LoadOptions | None = None,
) -> tuple[ModelInterface, float]:
    """The loaded model, and the seconds that it took. Raises what the manager raises."""
    loading = Loading(alias or str(name))

    def look() -> None:
        if loading.words:
            view.note(loading.words)

    work = session.manager.load_model(name, alias=alias, options=options, progress=loading.report)
    try:
        model, _ = session.loop.run(work, on_tick=look, tick_seconds=TICK_SECONDS)
    except KeyboardInterrupt:
        view.drop_note("")
        raise Stopped(f"Loading {alias or name} was stopped.") from None
    return model, loading.seconds


class Asking:
    """One question on its way: the work, which runs on a loop, and what there is to see of it."""

    def __init__(self, session: NotebookSession, question: Question, view: View) -> None:
        self.question, self.view = question, view
        self.answer = Answer(question.model or "")
        self._session = session
        self._info: ModelInfo | None = None
        self._loading: Loading | None = None
        self._ready = ""
        self._began = time.monotonic()

    async def work(self) -> GenerationResult:
        """Load the model where that is still to be done, and ask it."""
        model = await self._model()
        self._info = model.info
        for fit in FIT:
            self.question = await fit(self._session, self.question, model)
        self._began = time.monotonic()
        events = model.stream(self.question.messages, options=self.question.options)
        return await self.answer.follow(events, model.name)

    async def _model(self) -> ModelInterface:
        """The model of the wanted name, or the one used last, or else the bundled one."""
        name, manager = self.question.model, self._session.manager
        try:
            return manager.get_model(name)
        except ModelNotFoundError:
            wanted = name or manager.bundled_model().name
        self._loading = loading = Loading(wanted)
        options = self._session.load_options()
        model, info = await manager.load_model(wanted, options=options, progress=loading.report)
        why = "" if name else "No model was loaded, so this is the bundled one: "
        self._ready, self._loading = why + ready_words(info, loading.seconds), None
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
        is_slow = time.monotonic() - self._began >= NOTE_AFTER_SECONDS
        return self.answer.activity if is_slow else ""

    def look(self) -> None:
        """Show what is new; called in turn with all else that uses the view."""
        self._keep_ready_line()
        text = self.answer.take_new_text()
        if not text and self.activity:
            self.view.note(self.activity)
        self.view.add(text)

    def _keep_ready_line(self) -> None:
        words, self._ready = self._ready, ""
        if words:
            self.view.keep(words)

    def end(self, result: GenerationResult, variable: str | None) -> None:
        """Keep and show the answer, a partial one too, and hand it to those who want more."""
        self._session.keep(result, variable)
        self._keep_ready_line()
        self.view.finish(self._ending(result))
        for deliver in DELIVER:
            deliver(self._session, self.question, result)

    def _ending(self, result: GenerationResult) -> Ending:
        settings = self._session.settings
        is_told = settings.show_status or result.finish_reason in EARLY_ENDS
        return Ending(
            text=self.question.render(result),
            status=status_words(result) if is_told else "",
            reasoning=result.reasoning if settings.show_reasoning else "",
            recipe=recipe_of(self._info, self.question.options, result) if self._info else {},
        )

    def stopped_result(self) -> GenerationResult | None:
        """What had come when the reader stopped it; None where it was still loading."""
        if self._loading is not None:
            return None
        return self.answer.partial_result(FinishReason.CANCELLED, "interrupt")

    def failed_result(self, error: Exception) -> GenerationResult | None:
        """What had come when ``error`` broke it; None where it had not been asked."""
        if not self.answer.has_begun:
            return None
        return self.answer.partial_result(FinishReason.FAILED, type(error).__name__)


def ask(session: NotebookSession, question: Question, view: View) -> None:
    """Show the answer while it comes, and keep it.

    Raises ``Stopped`` on an interrupt and when its button is pressed, and what loading and asking
    raise.
    """
    asking = Asking(session, question, view)
    job = session.loop.submit(asking.work(), wake=asking.answer.wake)
    with StopButton(session, job.stop) as button:

        def look() -> None:
            asking.look()
            button.offer(view)

        try:
            result = job.wait(on_tick=look, tick_seconds=TICK_SECONDS)
        except (KeyboardInterrupt, CancelledError):
            raise _stopped(asking) from None
        except Exception as error:
            partial = asking.failed_result(error)
            if partial is not None:
                asking.end(partial, question.args.output)
            raise
        asking.end(result, question.args.output)


def _stopped(asking: Asking) -> Stopped:
    """End what the reader stopped; raise what is returned."""
    partial = asking.stopped_result()
    if partial is None:
        asking.view.drop_note("")
        return Stopped(f"Loading {asking.model} was stopped.")
    asking.end(partial, asking.question.args.output)
    return Stopped("Stopped. What had arrived is in _llm.")
