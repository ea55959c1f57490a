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
    """For a terminal: the text as it comes, once, without control characters."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
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

    def add(self, text: str) -> None:  # noqa: D102
        if text:
            self.drop_note("")
            self._write(_printable(text))
            self._written += text

    def finish(self, ending: Ending) -> None:  # noqa: D102
        text = ending.text
        if text.startswith(self._written):
            self.add(text[len(self._written) :])
        else:  # the answer is shown in another form than it was written
            self._write("\n\n")
            self.add(text)
        self.drop_note("")
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        self._write(f"{gap}{_printable(ending.status)}\n" if ending.status else gap)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


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
