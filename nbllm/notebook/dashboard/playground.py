"""The playground: ask a model from the dashboard, and watch its answer come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import ipywidgets

from nbllm.core.errors import InvalidOptionError, NbllmError
from nbllm.core.model_interface import options_from
from nbllm.core.model_manager import ModelManager
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import Completed, GenerationOptions, ReasoningDelta, TextDelta
from nbllm.notebook.dashboard.widgets import box, button, card, field, set_children, text
from nbllm.notebook.loop import LoopJob, LoopThread
from nbllm.notebook.views.blocks import cut_finished
from nbllm.notebook.views.bundles import Bundle, rendered, size_of
from nbllm.notebook.words import status_words

__all__ = ["AnswerArea", "Playground"]

TICK_SECONDS = 0.25
TAIL_CHARACTERS = 1_500
BYTES_PER_SECOND = 24_000


class AnswerArea:
    """A growing Markdown text in output widgets: what is finished is sent once, the tail again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.widget = box([], "nbllm-answer")
        self._clock = clock
        self._tail, self._next = "", 0.0

    def clear(self) -> None:
        """Show nothing."""
        set_children(self.widget, [])
        self._tail, self._next = "", 0.0

    def add(self, more: str) -> None:
        """Show more, at once or a little later."""
        self._tail += more
        now = self._clock()
        if now < self._next:
            return
        if len(self._tail) > TAIL_CHARACTERS:
            finished, rest = cut_finished(self._tail)
            if finished:
                self._show(rendered(finished))
                self._tail = rest
                set_children(self.widget, [*self.widget.children, ipywidgets.Output()])
        growing = rendered(self._tail, is_growing=True)
        rendered_in = self._clock() - now
        wait = max(TICK_SECONDS, size_of(growing) / BYTES_PER_SECOND, 4 * rendered_in)
        self._next = now + wait
        self._show(growing)

    def finish(self, whole: str) -> None:
        """Show the whole in one piece."""
        self._tail = whole
        set_children(self.widget, self.widget.children[:1])
        self._show(rendered(whole))

    def _show(self, bundle: Bundle) -> None:
        if not self.widget.children:
            set_children(self.widget, [ipywidgets.Output()])
        output = {"output_type": "display_data", "data": dict(bundle.data), "metadata": {}}
        self.widget.children[-1].outputs = (output,) if bundle.data["text/plain"] else ()


class Playground:
    """Inputs, Send and Stop, and the answer. Its work runs on ``loop``."""

    def __init__(self, manager: ModelManager, loop: LoopThread) -> None:
        self._manager, self._loop = manager, loop
        self._job: LoopJob[None] | None = None
        self._model = field(ipywidgets.Dropdown(description="Model"))
        self._max_tokens = field(ipywidgets.Text("300", description="Max tokens"))
        self._temperature = field(ipywidgets.Text(description="Temperature", placeholder="default"))
        self._seed = field(ipywidgets.Text(description="Seed", placeholder="any"))
        self._system = field(
            ipywidgets.Text(
                description="System prompt", placeholder="none", continuous_update=False
            )
        )
        self._prompt = field(ipywidgets.Textarea(description="Prompt", rows=3))
        self._send = button("Send", "Ask the model", self.send, style="primary")
        self._stop = button("Stop", "Stop the answer; what has come stays", self.stop)
        self._stop.disabled = True
        self._status = text()
        self.answer = AnswerArea()
        settings = (self._model, self._max_tokens, self._temperature, self._seed)
        self.widget = card(
            "Playground",
            box(settings, "nbllm-fields"),
            self._system,
            self._prompt,
            box([self._send, self._stop, self._status], "nbllm-actions"),
            self.answer.widget,
        )

    def offer(self, names: Sequence[str]) -> None:
        """The models to choose from, the preferred one first; the choice is kept if it can be."""
        if tuple(names) == tuple(self._model.options):
            return
        chosen = self._model.value
        self._model.options = tuple(names)
        self._model.value = chosen if chosen in names else (names[0] if names else None)

    def send(self) -> None:
        """Ask, unless an answer is on its way."""
        if self._job is not None and not self._job.result.done():
            return
        self._send.disabled, self._stop.disabled = True, False
        self._job = self._loop.submit(self._ask())

    def stop(self) -> None:
        """Stop the answer, or the load that it waits for."""
        if self._job is not None:
            self._job.stop()

    async def _ask(self) -> None:
        pieces: list[str] = []
        status = "■ stopped"
        self.answer.clear()
        try:
            status = await self._stream(pieces)
        except NbllmError as error:
            status = f"✗ {error}"
        finally:
            self.answer.finish("".join(pieces))
            self._say(status)
            self._send.disabled, self._stop.disabled = False, True

    async def _stream(self, pieces: list[str]) -> str:
        """Fill ``pieces``; the line to show below them."""
        if not self._model.value or not self._prompt.value.strip():
            return "Choose a model and write a prompt."
        options = self._options()
        self._say(f"Waiting for {self._model.value} …")
        model, _ = await self._manager.load_model(self._model.value)
        system = self._system.value.strip() or None
        async with aclosing(
            model.stream(self._prompt.value.strip(), system=system, options=options)
        ) as events:
            async for event in events:
                match event:
                    case TextDelta(more):
                        pieces.append(more)
                        self.answer.add(more)
                    case ReasoningDelta():
                        self._say("thinking …")
                    case Completed(result):
                        return status_words(result)
        return ""

    def _options(self) -> GenerationOptions:
        """Raises ``InvalidOptionError`` for what is no number."""
        fields = (
            ("max_tokens", self._max_tokens, int),
            ("temperature", self._temperature, float),
            ("seed", self._seed, int),
        )
        values = {}
        for name, entry, kind in fields:
            written = entry.value.strip()
            try:
                if written:
                    values[name] = kind(written)
            except ValueError:
                raise InvalidOptionError(name, f"{written!r} is not a number") from None
        return options_from(values)

    def _say(self, words: str) -> None:
        self._status.value = f'<span class="nbllm-soft">{text_html(words)}</span>'

    @property
    def inputs(self) -> dict[str, Any]:
        """The widgets that are filled in, by name."""
        return {
            "model": self._model,
            "system": self._system,
            "prompt": self._prompt,
            "max_tokens": self._max_tokens,
            "temperature": self._temperature,
            "seed": self._seed,
        }
