"""Programs that keep their models as plain files in folders of their own.

Sources: LM Studio's documentation ("Import models", ``~/.lmstudio-home-pointer``); llama.cpp,
``common/common.cpp`` (``fs_get_cache_directory``); GPT4All, ``gpt4all-chat/src/mysettings.cpp``
and its Python bindings; Jan's documentation ("Data folder").
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nbllm.core.catalogue.source import (
    StoredFile,
    folder_files,
    home_folder,
    named_folder,
    variable_folder,
)
from nbllm.core.paths import read_text

__all__ = ["DOWNLOADS", "PROGRAMS", "ModelFolders", "downloads_folder", "reader_folders"]

FOLDERS_VARIABLE = "NBLLM_MODEL_FOLDERS"
"""An environment variable with folders of one's own, separated as in ``PATH``."""

_MOST_POINTER = 4096
_PLAIN_NAMES = {"model", "ggml-model"}
"""Files that say nothing of what they are; the folder's name is used."""


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """A program whose models lie as files in the folders that ``places`` gives."""

    key: str
    title: str
    places: Callable[[], Iterable[Path]]

    def folders(self) -> Iterable[Path]:
        """Its folders."""
        return self.places()

    def files(self) -> Iterator[StoredFile]:
        """The GGUFs in them and below."""
        for folder in self.places():
            for path in folder_files(folder):
                yield StoredFile(path, _name(path, folder))


def _name(path: Path, folder: Path) -> str | None:
    """None where the file's own name says what it is."""
    if path.stem.casefold() not in _PLAIN_NAMES or path.parent == folder:
        return None
    return "/".join(path.parent.relative_to(folder).parts)


def _lm_studio() -> list[Path]:
    home = home_folder()
    folders = [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    try:
        pointed = named_folder(read_text(home / ".lmstudio-home-pointer", _MOST_POINTER))
        if pointed is not None:
            folders.insert(0, pointed / "models")
    except (OSError, ValueError):
        pass  # it has no pointer: the usual places
    return list(dict.fromkeys(folders))


def _llama_cpp() -> list[Path]:
    given = variable_folder("LLAMA_CACHE")
    return [given if given is not None else _caches() / "llama.cpp"]


def _gpt4all() -> list[Path]:
    return [_data() / "nomic.ai" / "GPT4All", home_folder() / ".cache" / "gpt4all"]


def _jan() -> list[Path]:
    given = variable_folder("JAN_DATA_FOLDER")
    homes = [given] if given is not None else [_data() / "Jan" / "data", home_folder() / "jan"]
    if given is None and sys.platform.startswith("linux"):
        base = variable_folder("XDG_CONFIG_HOME") or home_folder() / ".config"
        homes.append(base / "Jan" / "data")
    below = ("llamacpp/models", "models")
    return [home / part for home in homes for part in below]


def _caches() -> Path:
    if sys.platform == "darwin":
        return home_folder() / "Library" / "Caches"
    if sys.platform == "win32":
        return variable_folder("LOCALAPPDATA") or home_folder() / "AppData" / "Local"
    return variable_folder("XDG_CACHE_HOME") or home_folder() / ".cache"


def _data() -> Path:
    if sys.platform == "darwin":
        return home_folder() / "Library" / "Application Support"
    if sys.platform == "win32":
        return variable_folder("LOCALAPPDATA") or home_folder() / "AppData" / "Local"
    return variable_folder("XDG_DATA_HOME") or home_folder() / ".local" / "share"


def reader_folders() -> list[Path]:
    """The folders that the reader names in the environment."""
    named = map(named_folder, os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep))
    return [folder for folder in named if folder is not None]


PROGRAMS = (
    ModelFolders("folders", FOLDERS_VARIABLE, reader_folders),
    ModelFolders("lmstudio", "LM Studio", _lm_studio),
    ModelFolders("llama.cpp", "llama.cpp", _llama_cpp),
    ModelFolders("gpt4all", "GPT4All", _gpt4all),
    ModelFolders("jan", "Jan", _jan),
)


# ---------------------------------------------------------------- nbllm's own folder


def downloads_folder() -> Path:
    """The folder; each file lies in one of its own in it."""
    from platformdirs import user_data_path

    return user_data_path("nbllm") / "downloads"


def _folders() -> Iterable[Path]:
    return [downloads_folder()]


DOWNLOADS = ModelFolders("downloads", "downloads", _folders)
