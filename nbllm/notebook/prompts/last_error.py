"""The error that the reader saw last, and the cell that it ended."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

__all__ = ["LastError"]


class LastError:
    """The last error of the reader's own code in a session.

    ``cell`` is the cell that it ended, as typed, and ``proposal`` the cell that the last
    ``%llm_fix`` came to; None where there is none.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self.cell: str | None = None
        self.proposal: str | None = None

    def note(self, ran: ExecutionResult) -> None:
        """Remember the error of a cell, and the cell, but not what a magic of nbllm's raised."""
        error = ran.error_in_exec or ran.error_before_exec
        if error is not None and not _is_explained(error):
            self._error = error
            self.cell = ran.info.raw_cell if ran.info is not None else None

    def shown_in(self, shell: InteractiveShell) -> BaseException | None:
        """What IPython showed last, also before the extension was loaded; None without any."""
        shown = getattr(sys, "last_value", None)
        if isinstance(shown, BaseException) and not _is_explained(shown) and _is_of(shown, shell):
            return shown
        return self._error


def _is_explained(error: BaseException) -> bool:
    """Whether its message says all, so that there is nothing to explain."""
    return isinstance(error, UsageError | KeyboardInterrupt | SystemExit) or hasattr(
        error, "_render_traceback_"
    )


def _is_of(error: BaseException, shell: InteractiveShell) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals is shell.user_global_ns for frame in frames)
