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
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any

from nbllm.core.configs.secrets import looks_like_key
from nbllm.notebook.versions import frame_name

__all__ = ["error_report", "failed_source", "versions"]

CONTEXT_LINES = 4
LIBRARY_FRAMES = 4
REPORT_CHARACTERS = 8_000
_HIDDEN_PACKAGES = ("IPython", "ipykernel", "nbllm", "asyncio", "concurrent")
_WORD = re.compile(r"[^\s'\"=,;()<>\[\]{}]+")


def error_report(error: BaseException, namespace: Mapping[str, Any]) -> str:
    """The traceback of ``error``, trimmed; ``namespace`` holds the notebook's variables."""
    chain = list(reversed(list(_chain(error))))
    texts = [_one_error(each, namespace) for each in chain]
    report = "\n\nWhile that was handled, another error was raised:\n\n".join(texts)
    if len(report) > REPORT_CHARACTERS:
        half = REPORT_CHARACTERS // 2
        report = f"{report[:half]}\n[…]\n{report[-half:]}"
    return _WORD.sub(_without_key, report)


def failed_source(error: BaseException, namespace: Mapping[str, Any]) -> str | None:
    """The source of the cell in which ``error`` was raised; None where it is not known."""
    if isinstance(error, SyntaxError) and error.filename and not _frames(error):
        names = [error.filename]
    else:
        names = [f.f_code.co_filename for f, _ in _frames(error) if f.f_globals is namespace]
    for name in [*names, *([error.filename] if isinstance(error, SyntaxError) else [])]:
        source = "".join(linecache.getlines(str(name)))
        if source.strip():
            return source.rstrip("\n")
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


def _one_error(error: BaseException, namespace: Mapping[str, Any]) -> str:
    told = [(f, n) for f, n in _frames(error) if _package(f) not in _HIDDEN_PACKAGES]
    libraries = [f for f, _ in told if not _is_own(f, namespace)]
    shown = set(map(id, libraries[-LIBRARY_FRAMES:]))
    lines = [
        _own_frame(frame, line) if _is_own(frame, namespace) else _library_frame(frame, line)
        for frame, line in told
        if _is_own(frame, namespace) or id(frame) in shown
    ]
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    return "\n".join([*lines, message])


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


def _own_frame(frame: FrameType, line: int) -> str:
    """The frame's lines around the one that failed, which is marked."""
    code = frame.f_code
    source = linecache.getlines(code.co_filename)
    first = max(1, line - CONTEXT_LINES)
    around = range(first, min(len(source), line + CONTEXT_LINES) + 1)
    lines = [f"{'>' if n == line else ' '} {n:4} | {source[n - 1].rstrip()}" for n in around]
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
