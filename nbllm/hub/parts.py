"""A file that arrives in pieces, in any order, and survives a kill between any two of them.

Beside the data lies a small file that counts the bytes of each piece, written after the data that
it counts. A process that is killed loses what it had not counted, a few blocks; after a power cut
the counts may be ahead of the data, which the checksum at the end finds out.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO

from nbllm.core.downloads import RemoteFile
from nbllm.core.paths import open_regular

__all__ = ["Checksum", "PartFile", "PartPlace", "expected_checksum", "received_bytes"]

_BLOCK = 8 * 2**20
_PAUSE_SECONDS = 0.05
_HEAD = struct.Struct("<8sQQ32s")
_MAGIC = b"nbllmP1\0"
_LEAST_PIECE, _MOST_PIECE = 2**20, 64 * 2**20
_MOST_COUNTS = 2**20
_PIECES = 32


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Where a file is put together: its ``data``, and the ``counts`` of what is there of it."""

    data: Path
    counts: Path

    def remove(self) -> None:
        """Forget what has arrived."""
        for file in (self.counts, self.data):
            with suppress(FileNotFoundError):
                file.unlink()

    @property
    def disk_bytes(self) -> int:
        """What the data takes on the disk by now; holes take nothing."""
        try:
            status = self.data.stat()
        except OSError:
            return 0
        blocks: int | None = getattr(status, "st_blocks", None)
        return status.st_size if blocks is None else min(blocks * 512, status.st_size)


def received_bytes(place: PartPlace, size: int) -> int:
    """How much of a file of ``size`` bytes another process has by now; 0 where that is unknown."""
    try:
        data = place.counts.read_bytes()[: _HEAD.size + 8 * _MOST_COUNTS]
    except OSError:
        return 0
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[:2] != (_MAGIC, size):
        return 0
    return min(sum(_counts(data)), size)


def _counts(data: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"<{(len(data) - _HEAD.size) // 8}Q", data, _HEAD.size)


class PartFile:
    """A file of ``size`` bytes in pieces; what an earlier process brought of it is there.

    ``identity`` tells one content from another: what belongs to another is dropped. One thread
    writes. Raises ``OSError``.
    """

    def __init__(self, place: PartPlace, size: int, identity: str) -> None:
        self.place, self.size = place, size
        wanted = size // _PIECES // _LEAST_PIECE * _LEAST_PIECE
        self.piece = min(max(wanted, _LEAST_PIECE), _MOST_PIECE)
        self._head = _HEAD.pack(
            _MAGIC, size, self.piece, hashlib.sha256(identity.encode()).digest()
        )
        self.restarts = 0
        self._count = [0] * -(-size // self.piece)
        self._is_taken = [False] * len(self._count)
        kept = self._kept()
        if kept is not None:
            self._count = kept
        self._data = _opened(place.data, is_new=kept is None)
        self._counts = _opened(place.counts, is_new=kept is None)
        if kept is None:
            self._counts.write(self._head + struct.pack(f"<{len(self._count)}Q", *self._count))

    def _kept(self) -> list[int] | None:
        """What an earlier process counted; None where that does not belong to this file."""
        try:
            stored = self.place.counts.read_bytes()
            there = self.place.data.stat().st_size
        except OSError:
            return None
        if stored[: _HEAD.size] != self._head or len(stored) != _HEAD.size + 8 * len(self._count):
            return None
        counts = list(_counts(stored))
        for number, count in enumerate(counts):
            if count > self.length(number) or (count and number * self.piece + count > there):
                return None
        return counts

    @property
    def received(self) -> int:
        """The bytes that are there."""
        return sum(self._count)

    @property
    def contiguous(self) -> int:
        """The bytes that are there from the beginning on without a gap."""
        total = 0
        for number, count in enumerate(self._count):
            total += count
            if count < self.length(number):
                break
        return total

    def length(self, number: int) -> int:
        """The bytes of piece ``number`` when it is whole."""
        return min(self.piece, self.size - number * self.piece)

    def take(self) -> int | None:
        """The first piece that is incomplete and that nobody else works on; None: there is none."""
        for number, count in enumerate(self._count):
            if count < self.length(number) and not self._is_taken[number]:
                self._is_taken[number] = True
                return number
        return None

    def give_back(self, number: int) -> None:
        """Nobody works on the piece any more."""
        self._is_taken[number] = False

    def span(self, number: int) -> tuple[int, int]:
        """What is missing of a piece: the first byte, and the one behind the last."""
        start = number * self.piece
        return start + self._count[number], start + self.length(number)

    def write(self, number: int, data: bytes) -> None:
        """More of a piece; never more than is missing."""
        start, end = self.span(number)
        if len(data) > end - start:
            raise ValueError("more data than the piece has room for")
        self._data.seek(start)
        self._data.write(data)
        self._count[number] += len(data)
        self._counts.seek(_HEAD.size + 8 * number)
        self._counts.write(struct.pack("<Q", self._count[number]))

    def restart(self) -> None:
        """Begin again from the first byte; ``restarts`` counts that."""
        self.restarts += 1
        self._count = [0] * len(self._count)
        self._counts.seek(_HEAD.size)
        self._counts.write(bytes(8 * len(self._count)))

    def sync(self) -> None:
        """Have the data on the disk before the file gets its name."""
        os.fsync(self._data.fileno())

    def close(self) -> None:
        """Give the files back; what has arrived stays."""
        self._data.close()
        self._counts.close()


def _opened(path: Path, *, is_new: bool) -> BinaryIO:
    """Unbuffered: what was written is the system's, whatever becomes of this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_new:
        with suppress(FileNotFoundError):
            path.unlink()  # never written through a link that somebody put there
    return path.open("xb" if is_new else "r+b", buffering=0)


# ---------------------------------------------------------------- checksums


def expected_checksum(file: RemoteFile) -> str | None:
    """What the checksum of the file must be; None where nobody says."""
    return file.digest or file.git_digest


def _new_hash(file: RemoteFile) -> Any:
    if file.digest is None and file.git_digest is not None:
        made = hashlib.sha1(usedforsecurity=False)  # git's name for a file is what it is
        made.update(f"blob {file.size_bytes}\0".encode())
        return made
    return hashlib.sha256()


class Checksum:
    """Reads behind the writer, as far as the file has no gap. ``checked`` counts the bytes."""

    def __init__(self, file: RemoteFile, parts: PartFile) -> None:
        self.checked = 0
        self._file, self._parts = file, parts

    async def follow(self) -> str:
        """The checksum in hexadecimal, once all is there. Raises ``OSError``."""
        with BufferedReader(open_regular(self._parts.place.data)) as data:
            while True:
                whole = await self._read(data, self._parts.restarts)
                if whole is not None:
                    return whole
                data.seek(0)

    async def _read(self, data: BufferedReader[FileIO], restarts: int) -> str | None:
        """None where the file began anew meanwhile: what was read of it may have changed."""
        checksum, self.checked = _new_hash(self._file), 0
        while self._parts.restarts == restarts:
            ready = self._parts.contiguous
            if self.checked == ready == self._parts.size:
                return str(checksum.hexdigest())
            if ready - self.checked >= _BLOCK or ready == self._parts.size:
                block = await asyncio.to_thread(data.read, min(ready - self.checked, _BLOCK))
                await asyncio.to_thread(checksum.update, block)
                self.checked += len(block)
                if not block:
                    raise OSError("the file is shorter than what was written to it")
            else:
                await asyncio.sleep(_PAUSE_SECONDS)
        return None
