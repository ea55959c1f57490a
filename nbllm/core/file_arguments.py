"""What is given to the jobs on model files, checked: paths, and quantization types."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nbllm.core.errors import InvalidOptionError
from nbllm.core.paths import absolute_path, reason
from nbllm.core.quantization import quantization_type
from nbllm.core.texts import shown

__all__ = ["path_of", "target_of", "type_labels"]


def path_of(option: str, given: str | os.PathLike[str] | None) -> Path | None:
    """Raises ``InvalidOptionError`` for what names no path, or one that no file can have."""
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike) or not isinstance(os.fspath(given), str):
        raise InvalidOptionError(option, f"must be a path (got {given!r})")
    if not os.fspath(given).strip():
        raise InvalidOptionError(option, "the path is empty")
    try:
        path = absolute_path(given)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except OSError as error:
        raise InvalidOptionError(option, f"{shown(str(given))}: {reason(error)}") from None
    except UnicodeEncodeError:
        problem = f"{shown(str(given))} has characters that file names cannot have"
        raise InvalidOptionError(option, problem) from None
    except ValueError as error:
        raise InvalidOptionError(option, str(error)) from None
    return path


def target_of(given: str | os.PathLike[str] | None) -> Path | None:
    """Where a file is to be written. Raises ``InvalidOptionError``, also for a path as others
    write it, which would make a file or ask for a folder of that odd name.
    """
    path, text = path_of("to", given), os.fspath(given or "")
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        problem = f"{text} is a Windows path, but the kernel does not run on Windows; name another"
        raise InvalidOptionError("to", problem)
    if path is not None and not os.path.lexists(path) and os.path.expandvars(text) != text:
        raise InvalidOptionError(
            "to", f"variables are not expanded in paths; write {os.path.expandvars(text)}"
        )
    if path is not None and not path.parent.is_dir():
        raise InvalidOptionError("to", f"the folder {path.parent} does not exist; create it")
    return path


def type_labels(types: Iterable[str]) -> list[str]:
    """Each once, of one or several types. Raises ``InvalidOptionError``."""
    words = [types] if isinstance(types, str) else types
    if not isinstance(words, Iterable):
        raise InvalidOptionError("types", f"must be quantization types (got {types!r})")
    return [*dict.fromkeys(map(quantization_type, words))]
