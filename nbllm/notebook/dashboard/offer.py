"""A text for the clipboard or for a new cell; where the page cannot do it the text is shown."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from nbllm.core.rendering.escaping import code_html, text_html
from nbllm.notebook.dashboard.page_scripts import COPY, TO_CELL, runs
from nbllm.notebook.dashboard.widgets import box, button, text

__all__ = ["Offer"]

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
