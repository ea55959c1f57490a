"""The last error as a text for a model: what failed, where, with the lines around it.

Frames of IPython and of nbllm are left out, those of libraries are told in one line each. No
values of variables are told, and what looks like an API key is taken out.
"""

from __future__ import annotations

import linecache
import platform
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any

from nbllm.core.configs.secrets import looks_like_key
from nbllm.notebook.prompts.as_typed import as_typed
from nbllm.notebook.versions import frame_name

__all__ = ["error_report", "failed_source", "versions"]

CONTEXT_LINES = 4
LIBRARY_FRAMES = 4
GROUP_ERRORS, GROUP_DEPTH = 5, 3
"""So many errors of a group are told, and groups inside groups so deep."""
REPORT_CHARACTERS = 8_000
_HIDDEN_PACKAGES = ("IPython", "ipykernel", "nbllm", "asyncio", "concurrent")
_WORD = re.compile(r"[^\s'\"=,;()<>\[\]{}]+")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error was raised: the notebook's variables, and the cell that failed."""

    namespace: Mapping[str, Any]
    cell: str | None

    def body(self, name: str) -> list[str]:
        """The lines of a cell that another magic ran, as ``%%time`` does: those below its own."""
        cell = (self.cell or "").lstrip("\n")
        is_run = name.startswith("<timed ") and cell.startswith("%%")
        return cell.splitlines()[1:] if is_run else []


def error_report(
    error: BaseException, namespace: Mapping[str, Any], cell: str | None = None
) -> str:
    """The traceback of ``error``, trimmed; ``namespace`` holds the notebook's variables.

    ``cell`` is the cell that failed, as it was typed, where that is known.
    """
    report = _whole(error, _Place(namespace, cell))
    if len(report) > REPORT_CHARACTERS:
        half = REPORT_CHARACTERS // 2
        report = f"{report[:half]}\n[…]\n{report[-half:]}"
    return _WORD.sub(_without_key, report)


def failed_source(error: BaseException, namespace: Mapping[str, Any]) -> str | None:
    """The source of the cell in which ``error`` was raised, as it was typed; None if unknown."""
    if isinstance(error, SyntaxError) and error.filename and not _frames(error):
        names = [error.filename]
    else:
        names = [f.f_code.co_filename for f, _ in _frames(error) if f.f_globals is namespace]
    for name in [*names, *([error.filename] if isinstance(error, SyntaxError) else [])]:
        source = "".join(linecache.getlines(str(name)))
        if source.strip():
            return as_typed(source.rstrip("\n"))
    return None


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


def _whole(error: BaseException, place: _Place, depth: int = 0) -> str:
    """The error with what it came from, the first first, and with the errors of a group."""
    texts = [_one_error(each, place, depth) for each in reversed(list(_chain(error)))]
    return "\n\nWhile that was handled, another error was raised:\n\n".join(texts)


def _one_error(error: BaseException, place: _Place, depth: int) -> str:
    told = [(f, n) for f, n in _frames(error) if _package(f) not in _HIDDEN_PACKAGES]
    libraries = [f for f, _ in told if not _is_own(f, place.namespace)]
    shown = set(map(id, libraries[-LIBRARY_FRAMES:]))
    lines = [
        _own_frame(frame, line, place)
        if _is_own(frame, place.namespace)
        else _library_frame(frame, line)
        for frame, line in told
        if _is_own(frame, place.namespace) or id(frame) in shown
    ]
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    return "\n".join([*lines, as_typed(message), *_grouped(error, place, depth)])


def _grouped(error: BaseException, place: _Place, depth: int) -> Iterator[str]:
    """The errors that an ``ExceptionGroup`` holds, up to a number and a depth."""
    inner = getattr(error, "exceptions", None)
    if not isinstance(inner, tuple) or depth == GROUP_DEPTH:
        return
    errors = [each for each in inner if isinstance(each, BaseException)]
    for number, each in enumerate(errors[:GROUP_ERRORS], 1):
        yield f"\nError {number} of {len(errors)} in it:\n{_whole(each, place, depth + 1)}"


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_own(frame: FrameType, namespace: Mapping[str, Any]) -> bool:
    """Whether the frame is of the notebook, or of a file that is in no package folder."""
    if frame.f_globals is namespace:
        return True
    file = frame.f_code.co_filename
    is_library = "site-packages" in file or "dist-packages" in file
    return not is_library and not file.startswith(("<", sysconfig.get_path("stdlib")))


def _own_frame(frame: FrameType, line: int, place: _Place) -> str:
    """The frame's lines around the one that failed, which is marked."""
    code = frame.f_code
    source = linecache.getlines(code.co_filename) or place.body(code.co_filename)
    first = max(1, line - CONTEXT_LINES)
    around = range(first, min(len(source), line + CONTEXT_LINES) + 1)
    texts = {n: as_typed(source[n - 1].rstrip()).partition("\n")[0] for n in around}
    lines = [f"{'>' if n == line else ' '} {n:4} | {text}" for n, text in texts.items()]
    return "\n".join([f"In {_place(frame)}, line {line}, in {frame_name(code)}:", *lines])


def _place(frame: FrameType) -> str:
    is_cell = frame.f_globals.get("__name__") == "__main__" and "In" in frame.f_globals
    return "a notebook cell" if is_cell else frame.f_code.co_filename


def _library_frame(frame: FrameType, line: int) -> str:
    code = frame.f_code
    text = linecache.getline(code.co_filename, line).strip()
    return f"In {frame.f_globals.get('__name__', '?')}.{code.co_name}, line {line}: {text}"


def _without_key(match: re.Match[str]) -> str:
    return "[key removed]" if looks_like_key(match.group()) else match.group()
