"""What a saved notebook keeps of a dashboard: its last state, as an output beside the live one.

A notebook saves no widgets, and a front end that finds none says so in place of the dashboard. So
the state is an output of its own. While the dashboard is there its style hides it, and where it
is not, the style of the saved output hides the place of the missing widget. Its HTML has tables
and inline styles alone: it is what is left where a front end sanitizes it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from IPython.core.displaypub import CapturingDisplayPublisher, DisplayPublisher

from nbllm.core.rendering.escaping import encodable, text_html, without_blank_lines
from nbllm.core.rendering.markdown_html import answer_html
from nbllm.notebook.views.bundles import Bundle, widget_view

__all__ = ["SavedView", "Section", "sections_html"]

_CELL = "text-align: left; vertical-align: top; white-space: pre-wrap; padding: 4px 12px 4px 0"


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table of plain texts, and below it a text in Markdown, which is a model's."""

    title: str
    rows: tuple[tuple[str, ...], ...] = ()
    markdown: str = ""


def sections_html(sections: Sequence[Section]) -> str:
    """All sections that hold anything, one below the other."""
    return "".join(_html(section) for section in sections if section.rows or section.markdown)


def sections_text(sections: Sequence[Section]) -> str:
    """The same as plain text."""
    return "\n".join(_text(section) for section in sections if section.rows or section.markdown)


def _html(section: Section) -> str:
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in section.rows)
    table = f'<table style="margin: 0 0 8px 0">{rows}</table>' if rows else ""
    answer = answer_html(section.markdown, coloured=False) if section.markdown else ""
    title = f'<div style="font-weight: 600; margin: 8px 0 2px 0">{text_html(section.title)}</div>'
    return f"{title}{table}{answer}"


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{without_blank_lines(text_html(text))}</td>'


def _text(section: Section) -> str:
    rows = (f"  {' · '.join(filter(None, row))}" for row in section.rows)
    return encodable("\n".join([section.title, *rows, *filter(None, [section.markdown])]))


SECONDS_BETWEEN = 2.0
"""Each update makes the notebook one with unsaved changes."""
_LIVE_ELSEWHERE = (
    "The live dashboard needs a notebook with widgets; %llm_models, %llm_devices and %llm_stats "
    "show tables everywhere."
)
_HIDE_MISSING_WIDGET = (
    "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .{mark}):not(:has(.nbllm-board))"
    "{{display: none}}</style>"
)
_HIDE_SAVED = (
    "<style>.{mark}, .jp-OutputArea-child:has(> .jp-OutputArea-output .{mark})"
    "{{display: none !important}}</style>"
)


class SavedView:
    """The outputs of one dashboard. ``sections`` gives its state, from any thread."""

    def __init__(
        self, sections: Callable[[], Sequence[Section]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sections, self._clock = sections, clock
        self._mark = f"nbllm-saved-{uuid.uuid4().hex[:12]}"
        self._publisher: Any = None
        self._next_update = 0.0

    @property
    def hiding_style(self) -> str:
        """What hides the saved state; to be part of the live dashboard."""
        return _HIDE_SAVED.format(mark=self._mark)

    def show(self, publisher: Any, widget: Any, wait: Callable[[], object]) -> None:
        """Publish the widget, and once ``wait`` returned the state below it."""
        is_terminal = type(publisher) is DisplayPublisher
        if not is_terminal:
            publisher.publish(dict(widget_view(widget).data))
        wait()
        if is_terminal or isinstance(publisher, CapturingDisplayPublisher):
            publisher.publish(dict(self._bundle().data))  # which keep every update that they get
        else:
            self._publisher = publisher
            self._publish(update=False)

    @property
    def text(self) -> str:
        """The state as plain text."""
        return str(self._bundle().data["text/plain"])

    def update(self, *, is_last: bool = False) -> bool:
        """Replace the state in all outputs; False where it was not shown, or just a moment ago."""
        if self._publisher is None or (self._clock() < self._next_update and not is_last):
            return False
        self._publish(update=True)
        return True

    def clear(self) -> None:
        """Take the state out of all outputs."""
        if self._publisher is not None:
            self._send(Bundle({"text/plain": ""}), update=True)
            self._publisher = None

    def _publish(self, *, update: bool) -> None:
        self._next_update = self._clock() + SECONDS_BETWEEN
        self._send(self._bundle(), update=update)

    def _send(self, bundle: Bundle, *, update: bool) -> None:
        self._publisher.publish(
            dict(bundle.data), transient={"display_id": self._mark}, update=update
        )

    def _bundle(self) -> Bundle:
        sections = self._sections()
        title = f"nbllm dashboard, as of {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
        html = (
            f'{_HIDE_MISSING_WIDGET.format(mark=self._mark)}<div class="{self._mark}">'
            f"<div><b>{text_html(title)}</b></div>"
            f"{sections_html(sections)}"
            "<div><i>A saved state: run the cell for the live dashboard.</i></div></div>"
        )
        text = f"{title}\n{sections_text(sections)}\n{_LIVE_ELSEWHERE}"
        return Bundle({"text/html": html, "text/plain": text})
