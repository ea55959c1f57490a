"""Model files that are there without being configured: in installed packages, in a folder.

Nothing that lies about can break a listing: what cannot be read is passed over and told in a note.
The search and the memory of what headers said are both bounded; the search by less, so that what
one listing found is still known to the next.
"""

from __future__ import annotations

import csv
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from nbllm.core.errors import ModelFileError
from nbllm.core.folder_search import GGUFS_AT_MOST, FolderSearch
from nbllm.core.openers import describe_file
from nbllm.core.paths import absolute_path, file_status, is_gguf, printable, reason
from nbllm.core.types import GenerationOptions, ModelInfo

__all__ = ["Listing", "bundled_models", "describe", "found_models"]

_MAX_SECONDS = 30.0
"""For all headers of one listing; what was read by then the next one knows, and goes on from."""
_MAX_KNOWN = 2 * GGUFS_AT_MOST
_PARTS = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_NO_LANGUAGE_MODEL = {"adapter", "control vector", "imatrix", "mmproj", "other", "vocab"}
_RECOMMENDED = {
    # Its makers' advice (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct).
    "smollm2": GenerationOptions(temperature=0.2, top_p=0.9),
}

Source = Literal["found", "bundled"]


@dataclass(frozen=True, slots=True)
class Listing:
    """Models that can be loaded; ``notes`` are sentences on what was passed over."""

    models: tuple[ModelInfo, ...] = ()
    notes: tuple[str, ...] = ()


def describe(path: Path, source: Source = "found") -> ModelInfo:
    """What the file's header tells; ``path`` is absolute. Raises ``ModelFileError``."""
    known = _HEADERS.describe(path)
    if isinstance(known, str):
        raise ModelFileError(str(path), known)
    family = next((f for f in _RECOMMENDED if known.name.casefold().startswith(f)), None)
    if family is not None:
        return replace(known, source=source, options=_RECOMMENDED[family])
    return known if source == known.source else replace(known, source=source)


def bundled_models() -> list[ModelInfo]:
    """Models whose files belong to installed packages, found without importing any of them."""
    return _described(sorted(_bundled_files()), "bundled")[0]


def found_models(folder: Path | None) -> Listing:
    """Models in ``folder`` and up to three levels below it; see ``FolderSearch``.

    Without a folder it is the current one.
    """
    try:
        start = absolute_path(folder or Path())
    except ValueError as error:
        return Listing(notes=(f"No folder was searched for models: {error}.",))
    search = FolderSearch(start)
    models, unread, left = _described(search.files, "found")
    notes = [*search.notes, *_file_notes(unread)]
    if left:
        notes.append(
            f"Reading headers took more than {_MAX_SECONDS:g} s, so {left:,} files were skipped. "
            "List the models again to continue, or give a path."
        )
    return Listing(tuple(models), tuple(map(printable, notes)))


def _described(
    paths: list[Path], source: Source
) -> tuple[list[ModelInfo], list[ModelFileError], int]:
    """The models, why others cannot be read, and how many were not looked at for lack of time."""
    infos: list[ModelInfo] = []
    unread: list[ModelFileError] = []
    deadline = time.monotonic() + _MAX_SECONDS
    for number, path in enumerate(paths):
        if time.monotonic() > deadline:
            return infos, unread, len(paths) - number
        try:
            info = describe(path, source)
        except ModelFileError as error:
            unread.append(error)
        else:
            if info.model_type not in _NO_LANGUAGE_MODEL:
                infos.append(info)
    return infos, unread, 0


def _file_notes(unread: list[ModelFileError]) -> list[str]:
    if not unread:
        return []
    count = f"{len(unread):,} files were" if len(unread) > 1 else "One file was"
    return [f"{count} not listed because of errors, such as {unread[0]}"]


# ---------------------------------------------------------------- what headers said


@dataclass(slots=True)
class _Headers:
    """What the header of each file said when it was last read, or why it could not be read.

    A file counts as changed when its size or its time does. The parts of a split model have times
    of their own, so that a failure of one is never kept.
    """

    _known: dict[Path, tuple[int, int, ModelInfo | str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def describe(self, path: Path) -> ModelInfo | str:
        """What the file's header tells, or what is wrong with the file."""
        try:
            status = file_status(path)
        except OSError as error:
            return reason(error)
        version = (status.st_mtime_ns, status.st_size)
        known = self._known.get(path)
        if known is not None and known[:2] == version:
            return known[2]
        told = _read(path)
        if isinstance(told, ModelInfo) or not _PARTS.search(path.name):
            self._keep(path, (*version, told))
        return told

    def _keep(self, path: Path, entry: tuple[int, int, ModelInfo | str]) -> None:
        with self._lock:
            if len(self._known) >= _MAX_KNOWN:  # the file that has been known for longest goes
                del self._known[next(iter(self._known))]
            self._known[path] = entry


_HEADERS = _Headers()


def _read(path: Path) -> ModelInfo | str:
    try:
        return describe_file(path)
    except ModelFileError as error:
        return str(error).removeprefix(f"{error.model}: ")


# ---------------------------------------------------------------- installed packages


def _bundled_files() -> Iterator[Path]:
    for distribution in metadata.distributions():
        # A package that was half removed has no models.
        with suppress(OSError, ValueError, csv.Error):
            yield from _files_of(distribution)


def _files_of(distribution: metadata.Distribution) -> Iterator[Path]:
    if ".gguf" in (distribution.read_text("RECORD") or ""):
        for file in distribution.files or ():
            if is_gguf(str(file)):
                yield Path(str(distribution.locate_file(file))).absolute()
