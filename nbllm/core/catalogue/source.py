"""What a place is where model files are found without being configured.

A place is one module with a class of this protocol, and a line in ``listing.STORES``. It yields
paths and names and reads no model; nothing that lies there may break it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbllm.core.catalogue.folder_search import FolderSearch
from nbllm.core.paths import expanded

__all__ = ["Store", "StoredFile", "folder_files", "home_folder", "named_folder", "variable_folder"]

_MOST_PATH = 4096
_FOLDERS_AT_MOST = 50_000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A model file; ``name`` is what its program calls it, else the file's own name is used.

    ``aliases`` are further names that people know it by, ``companions`` files that its program
    says belong to it; see ``companions.with_companions`` for those that only lie beside it.
    """

    path: Path
    name: str | None = None
    aliases: tuple[str, ...] = ()
    companions: tuple[Path, ...] = ()


class Store(Protocol):
    """Where a program keeps its models."""

    @property
    def key(self) -> str:
        """Its name in flags and in ``ModelInfo.source``."""
        ...

    @property
    def title(self) -> str:
        """Its name in texts."""
        ...

    def folders(self) -> Iterable[Path]:
        """The folders that it would look into on this machine, whether they are there or not."""
        ...

    def files(self) -> Iterator[StoredFile]:
        """What is in them. Raises ``OSError`` where one cannot be read."""
        ...


def folder_files(folder: Path) -> list[Path]:
    """The model files in a folder and below it, within bounds; none where it is not there."""
    return FolderSearch(folder, folders_at_most=_FOLDERS_AT_MOST).files if folder.is_dir() else []


def variable_folder(name: str) -> Path | None:
    """The folder that an environment variable names, if it names one that can be."""
    return named_folder(os.environ.get(name, ""))


def named_folder(written: str) -> Path | None:
    """The folder that a person or a program names, None for what can name none."""
    value = written.strip()
    if not value or len(value) > _MOST_PATH or "\0" in value:
        return None
    try:
        return expanded(value)
    except ValueError:
        return None


def home_folder() -> Path:
    """The user's home; an empty path that leads nowhere where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)
