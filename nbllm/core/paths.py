"""Paths as people and configs write them, and files read with all that can be wrong in mind.

What goes wrong is an ``OSError`` or a ``ValueError``, which ``reason`` puts into words; whoever
calls makes an error of its own type of it.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from io import BufferedReader, FileIO
from pathlib import Path

__all__ = [
    "SLICES",
    "SLICE_BYTES",
    "TooLargeError",
    "absolute_path",
    "current_folder",
    "expanded",
    "file_fingerprint",
    "file_status",
    "is_gguf",
    "open_regular",
    "printable",
    "read_file",
    "read_start",
    "read_text",
    "readable",
    "reason",
]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class TooLargeError(ValueError):
    """A file has more bytes than make sense for what is to be read from it."""


def current_folder() -> Path | None:
    """The current folder; None where it was deleted or may not be read."""
    try:
        return Path.cwd()
    except OSError:
        return None


def absolute_path(written: str | os.PathLike[str]) -> Path:
    """The path that is meant, from the current folder or, with ``~``, from a home.

    Links are not followed, and nothing need be there. Raises ``ValueError``.
    """
    text = os.fspath(written)
    if "\0" in text:
        raise ValueError("a path cannot contain a null character")
    try:
        return expanded(text).absolute()
    except OSError:
        raise ValueError(
            "the current folder no longer exists; give a path that begins with /"
        ) from None


def expanded(written: str | os.PathLike[str]) -> Path:
    """The path with a home in place of ``~``. Raises ``ValueError`` where nobody is called so."""
    text = os.fspath(written)
    if not text.startswith("~"):  # "./~" is a folder of that name
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"no home folder for {Path(text).parts[0]:.80}") from None


def is_gguf(path: str | Path) -> bool:
    """Whether the file is called a GGUF, in whatever case."""
    return str(path)[-5:].casefold() == ".gguf"


def file_status(path: Path) -> os.stat_result:
    """The status of a regular file, links followed. Raises ``OSError``, for another kind too."""
    try:
        status = path.stat()
    except ValueError as error:  # a zero character, or on Windows one that no name can have
        raise OSError(errno.EINVAL, str(error)) from None
    _check_regular(status)
    return status


def _check_regular(status: os.stat_result) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind}")


def read_file(path: Path, most_bytes: int) -> bytes:
    """The bytes of a regular file, never those of a pipe or a device, which may have no end.

    Raises ``OSError``, ``TooLargeError`` for more than ``most_bytes``, and ``ValueError`` for a
    path that no file can have.
    """
    data = read_start(path, most_bytes + 1)
    if len(data) > most_bytes:
        raise TooLargeError(f"it has more than {most_bytes >> 20} MiB")
    return data


def read_start(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a regular file. Raises ``OSError`` and ``ValueError``."""
    with BufferedReader(open_regular(path)) as file:
        return file.read(count)


def open_regular(path: Path) -> FileIO:
    """A regular file to read from, unbuffered. Raises ``OSError``, for another kind too."""
    file = FileIO(os.fspath(path), opener=_open_at_once)
    try:
        _check_regular(os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for somebody to write into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a file in UTF-8. Raises ``OSError`` and ``ValueError`` as ``read_file`` does."""
    data = read_file(path, most_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"byte {error.start} cannot be decoded"
        raise ValueError(f"it is not valid UTF-8: {place}. Save the file as UTF-8") from None


def printable(text: str) -> str:
    """``text`` with what no output takes written as an escape: a file's name need not be text."""
    return text.encode(errors="backslashreplace").decode()


def readable(name: str) -> str:
    """A file's name as one to call a model by: what cannot be shown or sent becomes U+FFFD."""
    if name.isprintable():
        return name
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)


def reason(error: OSError | ValueError) -> str:
    """What went wrong, as a phrase for a message that names the file."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


SLICES = 16
SLICE_BYTES = 64 * 1024


def file_fingerprint(path: Path) -> str:
    """What tells a model's file from others, in a millisecond whatever its size.

    SHA-256 over the size in decimal digits and 16 slices of 64 KiB, evenly spread from the first
    byte to the last. Reading gigabytes for a hash of everything would take longer than most
    answers; a file in Hugging Face's cache is named after that hash, and so has it for nothing.
    """
    stat = path.stat()
    whole = path.resolve().name
    if len(whole) == 64 and set(whole) <= set("0123456789abcdef"):
        return f"sha256:{whole}"
    return f"sha256-of-slices:{_hash_of_slices(path, stat.st_size, stat.st_mtime_ns)}"


@lru_cache(maxsize=64)
def _hash_of_slices(path: Path, size: int, modified_ns: int) -> str:
    """``modified_ns`` makes a file that was written anew another one."""
    import hashlib  # only whoever saves answers or sends requests needs it

    digest = hashlib.sha256(str(size).encode())
    last = max(size - SLICE_BYTES, 0)
    with open_regular(path) as file:
        for number in range(SLICES):
            file.seek(last * number // (SLICES - 1))
            digest.update(file.read(SLICE_BYTES))
    return digest.hexdigest()
