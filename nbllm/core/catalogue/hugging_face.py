"""Hugging Face's cache: ``models--OWNER--REPO/snapshots/REVISION/…``, links to blobs.

Source: "Understand caching" in the documentation of huggingface_hub, and its ``constants.py`` for
the environment variables. llama.cpp and vLLM keep their downloads here too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from nbllm.core.catalogue.source import StoredFile, home_folder, variable_folder
from nbllm.core.paths import is_gguf, read_start

__all__ = ["HuggingFaceCache", "hub_cache", "hub_files"]

_MOST_REPOSITORIES, _MOST_REVISIONS, _MOST_ENTRIES, _MOST_DEPTH = 20_000, 100, 10_000, 4
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?:^|[.\-_])((?:UD-)?(?:I?Q\d+_\w+|TQ\d_\d|MXFP4\w*|BF16|F16|F32))(?:-\d{5}-of-\d{5})?$",
    re.IGNORECASE,
)


def hub_cache() -> Path:
    """Where the cache is, as huggingface_hub decides it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if (folder := variable_folder(name)) is not None:
            return folder
    home = variable_folder("HF_HOME")
    if home is None:
        base = variable_folder("XDG_CACHE_HOME") or home_folder() / ".cache"
        home = base / "huggingface"
    return home / "hub"


def hub_files(repository: str) -> list[Path]:
    """The model files of a repository that are in the cache, ``main``'s where there are several."""
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    return [file.path for file in _repository_files(folder)]


class HuggingFaceCache:
    """The files of all repositories, those of the revision that ``main`` names first."""

    key, title = "huggingface", "Hugging Face"

    def folders(self) -> Iterable[Path]:
        """The one cache."""
        return [hub_cache()]

    def files(self) -> Iterator[StoredFile]:
        """A model is called as its file is; its repository is another name of it."""
        for repository in _folders(hub_cache(), _MOST_REPOSITORIES):
            if repository.name.startswith("models--"):
                yield from _repository_files(repository)


def _repository_files(repository: Path) -> Iterator[StoredFile]:
    owner_and_name = repository.name.removeprefix("models--").replace("--", "/")
    seen: set[Path] = set()
    for revision in _revisions(repository):
        for path in sorted(_ggufs(revision, _MOST_DEPTH)):
            part = path.relative_to(revision)
            if part not in seen:
                seen.add(part)
                yield StoredFile(path, aliases=_aliases(owner_and_name, path.stem))


def _aliases(repository: str, stem: str) -> tuple[str, ...]:
    """As ``llama-server -hf`` and ``ollama run`` take them: the repository with its type."""
    found = _QUANTIZATION.search(stem)
    name = f"{repository}:{found[1]}" if found else f"{repository}/{stem}.gguf"
    return (name, f"hf.co/{name}")


def _revisions(repository: Path) -> list[Path]:
    revisions = _folders(repository / "snapshots", _MOST_REVISIONS)
    try:
        main = read_start(repository / "refs" / "main", 100).decode(errors="replace").strip()
    except (OSError, ValueError):
        main = ""
    return sorted(revisions, key=lambda folder: folder.name != main)


def _ggufs(folder: Path, depth: int) -> Iterator[Path]:
    """The model files of a revision; a link to nothing is one that was not downloaded whole."""
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _MOST_ENTRIES):
                if entry.is_dir(follow_symlinks=False):
                    if depth:
                        yield from _ggufs(folder / entry.name, depth - 1)
                elif is_gguf(entry.name) and not _LATER_PART.search(entry.name) and _is_file(entry):
                    yield folder / entry.name
    except OSError:
        return


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _folders(folder: Path, most: int) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, most) if _is_folder(entry)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
