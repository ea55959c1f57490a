"""The variables where a magic was called: those of the function, not only the notebook's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

__all__ = ["local_variables", "running_code"]

_MACHINERY = ("IPython", "ipykernel", "nbllm", "decorator")


def local_variables(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller's own code sees beside the notebook's ``namespace``, as Python finds it.

    The function's variables, those of the functions around it that still run, and the globals of
    its module where that is not the notebook. Empty at the top level of a cell.
    """
    frame = next(_callers(), None)
    if frame is None:
        return {}
    seen: dict[str, Any] = {} if frame.f_globals is namespace else dict(frame.f_globals)
    scopes = [each for each in _around(frame) if each.f_locals is not each.f_globals]
    for each in reversed(scopes):
        seen.update(each.f_locals)
    return seen


def running_code(namespace: Mapping[str, Any]) -> list[CodeType]:
    """The notebook's own code that runs now, innermost first: functions and cells' statements.

    There are several statements where one cell runs another, as ``%%time`` and ``%%capture`` do.
    """
    return [frame.f_code for frame in _callers() if frame.f_globals is namespace]


def _callers() -> Iterator[FrameType]:
    """The frames that called, from the innermost one, without IPython's and nbllm's."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the way that IPython goes too
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _MACHINERY:
            yield frame
        frame = frame.f_back


def _around(frame: FrameType) -> Iterator[FrameType]:
    """``frame``, and the frames of the functions in which its code is written."""
    code = frame.f_code
    outer: FrameType | None = frame
    while outer is not None:
        if outer is frame or code in outer.f_code.co_consts:
            yield outer
            code = outer.f_code
        outer = outer.f_back
