"""What a batch has finished, in a file that only grows: one line for each answer.

A run that was killed leaves at most one line in pieces, which is passed over. Each line is handed
to the system at once, so that it outlives the process, and to the disk once a second.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from nbllm.core.errors import BatchError
from nbllm.core.paths import open_regular, reason
from nbllm.core.results import FinishReason, GenerationResult, Usage

__all__ = ["Entry", "Journal"]

_HEAD = {"nbllm": "batch", "version": 1}
_SYNC_SECONDS = 1.0
_MOST_LINE = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row as it ended: with an answer, or with an ``error``."""

    key: str
    text: str = ""
    finish_reason: str = ""
    model: str = ""
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    cost_usd: float | None = None
    label_probabilities: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, key: str, result: GenerationResult) -> Entry:
        """What is kept of a result."""
        return cls(
            key=key,
            text=result.text,
            finish_reason=str(result.finish_reason),
            model=result.model,
            prompt_tokens=result.usage.prompt_tokens,
            completion_tokens=result.usage.completion_tokens,
            cached_tokens=result.usage.cached_tokens,
            cost_usd=result.usage.cost_usd,
            label_probabilities=result.label_probabilities,
        )

    def result(self) -> GenerationResult:
        """The result again, without what was not kept."""
        return GenerationResult(
            text=self.text,
            model=self.model,
            finish_reason=FinishReason(self.finish_reason),
            usage=Usage(
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                cached_tokens=self.cached_tokens,
                cost_usd=self.cost_usd,
            ),
            label_probabilities=tuple(map(tuple, self.label_probabilities)),
        )


class Journal:
    """The file at ``path``, this process's alone while it is open.

    ``entries`` is what it held when it was opened and was added since, by key, the newest of each;
    ``notes`` are the lines about batches at a vendor (``nbllm.batches.vendor_api``) in their order.
    Raises ``BatchError`` for a file that another run has open or that is none of nbllm's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._lock = _lock(path)
        try:
            self.notes: list[dict[str, Any]] = []
            for values in _read(path):
                self._take(values)
            self._file = _opened(path)
        except BaseException:
            self._lock.release()
            raise
        self._synced = time.monotonic()

    def _take(self, values: Any) -> None:
        if isinstance(values, dict) and isinstance(values.get("batch"), str):
            self.notes.append(values)
        elif (entry := _entry(values)) is not None:
            self.entries[entry.key] = entry

    def note(self, values: dict[str, Any]) -> None:
        """Keep a line about a batch, on the disk before this returns. Raises ``BatchError``."""
        self._write(_line(values), at_once=True)
        self.notes.append(values)

    def add(self, entry: Entry) -> None:
        """Keep a row. Raises ``BatchError`` where the disk refuses it."""
        values = {name: getattr(entry, name) for name in Entry.__slots__}
        kept = {name: value for name, value in values.items() if value not in ("", None, ())}
        self._write(_line(kept))
        self.entries[entry.key] = entry

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
        finally:
            self._lock.release()


def _line(values: dict[str, Any]) -> bytes:
    return (
        json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        + b"\n"
    )


def _lock(path: Path) -> Any:
    from filelock import FileLock, Timeout

    if not path.parent.is_dir():
        raise BatchError(f"{path} cannot be written: its folder does not exist; create it")
    try:
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout:
        raise BatchError(f"{path} is in use by another run; wait for it, or stop it") from None
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {reason(error)}") from None
    return lock


def _opened(path: Path) -> BinaryIO:
    """The file to append to, its last line ended, its head written."""
    try:
        is_new = not path.exists() or not path.stat().st_size
        file = path.open("ab")
        if is_new:
            file.write(_line(dict(_HEAD)))
        elif not _ends_a_line(path):
            file.write(b"\n")
        file.flush()
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {reason(error)}") from None
    return file


def _ends_a_line(path: Path) -> bool:
    with open_regular(path) as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> Iterator[Any]:
    """The values of the whole lines; what a kill left of one is passed over."""
    try:
        with open_regular(path) as file:
            first = file.readline(_MOST_LINE)
            if first and _parsed(first) != _HEAD:
                raise BatchError(
                    f"{path} is not a journal of nbllm; name another file with journal=…"
                )
            while line := file.readline(_MOST_LINE):
                yield _parsed(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {reason(error)}") from None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def _entry(values: Any) -> Entry | None:
    try:
        entry = Entry(**values)
        _ = FinishReason(entry.finish_reason) if not entry.error else None
        texts = (entry.key, entry.text, entry.model, entry.error)
    except (TypeError, ValueError):
        return None
    return entry if all(isinstance(text, str) for text in texts) else None
