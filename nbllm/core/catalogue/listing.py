"""All model files of this machine as one list: one entry for each model, one name for each entry.

Nothing that lies about can break a listing: what cannot be read is passed over and told in a note.
The search and the reading of headers are both bounded; the search by less, so that what one listing
found is still known to the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nbllm.core.catalogue.companions import with_companions
from nbllm.core.catalogue.folder_search import FolderSearch
from nbllm.core.catalogue.headers import HEADERS, describe_all
from nbllm.core.catalogue.hugging_face import HuggingFaceCache
from nbllm.core.catalogue.ollama import OllamaStore
from nbllm.core.catalogue.packages import bundled_files
from nbllm.core.catalogue.programs import DOWNLOADS, PROGRAMS
from nbllm.core.catalogue.source import Store, StoredFile
from nbllm.core.errors import ModelFileError
from nbllm.core.paths import absolute_path, printable, readable, reason
from nbllm.core.types import ModelInfo, Source

__all__ = [
    "STORES",
    "Listing",
    "bundled_models",
    "found_models",
    "merged",
    "nothing_in",
    "store_called",
    "stored_models",
]

STORES: tuple[Store, ...] = (
    PROGRAMS[0],
    DOWNLOADS,
    HuggingFaceCache(),
    *PROGRAMS[1:],
    OllamaStore(),
)
"""The places of other programs, in the order in which they get a name."""

_MAX_SECONDS = 30.0
"""For all headers of one listing; what was read by then the next one knows, and goes on from."""
_NO_LANGUAGE_MODEL = {"adapter", "control vector", "imatrix", "other", "vocab"}


@dataclass(frozen=True, slots=True)
class Listing:
    """Models that can be loaded; ``notes`` are sentences on what was passed over."""

    models: tuple[ModelInfo, ...] = ()
    notes: tuple[str, ...] = ()


def bundled_models() -> list[ModelInfo]:
    """Models whose files belong to installed packages, found without importing any of them."""
    files = (StoredFile(path) for path in sorted(bundled_files()))
    return _described(files, "bundled").models


def found_models(folder: Path | None) -> Listing:
    """Models in ``folder`` and up to three levels below it; see ``FolderSearch``.

    Without a folder it is the current one.
    """
    try:
        start = absolute_path(folder or Path())
    except ValueError as error:
        return Listing(notes=(f"No folder was searched for models: {error}.",))
    search = FolderSearch(start)
    found = _described(map(StoredFile, search.files), "found")
    return Listing(tuple(found.models), tuple(map(printable, [*search.notes, *found.notes])))


def stored_models(stores: Iterable[Store] = STORES) -> Listing:
    """Models that other programs keep on this machine; see ``STORES``.

    Headers that an earlier process read are not read again.
    """
    HEADERS.restore()
    models: list[ModelInfo] = []
    notes: list[str] = []
    for store in stores:
        found = _described(_files_of(store, notes), store.key)
        models += found.models
        notes += [f"{store.title}: {note}" for note in found.notes]
    HEADERS.save()
    return Listing(tuple(models), tuple(map(printable, notes)))


def store_called(word: str) -> Store | None:
    """The place with this key or title, however it is written."""
    folded = _folded(word)
    return next((s for s in STORES if folded in (_folded(s.key), _folded(s.title))), None)


def nothing_in(store: Store) -> str:
    """A sentence on a place without models: where was looked for them."""
    folders = [str(folder) for folder in store.folders()]
    if not folders:
        return f"No folders are set in {store.title}."
    return printable(f"{store.title}: no models; looked in {', '.join(folders)}.")


def _folded(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())


def _files_of(store: Store, notes: list[str]) -> Iterator[StoredFile]:
    try:
        yield from store.files()
    except OSError as error:
        notes.append(f"{store.title}: its models cannot be listed: {reason(error)}.")


def merged(infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    """One entry for each file, under the name that was found first.

    What else it is called is another name of it. Different files of one name are told apart by
    where they are from, as in "lmstudio:NAME"; the first one keeps the name.
    """
    by_file: dict[object, ModelInfo] = {}
    for info in infos:
        key = _identity(info)
        first = by_file.get(key)
        if first is None:
            by_file[key] = info
        else:
            more = dict.fromkeys([*first.aliases, info.name, *info.aliases])
            names = tuple(name for name in more if name != first.name)
            companions = tuple(dict.fromkeys([*first.companions, *info.companions]))
            by_file[key] = replace(first, aliases=names, companions=companions)
    return list(_distinct(by_file.values()))


def _distinct(infos: Iterable[ModelInfo]) -> Iterator[ModelInfo]:
    taken: set[str] = set()
    for info in infos:
        own = f"{info.source}:{info.name}"
        number, name = 2, info.name
        while name in taken:
            name, number = own if number == 2 else f"{own} ({number - 1})", number + 1
        taken.add(name)
        stands_in = info.source not in ("config", "bundled", "found") and name != own
        aliases = (*info.aliases, own) if stands_in else info.aliases
        yield (
            info
            if (name, aliases) == (info.name, info.aliases)
            else replace(info, name=name, aliases=aliases)
        )


def _identity(info: ModelInfo) -> object:
    """The file itself, whatever path leads to it; entries without one are all different."""
    if info.path is None:
        return info.name, info.source
    try:
        status = info.path.stat()
    except OSError:
        return os.path.realpath(info.path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(info.path)


# ---------------------------------------------------------------- headers


@dataclass(slots=True)
class _Found:
    models: list[ModelInfo]
    notes: list[str]


def _described(files: Iterable[StoredFile], source: Source) -> _Found:
    """The models, and sentences on what was passed over."""
    known = list(files)
    until = time.monotonic() + _MAX_SECONDS
    told = describe_all((file.path for file in known), source, until)
    described = [
        (file, info)
        for file, info in zip(known, told, strict=True)
        if isinstance(info, ModelInfo) and info.model_type not in _NO_LANGUAGE_MODEL
    ]
    infos = [_named(info, file) for file, info in with_companions(described)]
    unread = [error for error in told if isinstance(error, ModelFileError)]
    return _Found(infos, [*_file_notes(unread), *_late_notes(told.count(None))])


def _named(info: ModelInfo, file: StoredFile) -> ModelInfo:
    if file.name is None and not file.aliases:
        return info
    aliases = tuple(map(readable, file.aliases))
    return replace(info, name=readable(file.name or info.name), aliases=aliases)


def _file_notes(unread: list[ModelFileError]) -> list[str]:
    if not unread:
        return []
    count = f"{len(unread):,} files were" if len(unread) > 1 else "One file was"
    return [f"{count} not listed because of errors, such as {unread[0]}"]


def _late_notes(left: int) -> list[str]:
    if not left:
        return []
    return [
        f"Reading headers took more than {_MAX_SECONDS:g} s, so {left:,} "
        f"file{'s were' if left != 1 else ' was'} skipped. "
        "List the models again to continue, or give a path."
    ]
