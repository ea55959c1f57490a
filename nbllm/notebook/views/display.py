"""Where an answer appears while it is written: at linear cost, in whatever shows the output.

What is finished is sent once and only the tail again; at the end the parts give way to one
output of the whole, which is what a saved notebook keeps. The same MIME types serve JupyterLab,
Notebook, VS Code and Colab; none of them needs a widget.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from IPython.core.displaypub import CapturingDisplayPublisher, DisplayPublisher

from nbllm.notebook.colours import shows_colours
from nbllm.notebook.running_cell import cell_source
from nbllm.notebook.views.bundles import Bundle, Ending
from nbllm.notebook.views.markdown_view import BackgroundView, MarkdownView
from nbllm.notebook.views.plain_views import FinalView, SilentView, TerminalView

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["TICK_SECONDS", "View", "open_background_view", "open_view"]

TICK_SECONDS = 0.2
"""How often an answer is looked at, and so how often at most it is sent. A model that decodes on
the same cores waits meanwhile: at ten times a second that cost 4 % of its speed on two cores."""


class View(Protocol):
    """The place where one magic shows its progress and its answer."""

    def note(self, words: str) -> None:
        """Say what goes on now; the next note, or the answer's first text, takes its place."""

    def keep(self, words: str) -> None:
        """Put a line that stays in the place of the note."""

    def drop_note(self, words: str) -> None:
        """Take note and control away; where that cannot be done leave ``words`` in their place."""

    def control(self, control: Bundle) -> None:
        """Show something to press, below all that is shown, until the answer ends."""

    def draw(self, key: object, make: Callable[[], Bundle]) -> None:
        """Show what ``make`` makes in place of what it made before, where ``key`` has changed.

        This is for answers that are no text that grows. It may be shown a little later, and is not
        where nothing can be updated.
        """

    def add(self, text: str) -> None:
        """More of the answer's text, which may be shown a little later."""

    def finish(self, ending: Ending) -> None:
        """The whole answer, in place of all but the kept lines."""


def open_view(shell: InteractiveShell, magic: str, *, is_value: bool = False) -> View:
    """The view that suits what ``shell`` shows its output in.

    ``is_value`` is for what is shown as the value of a cell, where a terminal has ``Out[n]:``.
    """
    publisher = shell.display_pub
    if isinstance(publisher, CapturingDisplayPublisher):
        return FinalView(publisher)
    if type(publisher) is DisplayPublisher:
        colours = shows_colours(shell, sys.stdout)
        return TerminalView(sys.stdout, colours=colours, is_value=is_value)
    return MarkdownView(publisher, is_alone=_is_alone(cell_source(shell), magic))


def open_background_view(shell: InteractiveShell) -> View:
    """The view of an answer that is written while other cells run."""
    publisher = shell.display_pub
    if isinstance(publisher, CapturingDisplayPublisher) or type(publisher) is DisplayPublisher:
        return SilentView()
    return BackgroundView(publisher)


def _is_alone(source: str, magic: str) -> bool:
    """Whether the cell consists of this one magic."""
    first, *more = source.strip().splitlines() or [""]
    called = first.split()[0] if first else ""
    return called == f"%%{magic}" or (called == f"%{magic}" and not more)
