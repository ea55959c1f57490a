"""The variables that a prompt can name: those that code in the place of the magic would see."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["caller", "is_library", "variables_in_scope"]

_MACHINERY = {"IPython", "decorator", "ipykernel", "nbllm", "traitlets"}
_GENERATED = "<decorator-gen"
_IPYTHONS = {"exit", "quit", "get_ipython", "open", "_ih", "_oh", "_dh", "_sh"}
_PYTHONS = re.compile(r"__\w*[^\W_]\w*__")
_CO_OPTIMIZED = 0x1
"""Set for the code of functions, and not for that of modules and classes."""


def variables_in_scope(shell: InteractiveShell) -> dict[str, Any]:
    """The variables by name, as the code sees them that called the magic.

    In a function its own ones and those of the functions around it hide the notebook's of the same
    name, also before they have a value. Without those that IPython puts beside the reader's, but
    with its history, the cells as they were typed.
    """
    variables = _of_notebook(shell)
    frame = caller()
    if frame is None or is_library(frame, shell.user_ns):
        return variables
    if all(frame.f_globals is not space for space in _spaces(shell)):  # a module, or %run
        variables.update(_named(frame.f_globals))
    for scope in reversed([frame, *_around(frame)]):
        code = scope.f_code
        for name in (*code.co_varnames, *code.co_cellvars):
            variables.pop(name, None)
        if scope.f_locals is not scope.f_globals and scope.f_locals is not shell.user_ns:
            variables.update(_named(scope.f_locals))
    return variables


def is_library(frame: FrameType, namespace: Mapping[str, Any]) -> bool:
    """Whether the frame runs code of Python's own or of an installed package."""
    if frame.f_globals is namespace:
        return False
    import sysconfig

    file = frame.f_code.co_filename
    is_installed = "site-packages" in file or "dist-packages" in file
    return is_installed or file.startswith(("<frozen", sysconfig.get_path("stdlib")))


def _of_notebook(shell: InteractiveShell) -> dict[str, Any]:
    hidden: Mapping[str, Any] = shell.user_ns_hidden
    variables = {
        name: value
        for space in _spaces(shell)
        for name, value in _named(space).items()
        if name not in _IPYTHONS or hidden.get(name) is not value
    }
    history = shell.history_manager
    if history is not None and variables.get("In") is history.input_hist_parsed:
        variables["In"] = list(history.input_hist_raw)
    return variables


def _spaces(shell: InteractiveShell) -> list[dict[str, Any]]:
    """The notebook's variables; two dicts, of module and function, where IPython is embedded."""
    outer, inner = shell.user_global_ns, shell.user_ns
    return [inner] if outer is inner else [outer, inner]


def _named(space: Mapping[str, Any]) -> dict[str, Any]:
    """A copy, without what Python itself puts there."""
    return {
        name: value
        for name, value in space.items()
        if name.isidentifier() and _PYTHONS.fullmatch(name) is None
    }


def caller() -> FrameType | None:
    """The frame that called the magic, beyond IPython and nbllm; None where there is none."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - there is no other way to a scope
    while frame is not None and _is_machinery(frame):
        frame = frame.f_back
    return frame


def _is_machinery(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in _MACHINERY or frame.f_code.co_filename.startswith(_GENERATED)


def _around(frame: FrameType) -> Iterator[FrameType]:
    """The frames of the functions around the code of ``frame`` that still run, innermost first."""
    code, outer = frame.f_code, frame.f_back
    while outer is not None:
        if _holds(outer.f_code, code):
            code = outer.f_code
            if code.co_flags & _CO_OPTIMIZED:
                yield outer
        outer = outer.f_back


def _holds(outer: CodeType, inner: CodeType) -> bool:
    return any(const is inner for const in outer.co_consts)
