"""An answer that is on the screen already is not shown again as the value of its cell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from nbllm.notebook.asking.scope import running_code

__all__ = ["keep_quiet"]


def keep_quiet(value: object, namespace: Mapping[str, Any]) -> None:
    """Leave ``value`` out where the statement of a cell that runs now ends with it.

    That is so after ``%llm …``, but not for a later ``_llm``, or ``answer`` after ``answer = %llm
    …``. ``namespace`` holds the notebook's variables.
    """
    hook: Any = sys.displayhook
    inner = hook.inner if isinstance(hook, _Quiet) else hook
    sys.displayhook = _Quiet(inner, value, running_code(namespace))


class _Quiet:
    """A display hook that looks at one value, then gives its place back to the one before."""

    def __init__(self, inner: Callable[[Any], object], value: object, code: list[CodeType]) -> None:
        self.inner, self._value, self._code = inner, value, code

    def __call__(self, value: object) -> None:
        if sys.displayhook is self:
            sys.displayhook = self.inner
        caller = sys._getframe(1).f_code  # noqa: SLF001 - nothing else tells the statement
        if value is not self._value or not any(caller is each for each in self._code):
            self.inner(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
