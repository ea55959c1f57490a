"""Cells as they were typed, for code that IPython had changed before it ran, and the last error.

Python knows the changed code alone: a traceback counts its lines, and ``linecache`` holds its text.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

__all__ = ["LastError", "TypedCell", "TypedCells"]

_BODIES = 50
"""In so many of the last cells a body of a cell magic is looked for."""


@dataclass(frozen=True)
class TypedCell:
    """A cell: its ``source`` as typed, and the code that ran.

    ``number`` is that of ``In[number]``, None where IPython did not store it. It ``is_body``
    where the code is that below the line of a cell magic.
    """

    source: str
    code: str
    number: int | None = None
    is_body: bool = False

    @property
    def is_magic(self) -> bool:
        """Whether the whole cell is the text of a cell magic, such as ``%%time``."""
        return self.source.lstrip().startswith("%%")

    @cached_property
    def lines(self) -> list[str]:
        """What was typed, by lines."""
        return self.source.splitlines()

    def line(self, number: int) -> int:
        """The line, from 1, that became the line ``number`` of the code."""
        first = self._head
        for _, typed, typed_end, ran, ran_end in self._matches:
            if ran <= number - 1 < ran_end:
                return first + 1 + min(typed + number - 1 - ran, max(typed_end - 1, typed))
        return min(first + number, len(self.lines))

    @cached_property
    def _head(self) -> int:
        """How many lines stand above the body."""
        return 1 + self._blank_lines if self.is_body else 0

    @cached_property
    def _blank_lines(self) -> int:
        return len(self.source) - len(self.source.lstrip("\n"))

    @cached_property
    def _matches(self) -> Sequence[tuple[str, int, int, int, int]]:
        from difflib import SequenceMatcher  # most errors are never asked about

        typed = [line.strip() for line in self.lines[self._head :]]
        ran = [line.strip() for line in self.code.splitlines()]
        return SequenceMatcher(None, typed, ran, autojunk=False).get_opcodes()


class TypedCells:
    """The cells of a shell by their code. ``latest`` is one that may not be in its history."""

    def __init__(self, shell: InteractiveShell, latest: str | None = None) -> None:
        self._shell, self._latest = shell, latest

    def of_file(self, file: str) -> TypedCell | None:
        """The cell whose code is known to Python by this file's name."""
        code = "".join(linecache.getlines(file)).strip("\n")
        if not code.strip():
            return None
        whole = (cell for cell in self._cells() if cell.code.strip("\n") == code)
        return next(whole, None) or self._with_body(code) or self._unstored(code)

    def body_of(self, cell: TypedCell) -> TypedCell:
        """What a cell magic ran, for code that has no file."""
        return TypedCell(cell.source, self._code(_body(cell.source)), cell.number, is_body=True)

    def _cells(self) -> Iterator[TypedCell]:
        """From the newest on."""
        history: Any = self._shell.history_manager
        pairs = list(zip(history.input_hist_raw, history.input_hist_parsed, strict=False))
        for number in range(len(pairs) - 1, 0, -1):
            yield TypedCell(*pairs[number], number)

    def _unstored(self, code: str) -> TypedCell | None:
        """The latest cell, if it has this code."""
        latest = self._latest
        if latest is None or self._code(latest).strip("\n") != code:
            return None
        return TypedCell(latest, code)

    def _with_body(self, code: str) -> TypedCell | None:
        """The cell magic that had this code run as a cell of its own, as ``%%capture`` does."""
        for cell, _ in zip(self._cells(), range(_BODIES), strict=False):
            if cell.is_magic and self._code(_body(cell.source)).strip("\n") == code:
                return self.body_of(cell)
        return None

    def _code(self, source: str) -> str:
        shell: Any = self._shell
        try:
            return str(shell.transform_cell(source))
        except SyntaxError:
            return source


def _body(source: str) -> str:
    return source.lstrip("\n").partition("\n")[2]


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
