"""``Columns``: several answers side by side in one output, below each other where it is narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from nbllm.core.rendering.escaping import encodable, text_html
from nbllm.core.rendering.markdown_html import answer_html
from nbllm.notebook.views.bundles import Bundle, Ending, folded_html, note_html
from nbllm.notebook.views.display import View

__all__ = ["Column", "Columns"]

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

    def note(self, words: str) -> None:  # noqa: D102 - see View
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
