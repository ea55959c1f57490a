"""How a failure and a stop look in a cell: one line, and a status of error, so Run All stops.

A failure is shown as an error, a stop as a note: the reader wanted it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython

from nbllm.core.errors import NbllmError
from nbllm.core.paths import printable
from nbllm.notebook.colours import RED, coloured, wants_colours

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Stopped", "brief_errors", "note_stops"]


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
    return [f"{coloured(name, RED) if wants_colours(get_ipython()) else name}: {message}"]
