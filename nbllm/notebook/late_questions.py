"""Questions below ``%load_ext nbllm`` in its own cell, which IPython has read before it ran.

A script that ``ipython`` runs is such a cell as a whole. ``%llm What is recursion?`` has become a
request for help with the word "recursion" there; the magic ``%pinfo`` gives it back to ``%llm``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import TransformerManager

from nbllm.notebook.questions import calls_in

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["keep_late_questions"]

_HELP = ("pinfo", "pinfo2")


def keep_late_questions(shell: InteractiveShell, magic: str) -> Callable[[], None]:
    """Until the cell that runs now has ended, ask what IPython took for requests for help.

    ``magic`` is what ``llm`` is called. Returns what ends that sooner.
    """
    late = _late(_running_cell(), magic)
    return _Catching(shell, late).end if late else lambda: None


def _late(cell: str, magic: str) -> list[tuple[str, str, str]]:
    """Of each such question: the magic and the word that IPython made of it, and its code."""
    ipythons: Any = TransformerManager()  # type: ignore[no-untyped-call]
    lines, late = cell.splitlines(keepends=True), []
    for call in calls_in(lines, magic):
        made = ipythons.transform_cell("".join(lines[call.first : call.end]).lstrip())
        try:
            help_magic, word = (ast.literal_eval(each) for each in _arguments(made))
        except ValueError:  # it is no request for help
            continue
        if help_magic in _HELP:
            late.append((help_magic, word, call.code.lstrip()))
    return late


def _arguments(code: str) -> list[ast.expr]:
    """Those of the one call that ``code`` is; none where it is something else."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError):
        return []
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    return call.args if isinstance(call, ast.Call) else []


def _running_cell() -> str:
    """The cell that runs now as it was typed, "" where none does."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - IPython tells it nowhere else
    while frame is not None:
        cell = frame.f_locals.get("raw_cell")
        if isinstance(cell, str) and str(frame.f_globals.get("__name__")).startswith("IPython."):
            return cell
        frame = frame.f_back
    return ""


class _Catching:
    """Stands in the place of IPython's two magics for help until the cell has ended."""

    def __init__(self, shell: InteractiveShell, late: list[tuple[str, str, str]]) -> None:
        self._shell, self._late = shell, late
        self._magics: dict[str, Any] = shell.magics_manager.magics["line"]
        self._own = {name: self._magics[name] for name in _HELP}
        for name in _HELP:
            self._magics[name] = partial(self._help, name)
        shell.events.register("post_run_cell", self.end)

    def _help(self, magic: str, word: str, **more: Any) -> Any:
        for question in self._late:
            if question[:2] == (magic, word):
                self._late.remove(question)
                exec(question[2], self._shell.user_global_ns, self._shell.user_ns)  # noqa: S102 - the cell's own line
                return None
        return self._own[magic](word, **more)

    def end(self, *_: object) -> None:
        """Give IPython's magics their places back."""
        if self._own:
            self._magics.update(self._own)
            self._own = {}
            self._shell.events.unregister("post_run_cell", self.end)
