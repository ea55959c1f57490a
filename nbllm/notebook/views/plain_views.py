"""Answers where nothing can be updated in place: in terminals, and in output that is captured."""

from __future__ import annotations

from typing import Any, TextIO

from nbllm.notebook.views import bundles
from nbllm.notebook.views.bundles import Bundle, Ending

__all__ = ["FinalView", "SilentView", "TerminalView"]

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
