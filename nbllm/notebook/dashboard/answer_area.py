"""A model's answer in output widgets while it grows."""

from __future__ import annotations

import time
from collections.abc import Callable

import ipywidgets

from nbllm.notebook.dashboard.widgets import box, set_children
from nbllm.notebook.views.blocks import cut_finished
from nbllm.notebook.views.bundles import Bundle, rendered, size_of

__all__ = ["AnswerArea"]

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
