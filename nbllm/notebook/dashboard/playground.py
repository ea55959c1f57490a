"""The playground: ask a model from the dashboard, and watch its answer come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import ipywidgets

from nbllm.core.errors import InvalidOptionError
from nbllm.core.generation import Generation
from nbllm.core.model_manager import ModelManager
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import BudgetWait, Completed, ReasoningDelta, TextDelta
from nbllm.notebook.dashboard.playground_parts import (
    AnswerArea,
    Offer,
    OptionsForm,
    PromptHistory,
    cell_source,
)
from nbllm.notebook.dashboard.saved_view import Section
from nbllm.notebook.dashboard.widgets import (
    Choice,
    box,
    button,
    card,
    failure_words,
    field,
    on_submit,
    problem_html,
    text,
)
from nbllm.notebook.loop import LoopJob, LoopThread
from nbllm.notebook.status_messages import budget_words, status_words

__all__ = ["Playground"]

SAVED_CHARACTERS = 20_000
"""Of an answer in a saved notebook, whose state is sent again with each change."""


class Playground:
    """Inputs, Send and Stop, and the answer. Its work runs on ``loop``.

    ``magic`` says what ``%%llm`` is called at the moment; ``version`` grows with every answer.
    """

    def __init__(
        self, manager: ModelManager, loop: LoopThread, magic: Callable[[], str] = lambda: "llm"
    ) -> None:
        self._manager, self._loop, self._magic = manager, loop, magic
        self._job: LoopJob[None] | None = None
        self._is_asking = False
        self._asked, self._end = "", ""
        self.version = 0
        self._generation = Generation()
        self._options, self.answer = OptionsForm(), AnswerArea()
        self._status = text()
        self.offer_text = Offer(self._say)
        self._build_inputs()
        self._build_buttons()
        settings = [self._model, *self._options.inputs.values()]
        self.widget = card(
            "Playground",
            box(settings, "nbllm-fields"),
            self._options.problem,
            box([self._system, self.history.widget], "nbllm-fields", "nbllm-two"),
            self._prompt,
            box([*self._buttons, self._status], "nbllm-actions"),
            self.offer_text.widget,
            self.answer.widget,
        )
        self.widget.add_class("nbllm-entry")

    def _build_inputs(self) -> None:
        self._model = field(Choice("Model"))
        self._system = field(
            ipywidgets.Text(description="System prompt", placeholder="none"),
            "System prompt: instructions before the prompt.",
        )
        self._prompt = field(
            ipywidgets.Textarea(description="Prompt", placeholder="Ctrl+Enter sends it", rows=3),
            "",
            "nbllm-text",
        )
        on_submit(self._prompt, self.send)
        self.history = PromptHistory(self._reuse)

    def _build_buttons(self) -> None:
        self._send = button("Send", "Send the prompt (Ctrl+Enter)", self.send, style="primary")
        self._send.add_class("nbllm-go")
        self._stop = button("Stop", "Stop the response; the text so far is kept", self.stop)
        self._stop.disabled = True
        copy = button("Copy", "Copy the response as it was written", self.copy)
        cell = button("To a cell", "Add a %%llm cell with this prompt", self.to_cell)
        self._buttons = (self._send, self._stop, copy, cell)

    def offer(self, names: Sequence[str]) -> None:
        """The models to choose from, the preferred one first; the choice is kept if it can be."""
        self._model.offer(names)

    def choose(self, name: str) -> None:
        """Ask this model from now on."""
        if name not in self._model.options:
            self._model.offer((name, *self._model.options))
        self._model.value = name

    def send(self) -> None:
        """Ask, unless an answer is on its way."""
        if self._is_asking:
            return
        self._is_asking = True
        self._send.disabled, self._stop.disabled = True, False
        self._job = self._loop.submit(self._ask())

    def stop(self) -> None:
        """Stop the answer, or the load that it waits for."""
        if self._job is not None:
            self._job.stop()

    def copy(self) -> None:
        """Offer the answer for the clipboard."""
        if self._generation.texts:
            self.offer_text.copy(self._generation.text)
        else:
            self._say("There is no response to copy yet.")

    def to_cell(self) -> None:
        """Offer a cell that asks what is filled in."""
        prompt, system = self._prompt.value.strip(), self._system.value.strip()
        if not prompt:
            self._say("Write a prompt first.")
            return
        try:
            options = self._options.options()
        except InvalidOptionError:
            self._options.check()
            return
        model = self._model.value or ""
        self.offer_text.to_cell(cell_source(self._magic(), model, prompt, system, options))

    @property
    def section(self) -> Section:
        """The last prompt, how it ended, and the answer."""
        if not self._asked:
            return Section("Playground")
        rows = (("Prompt", self._asked), ("Status", self._end))
        return Section("Playground", rows, self._generation.text[:SAVED_CHARACTERS])

    @property
    def inputs(self) -> dict[str, Any]:
        """The widgets that are filled in, by name."""
        return {
            "model": self._model,
            "system": self._system,
            "prompt": self._prompt,
            **self._options.inputs,
        }

    def _reuse(self, prompt: str) -> None:
        self._prompt.value = prompt

    async def _ask(self) -> None:
        self._end = "■ stopped"
        self.offer_text.clear()
        try:
            self._end = await self._stream()
        except Exception as error:  # noqa: BLE001 - nobody else hears of what a press raises
            self._end = f"✗ {failure_words(error)}"
        finally:
            self.answer.finish(self._generation.text)
            self.version += 1
            self._say(self._end)
            self._is_asking = False
            self._send.disabled, self._stop.disabled = False, True

    async def _stream(self) -> str:
        """Show the answer while it comes; the line to show above it in the end."""
        prompt, name = self._prompt.value.strip(), self._model.value
        if not name or not prompt:
            return "Choose a model and write a prompt."
        options = self._options.options()
        self._begin(name, prompt)
        model, _ = await self._manager.load_model(name)
        system = self._system.value.strip() or None
        events = model.stream(prompt, system=system, options=options, generation=self._generation)
        async with aclosing(events):
            async for event in events:
                match event:
                    case TextDelta(more):
                        self.answer.add(more)
                    case BudgetWait(budget):
                        self._say(budget_words(budget) if budget else f"Waiting for {name} …")
                    case ReasoningDelta():
                        self._say("reasoning …")
                    case Completed(result):
                        return status_words(result)
        return ""

    def _begin(self, name: str, prompt: str) -> None:
        self._asked = prompt
        self._generation = Generation(name)
        self.history.add(prompt)
        self.answer.clear()
        self._say(f"Waiting for {name} …")

    def _say(self, words: str) -> None:
        is_failure = words.startswith("✗")
        soft = f'<span class="nbllm-soft">{text_html(words)}</span>' if words else ""
        self._status.value = problem_html(words) if is_failure else soft
