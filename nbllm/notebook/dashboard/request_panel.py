"""The generations that run, each with its Stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.core.activity import Generation
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.words import duration_words
from nbllm.notebook.dashboard.widgets import box, button, card, set_children, text

__all__ = ["RequestPanel"]

_EMPTY = '<span class="nbllm-soft">Nothing runs at the moment.</span>'


class RequestPanel:
    """A row for each generation, from its beginning to its end."""

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


class _Row:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation  # kept, so that its id is nobody else's meanwhile
        self._cells = text()
        self._stop = button("Stop", "Stop this answer; what has come is kept", self._press)
        self.widget: Any = box([self._cells, self._stop], "nbllm-row")

    def update(self) -> None:
        generation = self._generation
        name, device = text_html(generation.model), text_html(generation.device)
        title = attribute_html(generation.model)
        self._cells.value = (
            f'<div class="nbllm-cells nbllm-request"><div title="{title}">'
            f"<b>{name}</b></div>"
            f"<div>{_speed(generation)}</div>"
            f'<div class="nbllm-soft">{device} · {duration_words(generation.seconds)}</div>'
            f'<div class="nbllm-soft">{_state(generation)}</div></div>'
        )

    def _press(self) -> None:
        self._stop.disabled = True
        self._generation.cancel()


def _state(generation: Generation) -> str:
    prompt = generation.prompt
    if generation.phase == "reading" and prompt is not None and prompt.total:
        return f"reading the prompt, {prompt.processed / prompt.total:.0%}"
    return generation.phase


def _speed(generation: Generation) -> str:
    speed = generation.tokens_per_second
    rate = f" · {speed:,.0f} tokens/s" if speed else ""
    return f"{generation.tokens:,} tokens{rate}"
