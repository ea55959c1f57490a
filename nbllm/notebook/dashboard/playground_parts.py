"""Parts of the playground: its options, answer, earlier prompts, what it offers, and its cell."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import ipywidgets

from nbllm.core.errors import InvalidOptionError
from nbllm.core.messages import Message, beginning_of
from nbllm.core.option_table import options_of
from nbllm.core.rendering.escaping import code_html, text_html
from nbllm.core.texts import quoted
from nbllm.core.types import GenerationOptions
from nbllm.notebook.dashboard.page_code import COPY, TO_CELL, runs
from nbllm.notebook.dashboard.widgets import (
    box,
    button,
    field,
    mark,
    problem_html,
    set_children,
    text,
)
from nbllm.notebook.magic_line import numeral
from nbllm.notebook.views.bundles import Bundle, rendered
from nbllm.notebook.views.markdown_view import GrowingText

__all__ = ["AnswerArea", "Offer", "OptionsForm", "PromptHistory", "cell_source"]

TICK_SECONDS = 0.25


class AnswerArea:
    """A growing Markdown text in output widgets: what is finished is sent once, the tail again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.widget = box([], "nbllm-answer")
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        set_children(self.widget, [])
        self._text = GrowingText(least_seconds=TICK_SECONDS, clock=self._clock)

    def add(self, more: str) -> None:
        """Show more, at once or a little later."""
        update = self._text.add(more)
        if update is None:
            return
        if update.finished is not None:
            self._show(update.finished)
            set_children(self.widget, [*self.widget.children, ipywidgets.Output()])
        self._show(update.growing)

    def finish(self, whole: str) -> None:
        """Show the whole in one piece."""
        set_children(self.widget, self.widget.children[:1])
        self._show(rendered(whole))

    def _show(self, bundle: Bundle) -> None:
        if not self.widget.children:
            set_children(self.widget, [ipywidgets.Output()])
        output = {"output_type": "display_data", "data": dict(bundle.data), "metadata": {}}
        self.widget.children[-1].outputs = (output,) if bundle.data["text/plain"] else ()


KEPT = 50
_LONGEST_LABEL = 80
_NONE = ("earlier prompts", "")


class PromptHistory:
    """A list to choose from, the newest first; ``on_choose`` gets the whole prompt."""

    def __init__(self, on_choose: Callable[[str], None]) -> None:
        self._on_choose = on_choose
        self.widget = field(
            ipywidgets.Dropdown(description="History", options=[_NONE]),
            "Earlier prompts, the newest first.",
        )
        self.widget.observe(self._take, "value")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts, the newest first."""
        return tuple(prompt for _, prompt in self.widget.options[1:])

    def add(self, prompt: str) -> None:
        """Put a prompt before the others; one that was there already moves."""
        others = [each for each in self.prompts if each != prompt]
        kept = [prompt, *others][:KEPT]
        self.widget.options = (_NONE, *((_label(each), each) for each in kept))

    def _take(self, change: object) -> None:
        chosen = self.widget.value
        if chosen:
            self.widget.value = ""  # so that it can be chosen once more
            self._on_choose(chosen)


def _label(prompt: str) -> str:
    line = beginning_of([Message("user", prompt)])
    return line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1].rstrip()}…"


LONGEST = 1_000_000
"""Characters; a page that is given more of them freezes."""


class Offer:
    """Offers one text at a time; ``say`` takes a line on what became of it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._end = say, ""
        self._shown = text()
        self._done = button("Done", "", self._finish)
        self._done.add_class("nbllm-done")
        self._done.add_class("nbllm-hidden")
        self.widget = box([self._shown, self._done])

    def copy(self, whole: str) -> None:
        """Put it into the clipboard."""
        self._offer(whole, "Copy this text:", COPY, "Copied.")

    def to_cell(self, source: str) -> None:
        """Put it into a cell below the one that shows the dashboard."""
        self._offer(source, "Copy this into a cell:", TO_CELL, "Added as a cell below.")

    def clear(self) -> None:
        """Offer nothing any more."""
        self._shown.value = ""

    def _offer(self, whole: str, words: str, script: str, end: str) -> None:
        self._end = end
        self._shown.value = (
            f'<div class="nbllm-offer" data-id="{uuid.uuid4().hex}">'
            f'<div class="nbllm-soft">{text_html(words)}</div>'
            f"<pre>{code_html(whole[:LONGEST])}</pre>{runs(script)}</div>"
        )

    def _finish(self) -> None:
        """The page says that it is done."""
        self.clear()
        self._say(self._end)


_FLAGS = {
    "max_tokens": "--max-tokens",
    "temperature": "--temperature",
    "seed": "--seed",
}


def cell_source(
    magic: str, model: str, prompt: str, system: str, options: GenerationOptions
) -> str:
    """A cell of ``%%magic``; braces in the prompt are sent as they are, as the playground does."""
    name = [model] if model and not model.startswith("-") else ["--model", model] if model else []
    values = options.set_values()
    given = [word for key, flag in _FLAGS.items() if key in values for word in (flag, values[key])]
    words = [
        *map(quoted, name),
        *map(str, given),
        *(["--system", quoted(" ".join(system.split()))] if system else []),
        *(["--raw"] if "{" in prompt else []),
    ]
    return "\n".join([" ".join([f"%%{magic}", *words]), prompt])


_FIELDS = (
    ("max_tokens", "Max tokens", "300"),
    ("temperature", "Temperature", ""),
    ("seed", "Seed", ""),
)
_OPTIONS = options_of(GenerationOptions)


class OptionsForm:
    """The ``inputs`` by the names of their options, and a line for what is wrong with them."""

    def __init__(self) -> None:
        self._problem = text()
        self.inputs: dict[str, Any] = {
            name: _input(name, label, value) for name, label, value in _FIELDS
        }
        for entry in self.inputs.values():
            entry.observe(lambda _: self.check(), "value")

    @property
    def problem(self) -> Any:
        """The widget that says what is wrong."""
        return self._problem

    def options(self) -> GenerationOptions:
        """What is filled in. Raises ``InvalidOptionError`` for the first field that is wrong."""
        values: dict[str, Any] = {}
        for name in self.inputs:
            values |= self._value(name)
        return GenerationOptions.of(values)

    def check(self) -> None:
        """Mark the fields that are wrong, and say why."""
        problems = {name: self._problem_of(name) for name in self.inputs}
        for name, problem in problems.items():
            mark(self.inputs[name], "nbllm-wrong", on=bool(problem))
        self._problem.value = problem_html("\n".join(filter(None, problems.values())))

    def _problem_of(self, name: str) -> str:
        try:
            GenerationOptions.of(self._value(name))
        except InvalidOptionError as error:
            return str(error)
        return ""

    def _value(self, name: str) -> dict[str, Any]:
        written = self.inputs[name].value.strip()
        return {name: numeral(written)} if written else {}


def _input(name: str, label: str, value: str) -> Any:
    made = ipywidgets.Text(value, description=label, placeholder="default")
    about, words = _OPTIONS[name].about, _OPTIONS[name].kind.words
    return field(made, f"{about} {words[:1].upper()}{words[1:]}. Empty: the model's default.")
