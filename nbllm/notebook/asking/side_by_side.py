"""``%%llm --models a,b,c``: one prompt for several models, their answers side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from nbllm.core.errors import AnswerFormError
from nbllm.core.rendering.escaping import encodable, text_html
from nbllm.core.rendering.markdown_html import answer_html
from nbllm.core.types import FinishReason, GenerationResult
from nbllm.notebook.asking.live_answer import LiveAnswer, keep_from_display
from nbllm.notebook.asking.pipeline import Prepared, prepare, question_from
from nbllm.notebook.asking.waiting import StopButton
from nbllm.notebook.forms.diffs import word_diffs
from nbllm.notebook.running_cell import Stopped
from nbllm.notebook.session import RESULT_VARIABLE
from nbllm.notebook.views.bundles import Bundle, Ending, folded_html, note_html
from nbllm.notebook.views.display import TICK_SECONDS, View

if TYPE_CHECKING:
    from nbllm.notebook.asking.question import AskFlags
    from nbllm.notebook.session import NotebookSession

__all__ = ["Column", "Columns", "ask_all", "checked_models"]

_GRID = (
    "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17em), 1fr)); "
    "gap: 0.7em; align-items: start"
)
_COLUMN = (
    "min-width: 0; overflow-x: auto; padding: 0.3em 0.8em 0.5em 0.8em; border-radius: 4px; "
    "border: 1px solid var(--jp-border-color1, rgba(128, 128, 128, 0.5))"
)
_LINE = 76
_HEAD = "font-weight: 600; overflow-wrap: anywhere; margin-bottom: 0.3em"


class Column:
    """The ``View`` of one of the answers; what it shows is drawn with the others."""

    def __init__(self, title: str) -> None:
        self.title, self.text, self.live = title, "", ""
        self.ending: Ending | None = None
        self._kept: list[str] = []
        self._noted = self._html = ""

    def note(self, words: str) -> None:  # noqa: D102
        self._noted = words

    def keep(self, words: str) -> None:  # noqa: D102
        self._kept.append(words)
        self._noted = ""

    def drop_note(self, words: str) -> None:  # noqa: D102
        self._noted = words

    def control(self, control: Bundle) -> None:  # noqa: D102
        pass

    def draw(self, key: object, make: object) -> None:  # noqa: D102
        pass

    def add(self, text: str) -> None:  # noqa: D102
        self.text += text

    def finish(self, ending: Ending) -> None:  # noqa: D102
        self.ending, self._noted = ending, ""
        self._html = _ended_html(ending)

    @property
    def state(self) -> tuple[object, ...]:
        """Differs where there is something else to show."""
        return len(self.text), self._noted, len(self._kept), self.live, self.ending is None

    @property
    def html(self) -> str:
        """All of it, at this moment."""
        notes = "".join(map(note_html, filter(None, [*self._kept, self._noted])))
        body = self._html if self.ending else self._growing()
        head = f'<div style="{_HEAD}">{text_html(self.title)}</div>'
        return f'<div style="{_COLUMN}">{head}{notes}{body}</div>'

    def _growing(self) -> str:
        text = answer_html(self.text, coloured=False) if self.text else ""
        return text + (note_html(self.live) if self.live else "")

    @property
    def plain(self) -> str:
        """The same as text."""
        shown = [self.ending.text, self.ending.status] if self.ending else [self.text, self._noted]
        return "\n\n".join(filter(None, [f"── {self.title} ──", *map(encodable, shown)]))


def _ended_html(ending: Ending) -> str:
    thought = folded_html(ending.reasoning) if ending.reasoning else ""
    answer = "".join(str(bundle.data.get("text/html", "")) for bundle in ending.answer)
    return thought + answer + (note_html(ending.status) if ending.status else "")


class Columns:
    """The columns of one cell, drawn into its ``view``."""

    def __init__(self, view: View, titles: Sequence[str]) -> None:
        self.view = view
        self.columns = tuple(map(Column, titles))

    def look(self, words: str) -> None:
        """Show what is new; where nothing can be drawn, ``words`` say how far the answers are."""
        self.view.draw(tuple(column.state for column in self.columns), self._bundle)
        self.view.note(shorten(words, _LINE, placeholder=" …"))  # a terminal has one line for it

    def finish(self, recipe: Mapping[str, Any], below: Sequence[Bundle] = ()) -> None:
        """Leave all of it in the cell, with what stands ``below`` the columns."""
        self.view.finish(Ending("", form=self._bundle(below), recipe=recipe))

    def _bundle(self, below: Sequence[Bundle] = ()) -> Bundle:
        grid = "".join(column.html for column in self.columns)
        html = f'<div style="{_GRID}">{grid}</div>'
        plain = [column.plain for column in self.columns]
        return Bundle(
            {
                "text/html": html + "".join(str(each.data["text/html"]) for each in below),
                "text/plain": "\n\n".join([*plain, *(each.data["text/plain"] for each in below)]),
            }
        )


_MOST_MODELS = 12
_NEVER = {
    "name": "a model's name",
    "model": "--model",
    "go_on": "--continue",
    "bg": "--bg",
    "chat": "--chat",
    "form": "--as",
    "frame": "--map",
    "show_prompt": "--show-prompt",
}


def checked_models(flags: AskFlags) -> AskFlags:
    """The flags, where ``--models`` with one name is that model, as ``--model`` says it.

    Raises ``UsageError`` for flags that do not go together.
    """
    if flags.diff and len(flags.models) < 2:
        raise UsageError("--diff needs --models A,B: it compares their answers")
    if not flags.models:
        return flags
    if len(flags.models) == 1:
        if given := flags.name or flags.model:
            raise UsageError(f"two models given: {given} and {flags.models[0]}; give one")
        return replace(flags, model=flags.models[0], models=())
    if len(flags.models) > _MOST_MODELS:
        count = len(flags.models)
        raise UsageError(f"--models takes up to {_MOST_MODELS} models, as in a,b,c (got {count})")
    for name, flag in _NEVER.items():
        if getattr(flags, name) not in (None, False):
            raise UsageError(f"--models cannot be combined with {flag}")
    return flags


def ask_all(session: NotebookSession, text: str, flags: AskFlags) -> list[GenerationResult]:
    """The answers of all models, in their order, also in ``_llm`` and in the variable of ``-o``.

    A model that fails has a result with ``FinishReason.FAILED``, and its error among the notes.
    Raises ``Stopped`` on an interrupt and when the button is pressed, and the first model's error
    where all have failed.
    """
    columns = Columns(session.open_view("llm"), flags.models)
    answers = [
        _Answer(session, _prepared(session, text, flags, column.title), column)
        for column in columns.columns
    ]
    return _SideBySide(session, flags, columns, answers).ask()


def _prepared(session: NotebookSession, text: str, flags: AskFlags, model: str) -> Prepared:
    """The question to one model, with steps of its own: they learn what holds for that one.

    ``--continue`` could go on with one of the answers only, so it is not offered.
    """
    alone = replace(flags, output=None, models=(), model=model)
    question = replace(question_from(session, text, alone), can_continue=False)
    return prepare(session, question)


class _Answer:
    """One of the answers, and how it ended."""

    def __init__(self, session: NotebookSession, prepared: Prepared, column: Column) -> None:
        self.live = LiveAnswer(session, prepared, column)
        self.column, self.is_over = column, False
        self.result: GenerationResult | None = None
        self.failure: Exception | None = None

    async def work(self) -> None:
        """Ask; a failure ends this one alone."""
        try:
            self.result = await self.live.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self.failure = error

    def look(self) -> None:
        """Show what is new, in the cell's thread."""
        if self.is_over:
            return
        generation = self.live.generation
        speed = generation.tokens_per_second
        told = f"{generation.tokens:,} tokens" if generation.tokens else ""
        self.column.live = f"{told} · {speed:,.0f} tokens/s" if speed else told
        self.live.look()
        if self.failure is not None or self.result is not None:
            self.end()

    def end(self) -> None:
        """Show and keep how it ended; one that has not is stopped."""
        if self.is_over:
            return
        self.is_over = True
        if self.result is not None:
            self._deliver(self.result)
        elif self.failure is not None:
            problem = str(self.failure)
            self.live.fail(self.failure, problem)
            failed = self.live.partial(FinishReason.FAILED, type(self.failure).__name__)
            self.result = replace(failed, notes=(*failed.notes, problem))
        else:
            message = self.live.stop_message
            self.live.stop()
            self.column.note(message if self.column.ending is None else "")
            self.result = self.live.partial(FinishReason.CANCELLED, "interrupt")

    def _deliver(self, result: GenerationResult) -> None:
        try:
            self.live.finish(result)
        except AnswerFormError as error:  # it is shown by then
            self.column.keep(str(error))
            self.result = replace(result, notes=(*result.notes, str(error)))

    @property
    def words(self) -> str:
        """How far it is, for a terminal."""
        told = "done" if self.is_over else self.column.live or self.live.activity or "waiting"
        return f"{self.column.title}: {told}"


class _SideBySide:
    """All the answers of one cell."""

    def __init__(
        self,
        session: NotebookSession,
        flags: AskFlags,
        columns: Columns,
        answers: Sequence[_Answer],
    ) -> None:
        self._session, self._flags = session, flags
        self._columns, self._answers = columns, answers

    def ask(self) -> list[GenerationResult]:
        """See ``ask_all``."""
        job = self._session.loop.submit(self._work(), wake=threading.Event())
        with StopButton(self._session, job.stop) as button:

            def look() -> None:
                self._look()
                button.offer(self._columns.view)

            try:
                job.wait(on_tick=look, tick_seconds=TICK_SECONDS)
            except (KeyboardInterrupt, CancelledError):
                self._finish()
                raise Stopped("Stopped. The texts so far are in _llm.") from None
            results = self._finish()
        failures = [answer.failure for answer in self._answers]
        if failures[0] is not None and None not in failures:
            raise failures[0]
        keep_from_display(self._session.shell, results)
        return results

    async def _work(self) -> None:
        await asyncio.gather(*(answer.work() for answer in self._answers))

    def _look(self) -> None:
        for answer in self._answers:
            answer.look()
        self._columns.look(" · ".join(answer.words for answer in self._answers))

    def _finish(self) -> list[GenerationResult]:
        for answer in self._answers:
            answer.end()
        results = [answer.result for answer in self._answers if answer.result is not None]
        names = [RESULT_VARIABLE, *([self._flags.output] if self._flags.output else [])]
        self._session.shell.user_ns.update(dict.fromkeys(names, results))
        recipes = [dict(a.live.ending.recipe) for a in self._answers]
        texts = [(each, r.text) for each, r in zip(self._flags.models, results, strict=True)]
        compared = [named for named in texts if named[1]] if self._flags.diff else []
        below = [word_diffs(compared)] if len(compared) > 1 else []
        self._columns.finish({"answers": recipes} if any(recipes) else {}, below)
        return results
