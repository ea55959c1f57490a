"""What a batch has finished, in a file that only grows: a line for each row.

Behind the head, ``{"nbllm": "batch", "version": 3, "salt": …}``, stand

- ``KEY…`` for a row: nine characters that name the request, and what became of it; see
  ``nbllm.batches.journal_rows``
- ``{"model": name}`` before the answers of that model
- ``{"batch": …}`` for a batch at a vendor (``nbllm.batches.vendor_api``)

So a row takes 12 bytes and its numbers more than its text. A run that was killed leaves at most one
line in pieces, which is passed over. Each line is handed to the system at once, so that it outlives
the process, and to the disk once a second.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from nbllm.batches.journal_rows import Entry, entry_of, line_of, parsed, row_of
from nbllm.core.errors import BatchError
from nbllm.core.option_names import option_use
from nbllm.core.paths import file_status, open_regular, reason

__all__ = ["Journal", "check_place"]

_VERSION = 3
_BEGINNING = b'{"nbllm":"batch",'
_SYNC_SECONDS = 1.0
_MOST_LINE = 64 * 2**20
_KEY_CHARACTERS = 9
"""Of 6 bits each. Among 100,000 rows, two have the same key by a chance of 1 in 3.6 million; the
salt, which is another one in each journal, keeps anyone from making such rows on purpose."""
_LOCKED_BYTE = 2**62
"""Windows locks bytes, and nobody else could read these; so it is one that no journal reaches."""


class Journal:
    """The file at ``path``, this process's alone while it is open.

    ``entries`` is what it held when it was opened and was added since, by ``key``, the newest of
    each; ``notes`` are the lines about batches at a vendor in their order. Raises ``BatchError``
    for a file that another run has open, that is none of nbllm's, or that another version of
    nbllm wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.notes: list[dict[str, Any]] = []
        self._model = ""
        self._file = _opened(path)
        try:
            self._salt = _salt(path, self._file)
            self._read()
        except BaseException:
            self._file.close()
            raise
        self._model = ""
        self._synced = time.monotonic()

    def key(self, identity: str) -> str:
        """The short name in this journal of a request with this ``request_key``."""
        digest = hashlib.blake2b(identity.encode(), key=self._salt, digest_size=_KEY_CHARACTERS)
        return base64.urlsafe_b64encode(digest.digest())[:_KEY_CHARACTERS].decode()

    def _read(self) -> None:
        for line in _lines(self.path):
            if not line.startswith(b"{"):
                if (entry := entry_of(line[_KEY_CHARACTERS:], self._model)) is not None:
                    self.entries[line[:_KEY_CHARACTERS].decode("ascii", "replace")] = entry
                continue
            match parsed(line):
                case {"batch": str()} as values:
                    self.notes.append(values)
                case {"model": str(model)}:
                    self._model = model

    def note(self, values: dict[str, Any]) -> None:
        """Keep a line about a batch, on the disk before this returns. Raises ``BatchError``."""
        self._write(line_of(values), at_once=True)
        self.notes.append(values)

    def add(self, key: str, entry: Entry, *, is_held: bool = True) -> None:
        """Keep a row, also in ``entries`` where it ``is_held``.

        Raises ``BatchError`` where the disk refuses it.
        """
        line = key.encode() + row_of(entry)
        if entry.model and entry.model != self._model:
            line = line_of({"model": entry.model}) + line
            self._model = entry.model
        self._write(line)
        if is_held:
            self.entries[key] = entry

    def _write(self, line: bytes, *, at_once: bool = False) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            if at_once or time.monotonic() - self._synced >= _SYNC_SECONDS:
                self._sync()
        except OSError as error:
            raise BatchError(f"{self.path} cannot be written: {reason(error)}") from error

    def _sync(self) -> None:
        if not _is_there(self.path, self._file):
            self._restore()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _restore(self) -> None:
        """Write all of it again: the file was deleted, and what is written to it would be lost."""
        lost, self._file = self._file, _opened(self.path)
        with lost:
            lost.seek(0)
            shutil.copyfileobj(lost, self._file)
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._file.flush()
            self._sync()
        except (OSError, BatchError):
            pass  # what a full disk refused was told when it was added
        finally:
            with suppress(OSError):
                self._file.close()


def check_place(path: Path) -> None:
    """Raise ``BatchError`` where no file is at the path, and none could be created."""
    if not path.parent.is_dir():
        raise BatchError(f"{path} cannot be written: its folder does not exist; create it")
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise BatchError(f"{path} cannot be written: its folder is read-only; name another one")


def _opened(path: Path) -> BinaryIO:
    """The file to append to, created where it is not there, locked."""
    check_place(path)
    try:
        if path.exists():
            file_status(path)  # a pipe would wait for its reader
        file = path.open("a+b")
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {reason(error)}") from None
    try:
        _lock(file)
    except OSError as error:
        # Where locks are not supported, as on some network disks, two runs cannot be told apart.
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            file.close()
            raise BatchError(f"{path} is in use by another run; wait for it, or stop it") from None
    return file


def _lock(file: BinaryIO) -> None:
    """Lock the file itself until it is closed, so that nothing else lies beside it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0, os.SEEK_END)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _salt(path: Path, file: BinaryIO) -> bytes:
    """The salt of the head, which is written where there is none; the last line is ended."""
    try:
        with open_regular(path) as raw, BufferedReader(raw) as whole:
            head, ends_a_line = whole.readline(_MOST_LINE), True
            if head:
                whole.seek(-1, os.SEEK_END)
                ends_a_line = whole.read(1) == b"\n"
        begins = head.startswith(_BEGINNING) or (_BEGINNING.startswith(head) and head[8:])
        if begins and parsed(head) is None and not ends_a_line:
            file.truncate(0)  # a head in pieces, behind which nothing was kept yet
            head = b""
        salt = _known_salt(path, head) if head else os.urandom(12).hex()
        if not head:
            file.write(_head(salt))
        elif not ends_a_line:
            file.write(b"\n")
        file.flush()
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {reason(error)}") from None
    return salt.encode()


def _head(salt: str) -> bytes:
    return line_of({"nbllm": "batch", "version": _VERSION, "salt": salt})


def _is_there(path: Path, file: BinaryIO) -> bool:
    """Whether the path leads to the file. Raises ``BatchError`` where it leads to another one."""
    try:
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return True
    except FileNotFoundError:
        return False
    raise BatchError(f"{path} was replaced by another file while the run wrote into it")


def _known_salt(path: Path, head: bytes) -> str:
    match parsed(head):
        case {"nbllm": "batch", "version": version, "salt": str(salt)} if (
            version == _VERSION and salt.isascii() and len(salt) <= 64
        ):
            return salt
        case {"nbllm": "batch", "version": version} if version != _VERSION:
            raise BatchError(
                f"{path} is a journal of another version of nbllm, in the format {version!r} and "
                f"not {_VERSION}; name another file with {option_use('journal')}"
            )
        case _:
            other = f"name another file with {option_use('journal')}"
            raise BatchError(f"{path} is not a journal of nbllm; {other}")


def _lines(path: Path) -> Iterator[bytes]:
    """The lines behind the head, also what a kill left of one."""
    try:
        with open_regular(path) as raw, BufferedReader(raw) as file:
            file.readline(_MOST_LINE)
            while line := file.readline(_MOST_LINE):
                yield line
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {reason(error)}") from None
