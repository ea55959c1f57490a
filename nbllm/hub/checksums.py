"""Checksums of what arrives, computed while the rest of it is still on its way."""

from __future__ import annotations

import asyncio
import hashlib
from io import BufferedReader, FileIO
from typing import Any

from nbllm.core.downloads import RemoteFile
from nbllm.core.paths import open_regular
from nbllm.hub.parts import PartFile

__all__ = ["Checksum", "expected_checksum"]

_BLOCK = 8 * 2**20
_PAUSE_SECONDS = 0.05


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
