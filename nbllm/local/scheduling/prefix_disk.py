"""The prefix cache on disk: states of sequences that outlive the worker, one in a file.

A file has a checksum of its head: a header with the key, and the tokens; then comes the state as
llama.cpp's ``llama_state_seq_get_data`` gives it, whose checksum is in the header. What does not
check is removed and told. Files are written by a thread of their own, each in one step; several
workers may share a folder.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import msgspec

from nbllm.core.paths import open_regular, reason
from nbllm.core.saved_files import replacing
from nbllm.local.scheduling.prefixes import shared_length

__all__ = ["PrefixDisk"]

_MAGIC, _SUFFIX = b"nbllm prefix 1\n", ".prefix"
_DIGEST_BYTES, _LENGTH_BYTES, _LONGEST_HEADER = 32, 4, 2**16
_TOKEN_BYTES = 4
_INCOMPLETE, _CHECKSUM = "its file is incomplete", "its checksum does not match"
_MOST_FILES = 10_000
_UNUSED_SECONDS = 30 * 86_400  # so long unused, a prompt has no turn to come
_WAITING = 1  # states in memory for the thread that writes, beside the one that it writes


class _Header(msgspec.Struct, frozen=True):
    """``key`` is what the state depends on besides the ``scales`` of the adapters.

    ``tokens`` are counted, ``sha256`` is that of the state.
    """

    key: str
    scales: tuple[float, ...]
    tokens: int
    state_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A file of this key: its header, its tokens, and where the state begins."""

    path: Path
    header: _Header
    tokens: array[int]
    state_at: int


class _DamagedError(ValueError):
    """A file is not what was written."""


_HEADERS = msgspec.json.Decoder(_Header)


class PrefixDisk:
    """The states of one model in ``folder``, which take ``limit_bytes`` at most.

    ``key`` is what states depend on besides the folder's model: they serve no other. Whatever is
    long unused is dropped first. ``tell`` gets a sentence about what was lost, ``most_tokens`` is
    the length of the context. With ``whole`` no part of a state serves, only all of it. What
    ``find`` and ``gain`` compare are tokens, not hashes of them.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        key: str,
        most_tokens: int,
        tell: Callable[[str], None],
        *,
        whole: bool = False,
    ) -> None:
        self._folder, self._limit_bytes, self._key = folder, limit_bytes, key
        self._most_tokens, self._tell, self._whole = most_tokens, tell, whole
        self._entries: dict[str, _Entry | None] = {}
        self._seen_ns = -1
        self._lock = threading.Lock()
        self._waiting: list[tuple[tuple[float, ...], array[int]]] = []
        self._queue: queue.Queue[tuple[tuple[float, ...], array[int], bytearray]]
        self._queue = queue.Queue(_WAITING)
        threading.Thread(target=self._write_all, name="nbllm-prefixes", daemon=True).start()

    # ------------------------------------------------------------ from the engine's thread

    def gain(self, scales: tuple[float, ...], tokens: Sequence[int]) -> int:
        """How many of the ``tokens`` no state on disk has yet."""
        mine = array("i", tokens)
        with self._lock:
            self._look()
            known = [each.tokens for each in self._of(scales)]
            known += [tokens for others, tokens in self._waiting if others == scales]
            shared = [self._usable(each, mine) for each in known]
        return len(mine) - max(shared, default=0)

    def fits(self, state_bytes: int, *, waits: bool) -> bool:
        """Whether a state of this size may be written, at once unless the caller ``waits``."""
        return 0 < state_bytes <= self._limit_bytes and (waits or not self._queue.full())

    def put(self, scales: tuple[float, ...], tokens: Sequence[int], state: bytearray) -> None:
        """Have a state written; waits while another one waits for it already."""
        mine = array("i", tokens)
        with self._lock:
            self._waiting.append((scales, mine))
        self._queue.put((scales, mine, state))

    def finish(self) -> None:
        """Wait until everything is written."""
        self._queue.join()

    def find(
        self, scales: tuple[float, ...], tokens: Sequence[int], least: int
    ) -> tuple[list[int], bytearray] | None:
        """The state that serves most of ``tokens``, ``least`` of them or more.

        It is checked, and used most lately now.
        """
        wanted = array("i", tokens)
        while (entry := self._best(scales, wanted, least)) is not None:
            with self._dropping(entry.path):
                state = _state_of(entry)
                with suppress(OSError):
                    os.utime(entry.path)
                return entry.tokens.tolist(), state
        return None

    def refuse(self, tokens: Sequence[int]) -> None:
        """Drop the state of these tokens, which llama.cpp did not take."""
        mine = array("i", tokens)
        with self._lock:
            found = [name for name, each in self._entries.items() if each and each.tokens == mine]
        for name in found:
            self._drop(self._folder / name, "llama.cpp did not accept it")

    # ------------------------------------------------------------ what is there

    def _of(self, scales: tuple[float, ...]) -> Iterator[_Entry]:
        for entry in self._entries.values():
            if entry is not None and entry.header.scales == scales:
                yield entry

    def _usable(self, saved: array[int], tokens: array[int]) -> int:
        """How many of the ``tokens`` a state serves."""
        shared = shared_length(saved, tokens)
        return shared if not self._whole or shared == len(saved) else 0

    def _best(self, scales: tuple[float, ...], wanted: array[int], least: int) -> _Entry | None:
        best, most = None, max(least, 1) - 1
        with self._lock:
            self._look()
            for entry in self._of(scales):
                usable = self._usable(entry.tokens, wanted)
                if usable > most and len(entry.tokens) <= self._most_tokens:
                    best, most = entry, usable
        return best

    def _look(self) -> None:
        """Read the headers of files that came, and forget those that went."""
        try:
            changed_ns = self._folder.stat().st_mtime_ns
        except OSError:  # nothing was written yet, or the user has removed it
            self._entries.clear()
            return
        if changed_ns == self._seen_ns:
            return
        self._seen_ns = changed_ns
        names = {path.name for path in self._files()}
        self._entries = {name: each for name, each in self._entries.items() if name in names}
        for name in sorted(names - self._entries.keys())[:_MOST_FILES]:
            self._entries[name] = None  # of another key, or none that can be read
            with self._dropping(self._folder / name):
                entry = _entry_of(self._folder / name)
                self._entries[name] = entry if entry.header.key == self._key else None

    def _files(self) -> list[Path]:
        try:
            return [path for path in self._folder.iterdir() if path.name.endswith(_SUFFIX)]
        except OSError:
            return []

    @contextmanager
    def _dropping(self, path: Path) -> Iterator[None]:
        """What turns out to be damaged in the block is dropped, what is gone is forgotten."""
        try:
            yield
        except FileNotFoundError:
            self._entries[path.name] = None
        except _DamagedError as error:
            self._drop(path, str(error))
        except OSError as error:
            self._drop(path, f"it cannot be read: {reason(error)}")

    def _drop(self, path: Path, problem: str) -> None:
        """Remove a file that serves nobody, and tell so."""
        self._entries[path.name] = None
        with suppress(OSError):
            path.unlink()
        self._report(
            "a saved prompt was dropped from the prefix cache on disk and is processed anew: "
            + problem
        )

    def _report(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a parent that is gone reads no log
            sys.stderr.write(f"{text} ({self._folder})\n")
        self._tell(text)

    # ------------------------------------------------------------ from the thread that writes

    def _write_all(self) -> None:
        self._remove_unused()
        while True:
            scales, tokens, state = self._queue.get()
            try:
                self._write(scales, tokens, state)
            except OSError as error:
                self._limit_bytes = 0
                self._report(
                    "the prefix cache on disk is off until the next load, because "
                    f"{self._folder} cannot be written: {reason(error)}"
                )
            finally:
                del state
                with self._lock:
                    self._waiting.remove((scales, tokens))
                self._queue.task_done()

    def _write(self, scales: tuple[float, ...], tokens: array[int], state: bytearray) -> None:
        checksum = hashlib.sha256(state).hexdigest()
        header = _Header(self._key, scales, len(tokens), len(state), checksum)
        encoded = msgspec.json.encode(header)
        head = encoded + tokens.tobytes()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256(head)
        path = self._folder / f"{digest.hexdigest()[:32]}{_SUFFIX}"
        with replacing(path) as draft, draft.open("wb") as file:
            file.write(_MAGIC + digest.digest() + len(encoded).to_bytes(_LENGTH_BYTES, "little"))
            file.write(head)
            file.write(state)
        with self._lock:
            self._look()
            beginnings = [
                each.path
                for each in self._of(scales)
                if len(each.tokens) < len(tokens) and tokens[: len(each.tokens)] == each.tokens
            ]
        if self._whole:  # where the beginning is asked for again, nothing else serves
            beginnings.clear()
        self._trim(beginnings)

    def _trim(self, beginnings: Sequence[Path]) -> None:
        """Remove what a longer state replaces, and the longest unused beyond the limit."""
        for path in beginnings:
            with suppress(OSError):
                path.unlink()
        files = sorted(_used(self._files()))
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._limit_bytes:
                break
            with suppress(OSError):
                path.unlink()
                total -= size

    def _remove_unused(self) -> None:
        """Remove what no model has used for long, of models that are gone too."""
        folders = [self._folder]
        with suppress(OSError):
            folders = [path for path in self._folder.parent.iterdir() if path.is_dir()]
        for folder in folders:
            with suppress(OSError):
                files = list(_used(folder.glob(f"*{_SUFFIX}")))
                for used, _, path in files:
                    if time.time() - used > _UNUSED_SECONDS:
                        path.unlink()


def _entry_of(path: Path) -> _Entry:
    """Read what stands before the state. Raises ``_DamagedError`` and ``OSError``."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        begin = _read(file, len(_MAGIC) + _DIGEST_BYTES + _LENGTH_BYTES)
        digest, length = begin[len(_MAGIC) : -_LENGTH_BYTES], begin[-_LENGTH_BYTES:]
        encoded = _read(file, min(int.from_bytes(length, "little"), _LONGEST_HEADER))
        try:
            header = _HEADERS.decode(encoded)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _DamagedError(_CHECKSUM) from error
        state_at = len(begin) + len(encoded) + _TOKEN_BYTES * header.tokens
        if min(header.tokens, header.state_bytes) < 1 or state_at + header.state_bytes != size:
            raise _DamagedError(_INCOMPLETE)
        tokens = _read(file, _TOKEN_BYTES * header.tokens)
        if not begin.startswith(_MAGIC) or hashlib.sha256(encoded + tokens).digest() != digest:
            raise _DamagedError(_CHECKSUM)
        return _Entry(path, header, array("i", bytes(tokens)), state_at)


def _state_of(entry: _Entry) -> bytearray:
    """The state, checked. Raises ``_DamagedError`` and ``OSError``."""
    with open_regular(entry.path) as file:
        file.seek(entry.state_at)
        state = _read(file, entry.header.state_bytes)
    if hashlib.sha256(state).hexdigest() != entry.header.sha256:
        raise _DamagedError(_CHECKSUM)
    return state


def _read(file: FileIO, count: int) -> bytearray:
    data = bytearray(count)
    rest = memoryview(data)
    while rest:
        got = file.readinto(rest)
        if not got:
            raise _DamagedError(_INCOMPLETE)
        rest = rest[got:]
    return data


def _used(paths: Iterable[Path]) -> Iterator[tuple[float, int, Path]]:
    """When each file was used last, its size, and itself; without those that are gone."""
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            yield status.st_mtime, status.st_size, path
