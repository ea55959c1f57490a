"""How a failure and a stop look in a cell: one line, and a status of error, so Run All stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from IPython.core.getipython import get_ipython

from nbllm.core.errors import NbllmError
from nbllm.core.paths import printable
from nbllm.notebook.colours import RED, coloured, wants_colours

__all__ = ["Stopped", "brief_errors"]


class Stopped(KeyboardInterrupt):
    """The reader stopped what the cell was waiting for."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


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
