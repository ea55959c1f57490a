"""The cell that runs now: its source, the colours of what it shows, its failure and its stop.

A failure is shown as an error in one line, a stop as a note: the reader wanted it. Both have a
status of error, so that Run All stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from IPython.core.getipython import get_ipython

from nbllm.core.errors import NbllmError
from nbllm.core.paths import printable

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = [
    "BOLD",
    "CYAN",
    "GREEN",
    "RED",
    "Stopped",
    "brief_errors",
    "cell_request",
    "cell_source",
    "coloured",
    "note_stops",
    "shows_colours",
]


def cell_source(shell: InteractiveShell) -> str:
    """The source of the cell that the front end runs now; "" where the kernel does not tell."""
    content = cell_request(shell).get("content")
    return str(content.get("code", "")) if isinstance(content, dict) else ""


def cell_request(shell: InteractiveShell) -> dict[str, Any]:
    """The message by which the front end has it run; empty where there is none."""
    get_parent = getattr(shell, "get_parent", None)
    request = get_parent() if get_parent is not None else None
    return request if isinstance(request, dict) else {}


BOLD, RED, GREEN, CYAN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m"
_PLAIN = "\x1b[0m"


def coloured(text: str, colour: str) -> str:
    """``text`` in one of the colours above."""
    return f"{colour}{text}{_PLAIN}"


def _wants_colours(shell: InteractiveShell | None) -> bool:
    """Whether IPython's setting ``colors`` allows them; it is written NoColor or nocolor."""
    return str(getattr(shell, "colors", "")).lower() != "nocolor"


def shows_colours(shell: InteractiveShell, out: TextIO) -> bool:
    """Whether ``out`` is a terminal that can show them, and the reader has not refused them."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return _wants_colours(shell) and out.isatty() and not refused


class Stopped(KeyboardInterrupt):
    """The reader stopped what the cell was waiting for."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback, where it does not show a note."""
        return [str(self)]


def note_stops(shell: InteractiveShell, note: Callable[[str], None]) -> Callable[[], None]:
    """Have a cell that was stopped end with a ``note`` instead of an error's red block.

    Returns what ends that. A shell has one place for handlers of exceptions; one that is taken
    stays as it is.
    """
    exceptions: Any = shell
    if exceptions.custom_exceptions:
        return lambda: None

    def show(shell: Any, kind: type, stop: Stopped, *_: object, **more: object) -> None:
        note(str(stop))
        if hasattr(shell, "_last_traceback"):  # what ipykernel replies, else that of another error
            shell._last_traceback = [str(stop)]  # noqa: SLF001

    def end() -> None:
        if exceptions.custom_exceptions == (Stopped,):
            exceptions.set_custom_exc((), None)

    exceptions.set_custom_exc((Stopped,), show)
    return end


@contextmanager
def brief_errors() -> Iterator[None]:
    """IPython shows an ``NbllmError`` that leaves this block by its message alone.

    The exception and its traceback stay what they are for whoever catches it.
    """
    try:
        yield
    except NbllmError as error:
        vars(error)["_render_traceback_"] = partial(
            _brief, type(error).__name__, printable(str(error))
        )
        raise


def _brief(name: str, message: str) -> list[str]:
    return [f"{coloured(name, RED) if _wants_colours(get_ipython()) else name}: {message}"]
