"""The requests under way, each with its Stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.core.generation import Generation
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.words import duration_words
from nbllm.notebook.dashboard.sections import Section
from nbllm.notebook.dashboard.widgets import box, button, card, set_children, text

__all__ = ["RequestPanel"]

_EMPTY = '<span class="nbllm-soft">No request is running.</span>'


class RequestPanel:
    """A row for each request, from its beginning to its end."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._empty = text(_EMPTY)
        self._list = box([self._empty])
        self.widget = card("Running requests", self._list)

    def update(self, running: Sequence[Generation]) -> None:
        """Show these."""
        known = self._rows
        self._rows = {id(each): known.get(id(each)) or _Row(each) for each in running}
        for row in self._rows.values():
            row.update()
        self._empty.value = "" if running else _EMPTY
        set_children(self._list, [self._empty, *(row.widget for row in self._rows.values())])

    @property
    def section(self) -> Section:
        """The requests as they are now."""
        return Section("Running requests", tuple(row.saved for row in self._rows.values()))


class _Row:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation  # kept, so that its id is nobody else's meanwhile
        name, prompt = generation.model, generation.beginning
        head = f'<b title="{attribute_html(name)}">{text_html(name)}</b>'
        asked = f'<div class="nbllm-asked" dir="auto" title="{attribute_html(prompt)}">'
        self._cells = text()
        self._stop = button("Stop", "Stop this request; the text so far is kept", self._press)
        self.widget: Any = box(
            [
                text(f'<div class="nbllm-model-name">{head}</div>{asked}{text_html(prompt)}</div>'),
                box([self._cells, self._stop], "nbllm-line"),
            ],
            "nbllm-row",
        )

    def update(self) -> None:
        generation = self._generation
        about = f"{generation.device} · {duration_words(generation.seconds)}"
        self._cells.value = (
            f'<div class="nbllm-details"><div>{_state(generation)} · {_speed(generation)}</div>'
            f'<div class="nbllm-soft">{text_html(about)}</div></div>'
        )

    @property
    def saved(self) -> tuple[str, ...]:
        generation = self._generation
        return (generation.model, generation.beginning, _state(generation), _speed(generation))

    def _press(self) -> None:
        self._stop.disabled = True
        self._generation.cancel()


_PHASES = {"reading": "prefill", "writing": "decode"}


def _state(generation: Generation) -> str:
    prompt = generation.prompt
    if generation.phase == "reading" and prompt is not None and prompt.total:
        return f"prefill {prompt.processed / prompt.total:.0%}"
    return _PHASES.get(generation.phase, generation.phase)


def _speed(generation: Generation) -> str:
    speed = generation.tokens_per_second
    rate = f" · {speed:,.0f} tokens/s" if speed else ""
    return f"{generation.tokens:,} tokens{rate}"
