"""The last error as a text for a model: what failed, where, with the lines around it.

Frames of IPython and of nbllm are left out, those of libraries are told in one line each. No
values of variables are told, and what looks like an API key is taken out.
"""

from __future__ import annotations

import linecache
import platform
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from textwrap import shorten
from types import FrameType
from typing import Any

from nbllm.core.api_keys import looks_like_key
from nbllm.notebook.prompts.scope import is_library
from nbllm.notebook.prompts.typed_cells import TypedCell, TypedCells
from nbllm.notebook.versions import frame_name

__all__ = ["error_report", "failed_source", "title", "versions"]


CONTEXT_LINES = 4
LIBRARY_FRAMES = 4
REPORT_CHARACTERS = 8_000
TITLE_CHARACTERS = 200
GROUP_ERRORS, GROUP_DEPTH = 5, 3
"""So many errors of an exception group are told, and of groups within groups."""
_HIDDEN_PACKAGES = ("IPython", "ipykernel", "nbllm", "asyncio", "concurrent")
_WORD = re.compile(r"[^\s'\"=,;()<>\[\]{}]+")


def error_report(
    error: BaseException, namespace: Mapping[str, Any], cells: TypedCells | None = None
) -> str:
    """The traceback of ``error``, trimmed; ``namespace`` holds the notebook's variables.

    The notebook's code is told as it was typed where ``cells`` know it.
    """
    report = _whole_error(error, _Sources(namespace, cells))
    if len(report) > REPORT_CHARACTERS:
        half = REPORT_CHARACTERS // 2
        report = f"{report[:half]}\n[…]\n{report[-half:]}"
    return _WORD.sub(_without_key, report)


def failed_source(
    error: BaseException, namespace: Mapping[str, Any], cells: TypedCells | None = None
) -> str | None:
    """The source of the cell that ``error`` ended; None where it is not known."""
    for file in _cell_files(error, namespace):
        cell = cells.of_file(file) if cells is not None else None
        source = cell.source if cell is not None else "".join(linecache.getlines(file))
        if source.strip():
            return source.strip("\n")
    return None


def title(error: BaseException, namespace: Mapping[str, Any], cells: TypedCells) -> str:
    """Which error it is, and of which cell, in one line."""
    found = (cells.of_file(file) for file in _cell_files(error, namespace))
    cell = next((each for each in found if each is not None and each.number is not None), None)
    place = f"In[{cell.number}]" if cell is not None else "The last error"
    message = traceback.format_exception_only(type(error), error)[-1].strip()
    shown = _WORD.sub(_without_key, " ".join(message.split()))
    return f"{place}: {shorten(shown, TITLE_CHARACTERS, placeholder=' …')}"


def _cell_files(error: BaseException, namespace: Mapping[str, Any]) -> list[str]:
    """The names of the cells that the error passed through, the outermost first."""
    names = [f.f_code.co_filename for f, _ in _frames(error) if f.f_globals is namespace]
    is_syntax = isinstance(error, SyntaxError) and error.filename
    return [*names, str(error.filename)] if is_syntax else names  # type: ignore[attr-defined]


def versions(error: BaseException) -> str:
    """Of Python, and of the packages that the error passed through."""
    packages = {_package(frame) for frame, _ in _frames(error)} - {"__main__", *_HIDDEN_PACKAGES}
    told = [f"Python {platform.python_version()}"]
    for name in sorted(packages):
        with suppress(PackageNotFoundError):  # of the standard library, or known by another name
            told.append(f"{name} {version(name)}")
    return ", ".join(told)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it came from, as Python would tell it."""
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the lines of frames come from."""

    namespace: Mapping[str, Any]
    cells: TypedCells | None

    def is_own(self, frame: FrameType) -> bool:
        """Whether the frame is of the notebook, or of a file that is in no package folder."""
        if frame.f_globals is self.namespace:
            return True
        return not frame.f_code.co_filename.startswith("<") and not is_library(
            frame, self.namespace
        )

    def cell(self, frame: FrameType, outer: TypedCell | None) -> TypedCell | None:
        """The cell that the frame runs, as it was typed, where that is known.

        ``outer`` is the cell of the frame before. Code without a file is what its magic runs.
        """
        if self.cells is None or frame.f_globals is not self.namespace:
            return None
        file = frame.f_code.co_filename
        if outer is not None and outer.is_magic and not linecache.getlines(file):
            return outer if outer.is_body else self.cells.body_of(outer)
        return self.cells.of_file(file)

    def frames(self, error: BaseException) -> list[tuple[FrameType, int, TypedCell | None]]:
        """Those that are told, with their lines and cells; a cell magic's by its body alone."""
        found: list[tuple[FrameType, int, TypedCell | None]] = []
        outer: TypedCell | None = None
        for frame, line in _frames(error):
            if _package(frame) in _HIDDEN_PACKAGES:
                continue
            cell = self.cell(frame, outer)
            if cell is not None and cell.is_body:
                found = [each for each in found if each[2] is None or each[2].is_body]
            outer = cell or outer
            found.append((frame, line, cell))
        return found


def _whole_error(error: BaseException, sources: _Sources, depth: int = 0) -> str:
    """The error with all that it came from, and the errors that it groups."""
    texts = [
        "\n\n".join([_one_error(each, sources), *_grouped(each, sources, depth)])
        for each in reversed(list(_chain(error)))
    ]
    return "\n\nWhile that was handled, another error was raised:\n\n".join(texts)


def _grouped(error: BaseException, sources: _Sources, depth: int) -> Iterator[str]:
    """Those that an ``ExceptionGroup`` holds; before Python 3.11 packages have their own."""
    errors = getattr(error, "exceptions", ())
    if not isinstance(errors, tuple | list) or depth >= GROUP_DEPTH:
        return
    held = [each for each in errors if isinstance(each, BaseException)]
    for number, each in enumerate(held[:GROUP_ERRORS], 1):
        told = _whole_error(each, sources, depth + 1)
        yield f"Error {number} of the {len(held)} in this group:\n\n{told}"
    if len(held) > GROUP_ERRORS:
        yield f"[{len(held) - GROUP_ERRORS} more]"


def _one_error(error: BaseException, sources: _Sources) -> str:
    told = sources.frames(error)
    libraries = [f for f, _, _ in told if not sources.is_own(f)]
    shown = set(map(id, libraries[-LIBRARY_FRAMES:]))
    lines = [
        _own_frame(frame, line, cell) if sources.is_own(frame) else _library_frame(frame, line)
        for frame, line, cell in told
        if sources.is_own(frame) or id(frame) in shown
    ]
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    return "\n".join([*lines, message])


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _own_frame(frame: FrameType, line: int, cell: TypedCell | None) -> str:
    """The frame's lines around the one that failed, which is marked."""
    code = frame.f_code
    source = linecache.getlines(code.co_filename)
    if cell is not None:
        source, line = cell.lines, cell.line(line)
    first = max(1, line - CONTEXT_LINES)
    around = range(first, min(len(source), line + CONTEXT_LINES) + 1)
    lines = [f"{'>' if n == line else ' '} {n:4} | {source[n - 1].rstrip()}" for n in around]
    return "\n".join([f"In {_place(frame, cell)}, line {line}, in {frame_name(code)}:", *lines])


def _place(frame: FrameType, cell: TypedCell | None) -> str:
    is_cell = frame.f_globals.get("__name__") == "__main__" and "In" in frame.f_globals
    return "a notebook cell" if is_cell or cell is not None else frame.f_code.co_filename


def _library_frame(frame: FrameType, line: int) -> str:
    code = frame.f_code
    text = linecache.getline(code.co_filename, line).strip()
    return f"In {frame.f_globals.get('__name__', '?')}.{code.co_name}, line {line}: {text}"


def _without_key(match: re.Match[str]) -> str:
    return "[key removed]" if looks_like_key(match.group()) else match.group()
