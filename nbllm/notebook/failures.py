"""How a failure and a stop look in a cell: one line, and a status of error, so Run All stops."""

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

__all__ = ["Stopped", "brief_errors", "end_stops_quietly"]


class Stopped(KeyboardInterrupt):
    """The reader stopped what the cell was waiting for."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


def end_stops_quietly(shell: InteractiveShell) -> Callable[[], None]:
    """Have ``shell`` tell a stop in a line of its own, in place of an error's red block.

    The cell ends with an error all the same, so that Run All stops. What handles other exceptions
    already goes on doing so. Returns what takes it back.
    """
    others: Any = shell.custom_exceptions
    theirs: Any = getattr(shell, "CustomTB", None)

    def tell(shell: InteractiveShell, kind: Any, error: Any, tb: Any, tb_offset: Any = None) -> Any:
        if theirs is not None and not isinstance(error, Stopped):
            return theirs(kind, error, tb, tb_offset)
        print(error)  # noqa: T201 - the cell's own output
        return None

    def take_back() -> None:
        shell.custom_exceptions, shell.CustomTB = others, theirs

    shell.set_custom_exc((*others, Stopped), tell)  # type: ignore[no-untyped-call]
    return take_back


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
