"""The error that the reader saw last, and the cells that it came through."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

    from nbllm.notebook.session import NotebookSession

__all__ = ["last_error", "note_error"]


def note_error(session: NotebookSession, ran: ExecutionResult) -> None:
    """Remember the error of a cell, and the cell, but not what a magic of nbllm's told."""
    error = ran.error_in_exec or ran.error_before_exec
    if error is not None and not _is_told(error):
        session.last_error = error
        session.last_cell = ran.info.raw_cell if ran.info is not None else None


def last_error(session: NotebookSession) -> BaseException | None:
    """What IPython showed last, also before the extension was loaded; None where all went well."""
    shown = getattr(sys, "last_value", None)
    if isinstance(shown, BaseException) and not _is_told(shown) and _is_of(shown, session.shell):
        return shown
    return session.last_error


def _is_told(error: BaseException) -> bool:
    """Whether its message says all, so that there is nothing to explain."""
    return isinstance(error, UsageError | KeyboardInterrupt | SystemExit) or hasattr(
        error, "_render_traceback_"
    )


def _is_of(error: BaseException, shell: InteractiveShell) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals is shell.user_global_ns for frame in frames)
