"""Model files in a folder and below it, found within bounds, whatever else lies there."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from pathlib import Path

from nbllm.core.paths import is_gguf, reason

__all__ = ["GGUFS_AT_MOST", "FolderSearch"]

GGUFS_AT_MOST = 16_384
"""So many model files are found at most."""
_MAX_DEPTH = 3
_MAX_FOLDERS = 2_000
_MAX_ENTRIES = 500_000
_MAX_SECONDS = 10.0
_ENVIRONMENT_MARK = "pyvenv.cfg"
_NOT_ENTERED = {"node_modules", "site-packages", "__pycache__"}
_LATER_SPLIT = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


class FolderSearch:
    """The GGUFs in ``folder`` and up to three levels below it, those nearest to it first.

    ``files`` are regular files, links to such among them, sorted by their paths; later parts of
    split models are left out. Hidden files and folders, virtual environments and links to folders
    are passed over. A folder that cannot be read, and a bound that ended the search, are told in
    ``notes``. The bound on folders keeps a search quick that begins in somebody's home.
    """

    def __init__(self, folder: Path, *, folders_at_most: int | None = None) -> None:
        self._folders_at_most = folders_at_most or _MAX_FOLDERS
        self._found: list[str] = []
        self._unread: list[tuple[str, str]] = []
        self._stopped = ""
        self._entries, self._deadline = 0, time.monotonic() + _MAX_SECONDS
        self._search(os.fspath(folder))
        self.files = sorted(map(Path, self._found))

    @property
    def notes(self) -> list[str]:
        """Sentences on what was not looked at."""
        notes = []
        if self._unread:
            folder, why = self._unread[0]
            more = f" and {len(self._unread) - 1:,} more" if len(self._unread) > 1 else ""
            notes.append(f"Folders that cannot be read were skipped: {folder} ({why}){more}.")
        if self._stopped:
            notes.append(
                f"The search stopped after {self._stopped}; load a model not listed by its path."
            )
        return notes

    def _search(self, folder: str) -> None:
        waiting = deque([(folder, 0)])
        searched = 0
        while waiting and not self._stopped:
            here, depth = waiting.popleft()
            searched += 1
            below = self._look_into(here, is_start=not depth)
            if depth < _MAX_DEPTH:
                waiting.extend((inner, depth + 1) for inner in below)
            if waiting and searched >= self._folders_at_most:
                self._stopped = f"{self._folders_at_most:,} folders"

    def _look_into(self, folder: str, *, is_start: bool) -> list[str]:
        """Take the files of a folder; the folders in it are returned."""
        below: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name == _ENVIRONMENT_MARK and not is_start:
                        return []
                    if self._is_over(len(files)):
                        break
                    _sort_in(entry, below, files)
        except (OSError, ValueError) as error:
            self._unread.append((folder, reason(error)))
        self._found += files
        return sorted(below)

    def _is_over(self, more: int) -> bool:
        """Count an entry, and say whether a bound ends the search here."""
        self._entries += 1
        if len(self._found) + more >= GGUFS_AT_MOST:
            self._stopped = f"{GGUFS_AT_MOST:,} model files"
        elif self._entries >= _MAX_ENTRIES:
            self._stopped = f"{_MAX_ENTRIES:,} files and folders"
        elif time.monotonic() > self._deadline:
            self._stopped = f"{_MAX_SECONDS:g} s"
        return bool(self._stopped)


def _sort_in(entry: os.DirEntry[str], folders: list[str], files: list[str]) -> None:
    """Put an entry into the list where it belongs, if it does into any."""
    name = entry.name
    if name.startswith(".") or name in _NOT_ENTERED:
        return
    try:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif is_gguf(name) and not _LATER_SPLIT.search(name) and entry.is_file():
            files.append(entry.path)
    except OSError:  # a link in a loop, or what vanished meanwhile
        return
