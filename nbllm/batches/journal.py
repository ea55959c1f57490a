"""What a batch has finished, in a file that only grows: a line of JSON for each row.

Behind the head, ``{"nbllm": "batch", "version": 2, "salt": …}``, stand

- ``[key, text, prompt_tokens, completion_tokens, cost_usd, {…}]`` for an answer: what is not known
  at its end is left out, and the object has only what is unusual, such as a ``finish_reason``
  other than "stop"
- ``[key, {"error": …}]`` for a row that failed
- ``{"model": name}`` before the answers of that model
- ``{"batch": …}`` for a batch at a vendor (``nbllm.batches.vendor_api``)

A run that was killed leaves at most one line in pieces, which is passed over. Each line is handed
to the system at once, so that it outlives the process, and to the disk once a second.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
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

_VERSION = 2
_BEGINNING = b'{"nbllm":"batch",'
_SYNC_SECONDS = 1.0
_MOST_LINE = 64 * 2**20
_KEY_BYTES = 8
"""Among a million rows, two have the same key by a chance of 1 in 37 million; the salt, which is
another one in each journal, keeps anyone from making such rows on purpose."""
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
        digest = hashlib.blake2b(identity.encode(), key=self._salt, digest_size=_KEY_BYTES)
        return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()

    def _read(self) -> None:
        for values in _lines(self.path):
            match values:
                case [str(key), *rest]:
                    if (entry := _entry(rest, self._model)) is not None:
                        self.entries[key] = entry
                case {"batch": str()}:
                    self.notes.append(values)
                case {"model": str(model)}:
                    self._model = model

    def note(self, values: dict[str, Any]) -> None:
        """Keep a line about a batch, on the disk before this returns. Raises ``BatchError``."""
        self._write(_line(values), at_once=True)
        self.notes.append(values)

    def add(self, key: str, entry: Entry) -> None:
        """Keep a row. Raises ``BatchError`` where the disk refuses it."""
        line = _line([key, *_values(entry)])
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


def _line(values: Any) -> bytes:
    return _encode(values).encode("utf-8", "surrogatepass") + b"\n"


def _values(entry: Entry) -> list[Any]:
    """What stands behind the key."""
    if entry.error:
        return [{"error": entry.error}]
    cost = None if entry.cost_usd is None else float(f"{entry.cost_usd:.9g}")
    values: list[Any] = [entry.text, entry.prompt_tokens, entry.completion_tokens, cost]
    while values[-1] is None:
        values.pop()
    unusual: dict[str, Any] = {}
    if entry.finish_reason is not FinishReason.STOP:
        unusual["finish_reason"] = entry.finish_reason.value
    if entry.cached_tokens:
        unusual["cached_tokens"] = entry.cached_tokens
    if entry.label_probabilities:
        unusual["label_probabilities"] = entry.label_probabilities
    return [*values, unusual] if unusual else values


def _entry(values: list[Any], model: str) -> Entry | None:
    """The row that ``_values`` wrote; None for what it cannot have written."""
    unusual = values.pop() if values and isinstance(values[-1], dict) else {}
    match values:
        case []:
            error = unusual.get("error")
            return Entry(error=error) if isinstance(error, str) and error else None
        case [str(text), *numbers] if len(numbers) <= 3:
            prompt, completion, cost = (*numbers, None, None, None)[:3]
        case _:
            return None
    try:
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
    except (TypeError, ValueError, OverflowError):
        return None


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
        if head.startswith(_BEGINNING) and _parsed(head) is None and not ends_a_line:
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


def _lines(path: Path) -> Iterator[Any]:
    """The values of the whole lines behind the head; what a kill left of one is passed over."""
    try:
        with open_regular(path) as raw, BufferedReader(raw) as file:
            file.readline(_MOST_LINE)
            while line := file.readline(_MOST_LINE):
                yield _parsed(line)
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {reason(error)}") from None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
