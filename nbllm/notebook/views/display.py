"""Where an answer appears while it is written: at linear cost, in whatever shows the output.

What is finished is sent once and only the tail again; at the end the parts give way to one
output of the whole, which is what a saved notebook keeps. The same MIME types serve JupyterLab,
Notebook, VS Code and Colab; none of them needs a widget. In terminals, and in output that is
captured, nothing can be updated in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from IPython.core.displaypub import CapturingDisplayPublisher, DisplayPublisher

from nbllm.notebook.running_cell import cell_source, shows_colours
from nbllm.notebook.views import bundles
from nbllm.notebook.views.bundles import Bundle, Ending
from nbllm.notebook.views.markdown_view import BackgroundView, MarkdownView

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = [
    "TICK_SECONDS",
    "FinalView",
    "SilentView",
    "TerminalView",
    "View",
    "open_background_view",
    "open_view",
]

_CONTROLS = {
    code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


class TerminalView:
    """For a terminal: the text as it comes, once, without control characters.

    What is on the screen stays there. An answer in another form is shown below it where the form
    tells more, as a table does or a diff in ``colours``; JSON and code stand there already.
    The value of a cell begins on a line of its own, since IPython has begun one with ``Out[n]:``.
    """

    def __init__(self, out: TextIO, *, colours: bool = False, is_value: bool = False) -> None:
        self._out, self._colours = out, colours
        self._head = "\n" if is_value else ""
        self._is_terminal = out.isatty()
        self._noted, self._written = "", ""

    def note(self, words: str) -> None:  # noqa: D102 - see View
        if self._is_terminal and words != self._noted and not self._written:
            self._write(f"\r\x1b[K{_printable(words)}")
            self._noted = words

    def keep(self, words: str) -> None:  # noqa: D102
        self.drop_note("")
        self._write(f"{_printable(words)}\n")

    def drop_note(self, words: str) -> None:  # noqa: D102
        if self._noted:
            self._write("\r\x1b[K")
            self._noted = ""

    def control(self, control: Bundle) -> None:  # noqa: D102
        pass

    def draw(self, key: object, make: object) -> None:  # noqa: D102
        pass

    def add(self, text: str) -> None:  # noqa: D102
        if text:
            self.drop_note("")
            self._write(_printable(text))
            self._written += text

    def finish(self, ending: Ending) -> None:  # noqa: D102
        text = ending.text if ending.written is None else ending.written
        if not text.startswith(self._written):  # it does not go on from there, so it begins anew
            self._write(self._gap)
        self.add(text.removeprefix(self._written))
        self.drop_note("")
        if ending.form is not None:
            self._show_form(ending.form)
        if ending.status:
            self._write(f"{self._gap}{_printable(ending.status)}\n")
        else:
            self._write(self._gap)

    def _show_form(self, form: Bundle) -> None:
        plain = form.data["text/plain"]
        shown = _printable(plain)
        painted = form.paint(shown) if self._colours else shown
        if plain not in self._written or painted != shown:
            self._write(f"{self._gap}{painted}")
            self._written += plain

    @property
    def _gap(self) -> str:
        """What leaves one line empty below what is written."""
        ends = len(self._written) - len(self._written.rstrip("\n"))
        return "\n" * (2 - ends) if self._written else ""

    def _write(self, text: str) -> None:
        self._out.write(self._head + text)
        self._out.flush()
        self._head = ""


class SilentView:
    """For an answer in the background of what cannot be updated: its reader asks for it later."""

    def note(self, words: str) -> None:  # noqa: D102
        pass

    def keep(self, words: str) -> None:  # noqa: D102
        pass

    def drop_note(self, words: str) -> None:  # noqa: D102
        pass

    def control(self, control: Bundle) -> None:  # noqa: D102
        pass

    def draw(self, key: object, make: object) -> None:  # noqa: D102
        pass

    def add(self, text: str) -> None:  # noqa: D102
        pass

    def finish(self, ending: Ending) -> None:  # noqa: D102
        pass


class FinalView(SilentView):
    """For output that is captured (``%%capture``): nothing until the answer is there."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher

    def keep(self, words: str) -> None:  # noqa: D102
        self._publish(bundles.note(words))

    def finish(self, ending: Ending) -> None:  # noqa: D102
        for bundle in bundles.outputs(ending):
            self._publish(bundle)

    def _publish(self, bundle: Bundle) -> None:
        self._publisher.publish(data=dict(bundle.data), metadata=dict(bundle.metadata))


def _printable(text: str) -> str:
    return text.translate(_CONTROLS)


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
