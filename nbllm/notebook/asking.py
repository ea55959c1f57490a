"""Loading and asking from a cell: waits, shows, and keeps what has come whatever happens."""

from __future__ import annotations

import time
from pathlib import Path

from nbllm.core.errors import ModelNotFoundError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import FinishReason, GenerationResult, LoadOptions
from nbllm.notebook.answer import Answer
from nbllm.notebook.display import TICK_SECONDS, View
from nbllm.notebook.failures import Stopped
from nbllm.notebook.pipeline import DELIVER, FIT, Question
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.words import loading_words, ready_words, status_words

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
        self.question = question
        self.answer = Answer(question.model or "")
        self._session, self._view = session, view
        self._loading: Loading | None = None
        self._ready = ""
        self._began = time.monotonic()

    async def work(self) -> GenerationResult:
        """Load the model where that is still to be done, and ask it."""
        model = await self._model()
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

    def look(self) -> None:
        """Show what is new; called in turn with nothing else that uses the view."""
        self._keep_ready_line()
        loading, text = self._loading, self.answer.take_new_text()
        if loading is not None:
            note = loading.words
        else:
            is_slow = time.monotonic() - self._began >= NOTE_AFTER_SECONDS
            note = self.answer.activity if is_slow else ""
        if note and not text:
            self._view.note(note)
        self._view.add(text)

    def _keep_ready_line(self) -> None:
        words, self._ready = self._ready, ""
        if words:
            self._view.keep(words)

    def end(self, result: GenerationResult) -> None:
        """Keep and show the answer, a partial one too, and hand it to those who want more."""
        self._session.keep(result, self.question.args.output)
        self._keep_ready_line()
        self._view.finish(self.question.render(result), status_words(result))
        for deliver in DELIVER:
            deliver(self._session, self.question, result)

    def interrupted(self) -> Stopped:
        """End the answer that the reader stopped; raise what is returned."""
        if self._loading is not None:
            self._view.drop_note("")
            return Stopped(f"Loading {self._loading.name} was stopped.")
        self.end(self.answer.partial_result(FinishReason.CANCELLED, "interrupt"))
        return Stopped("Stopped. What had arrived is in _llm.")

    def failed(self, error: Exception) -> None:
        """End the answer that ``error`` broke; before there was a model there is none to end."""
        if self._loading is None and self.answer.has_begun:
            self.end(self.answer.partial_result(FinishReason.FAILED, type(error).__name__))


def ask(session: NotebookSession, question: Question, view: View) -> None:
    """Show the answer while it comes, and keep it.

    Raises ``Stopped`` on an interrupt, and what loading and asking raise.
    """
    asking = Asking(session, question, view)
    try:
        result = session.loop.run(
            asking.work(),
            on_tick=asking.look,
            tick_seconds=TICK_SECONDS,
            wake=asking.answer.wake,
        )
    except KeyboardInterrupt:
        raise asking.interrupted() from None
    except Exception as error:
        asking.failed(error)
        raise
    asking.end(result)
