"""Answers as the values of cells: one that was shown while it came is not shown again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.displayhook import CapturingDisplayHook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["keep_from_display"]


class _Display:
    """Stands in front of a display hook until the cell ends, and passes shown answers over.

    They become ``_`` and ``Out[n]`` all the same.
    """

    def __init__(self, shell: InteractiveShell, hook: Callable[[object], object]) -> None:
        self._shell, self._hook = shell, hook
        self._shown: list[object] = []

    def pass_over(self, answer: object) -> None:
        self._shown.append(answer)

    def __call__(self, value: object = None) -> None:
        if all(value is not answer for answer in self._shown):
            self._hook(value)
            return
        values: Any = self._shell.displayhook
        is_captured = self._hook is not self._shell.displayhook
        if not is_captured and not values.quiet():
            values.update_user_ns(value)
            values.fill_exec_result(value)


def keep_from_display(shell: InteractiveShell, answer: object) -> None:
    """Do not show ``answer`` if it is the value of the cell that runs now."""
    hook = sys.displayhook
    if not isinstance(hook, _Display):
        # Whoever replaced the hook puts back the one before, and so takes this one away.
        if hook is not shell.display_trap.hook and not isinstance(hook, CapturingDisplayHook):
            return
        hook = _Display(shell, hook)
        sys.displayhook = hook
    hook.pass_over(answer)
