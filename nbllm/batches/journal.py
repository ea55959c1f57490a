"""What a batch has finished, in a file that only grows: a line for each row.

Behind the head, ``{"nbllm": "batch", "version": 3, "salt": …}``, stand

- ``KEY12,34,0.0005{…}"text"`` for an answer: nine characters that name the request, the tokens of
  the prompt and of the answer and the US dollars, as far as they are known, an object for what is
  unusual, such as a ``finish_reason`` other than "stop", and the text as JSON
- ``KEY{"error": …}`` for a row that failed
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
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from nbllm.core.errors import BatchError
from nbllm.core.option_names import option_use
from nbllm.core.paths import file_status, open_regular, reason
from nbllm.core.results import FinishReason, GenerationResult, Usage

__all__ = ["Entry", "Journal"]

_VERSION = 3
_BEGINNING = b'{"nbllm":"batch",'
_SYNC_SECONDS = 1.0
_MOST_LINE = 64 * 2**20
_KEY_CHARACTERS = 9
"""Of 6 bits each. Among 100,000 rows, two have the same key by a chance of 1 in 3.6 million; the
salt, which is another one in each journal, keeps anyone from making such rows on purpose."""
_LOCKED_BYTE = 2**62
"""Windows locks bytes, and nobody else could read these; so it is one that no journal reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row as it ended: with an answer, or with an ``error``."""

    text: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    model: str = ""
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    cost_usd: float | None = None
    label_probabilities: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, result: GenerationResult) -> Entry:
        """What is kept of a result."""
        usage = result.usage
        return cls(
            text=result.text,
            finish_reason=result.finish_reason,
            model=result.model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cost_usd=usage.cost_usd,
            label_probabilities=result.label_probabilities,
        )

    def result(self) -> GenerationResult:
        """The result again, without what was not kept."""
        return GenerationResult(
            text=self.text,
            model=self.model,
            finish_reason=self.finish_reason,
            usage=Usage(
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                cached_tokens=self.cached_tokens,
                cost_usd=self.cost_usd,
            ),
            label_probabilities=self.label_probabilities,
        )


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
                if (entry := _entry(line[_KEY_CHARACTERS:], self._model)) is not None:
                    self.entries[line[:_KEY_CHARACTERS].decode("ascii", "replace")] = entry
                continue
            match _parsed(line):
                case {"batch": str()} as values:
                    self.notes.append(values)
                case {"model": str(model)}:
                    self._model = model

    def note(self, values: dict[str, Any]) -> None:
        """Keep a line about a batch, on the disk before this returns. Raises ``BatchError``."""
        self._write(_line(values), at_once=True)
        self.notes.append(values)

    def add(self, key: str, entry: Entry) -> None:
        """Keep a row. Raises ``BatchError`` where the disk refuses it."""
        line = key.encode() + _row(entry)
        if entry.model and entry.model != self._model:
            line = _line({"model": entry.model}) + line
            self._model = entry.model
        self._write(line)
        self.entries[key] = entry

    def _write(self, line: bytes, *, at_once: bool = False) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            if at_once or time.monotonic() - self._synced >= _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise BatchError(f"{self.path} cannot be written: {reason(error)}") from error

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
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError:
            pass  # what a full disk refused was told when it was added


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode
_BEFORE = re.compile(r'[^"{]*')


def _line(values: Any) -> bytes:
    return _encode(values).encode("utf-8", "surrogatepass") + b"\n"


def _row(entry: Entry) -> bytes:
    """What stands behind the key."""
    if entry.error:
        return _line({"error": entry.error})
    cost = None if entry.cost_usd is None else float(f"{entry.cost_usd:.9g}")
    numbers: list[float | None] = [entry.prompt_tokens, entry.completion_tokens, cost]
    while numbers and numbers[-1] is None:
        numbers.pop()
    unusual: dict[str, Any] = {}
    if entry.finish_reason is not FinishReason.STOP:
        unusual["finish_reason"] = entry.finish_reason.value
    if entry.cached_tokens:
        unusual["cached_tokens"] = entry.cached_tokens
    if entry.label_probabilities:
        unusual["label_probabilities"] = entry.label_probabilities
    about = _encode(numbers)[1:-1] + (_encode(unusual) if unusual else "")
    return about.encode() + _line(entry.text)  # whose end shows that all is there


def _entry(row: bytes, model: str) -> Entry | None:
    """The entry that ``_row`` wrote; None for what it cannot have written, or a part of it."""
    try:
        numbers, unusual, text = _pieces(row.decode("utf-8", "surrogatepass"))
        if text is None:
            error = unusual["error"]
            return Entry(error=error) if isinstance(error, str) and error else None
        prompt, completion, cost = (*numbers, None, None, None)[:3]
        return Entry(
            text=text,
            finish_reason=FinishReason(unusual.get("finish_reason", FinishReason.STOP)),
            model=model,
            prompt_tokens=None if prompt is None else int(prompt),
            completion_tokens=None if completion is None else int(completion),
            cached_tokens=int(unusual.get("cached_tokens", 0)),
            cost_usd=None if cost is None else float(cost),
            label_probabilities=tuple(
                tuple(map(float, each)) for each in unusual.get("label_probabilities", ())
            ),
        )
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _pieces(row: str) -> tuple[list[Any], dict[str, Any], str | None]:
    """The numbers, the object and the text of a row. Raises ``ValueError``, ``RecursionError``."""
    before = _BEFORE.match(row)
    end = before.end() if before else 0
    numbers, text = json.loads(f"[{row[:end]}]"), None
    unusual: dict[str, Any] = {}
    if row[end] == "{":
        unusual, end = _decode(row, end)
    if row[end] == '"':
        text, end = _decode(row, end)
    if row[end:].strip() or len(numbers) > 3 or not isinstance(unusual, dict):
        raise ValueError(row)
    return numbers, unusual, text


def _opened(path: Path) -> BinaryIO:
    """The file to append to, created where it is not there, locked."""
    if not path.parent.is_dir():
        raise BatchError(f"{path} cannot be written: its folder does not exist; create it")
    try:
        if path.exists():
            file_status(path)  # a pipe would wait for its reader
        file = path.open("ab")
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
        if begins and _parsed(head) is None and not ends_a_line:
            file.truncate(0)  # a head in pieces, behind which nothing was kept yet
            head = b""
        salt = _known_salt(path, head) if head else os.urandom(12).hex()
        if not head:
            file.write(_line({"nbllm": "batch", "version": _VERSION, "salt": salt}))
        elif not ends_a_line:
            file.write(b"\n")
        file.flush()
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {reason(error)}") from None
    return salt.encode()


def _known_salt(path: Path, head: bytes) -> str:
    match _parsed(head):
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


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
