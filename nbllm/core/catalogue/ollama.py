"""Ollama's store: manifests that name blobs by their digests.

``manifests/HOST/NAMESPACE/MODEL/TAG`` is JSON with ``layers``; the one of the media type
``application/vnd.ollama.image.model`` is the GGUF, ``blobs/sha256-HEX``. Sources:
``server/modelpath.go``, ``manifest/`` and ``envconfig/config.go`` of Ollama.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from nbllm.core.catalogue.source import StoredFile, home_folder, variable_folder
from nbllm.core.paths import read_text

__all__ = ["OllamaStore", "ollama_blob", "ollama_names"]

_MODEL = "application/vnd.ollama.image.model"
_PROJECTOR = "application/vnd.ollama.image.projector"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_DEFAULT_HOST, _DEFAULT_NAMESPACE = "registry.ollama.ai", "library"
_MOST_BYTES, _MOST_MANIFESTS, _MOST_ENTRIES = 2**20, 20_000, 10_000
_LEVELS = 4
_SYSTEM_FOLDER = Path("/usr/share/ollama/.ollama/models")


def ollama_names(store: Path | None = None) -> list[str]:
    """The models that Ollama has fetched, as ``ollama list`` names them."""
    return list(dict.fromkeys(file.name or "" for file in OllamaStore(store).files()))


def ollama_blob(name: str) -> Path | None:
    """The GGUF of a model that Ollama has fetched; ``:latest`` may be left out."""
    wanted = {name.casefold(), f"{name}:latest".casefold()}
    files = OllamaStore().files()
    return next((file.path for file in files if (file.name or "").casefold() in wanted), None)


class OllamaStore:
    """The models that ``ollama list`` shows, under the names that ``ollama run`` takes.

    Without a ``folder`` those of this machine.
    """

    key, title = "ollama", "Ollama"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def folders(self) -> Iterable[Path]:
        """The user's, and the one of the service that its installer makes on Linux."""
        if self._folder is not None:
            return [self._folder]
        given = variable_folder("OLLAMA_MODELS")
        if given is not None:
            return [given]
        folders = [home_folder() / ".ollama" / "models"]
        if sys.platform.startswith("linux"):
            folders.append(_SYSTEM_FOLDER)
        return folders

    def files(self) -> Iterator[StoredFile]:
        """Blobs that are there; a manifest that is damaged or leads elsewhere is passed over."""
        for folder in self.folders():
            paths = islice(_leaves(folder / "manifests", _LEVELS), _MOST_MANIFESTS)
            for manifest in sorted(paths):
                layers = _layers(manifest)
                blobs = _blobs(layers, _MODEL, folder / "blobs")
                if blobs:
                    name = _name(manifest.relative_to(folder / "manifests").parts)
                    projectors = _blobs(layers, _PROJECTOR, folder / "blobs")
                    yield StoredFile(blobs[0], name, _aliases(name), projectors)


def _leaves(folder: Path, levels: int) -> Iterator[Path]:
    """The files that lie exactly so many levels below; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            below = sorted(islice(entries, _MOST_ENTRIES), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in below:
        if levels > 1 and _is(entry, os.DirEntry.is_dir):
            yield from _leaves(folder / entry.name, levels - 1)
        elif levels == 1 and _is(entry, os.DirEntry.is_file):
            yield folder / entry.name


def _is(entry: os.DirEntry[str], kind: Callable[..., bool]) -> bool:
    try:
        return kind(entry, follow_symlinks=False)
    except OSError:
        return False


def _layers(manifest: Path) -> list[tuple[str, str]]:
    """The media types and digests of its layers; none of one that is damaged."""
    try:
        content: Any = json.loads(read_text(manifest, _MOST_BYTES))
        return [(str(layer["mediaType"]), str(layer["digest"])) for layer in content["layers"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []


def _blobs(layers: Iterable[tuple[str, str]], kind: str, blobs: Path) -> tuple[Path, ...]:
    """The files of a kind, by digests that can be nothing else than names in the blobs."""
    digests = [_DIGEST.fullmatch(digest) for media_type, digest in layers if media_type == kind]
    files = [blobs / f"sha256-{digest[1]}" for digest in digests if digest is not None]
    return tuple(file for file in files if file.is_file())


def _name(parts: tuple[str, ...]) -> str:
    host, namespace, model, tag = parts
    if host != _DEFAULT_HOST:
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == _DEFAULT_NAMESPACE else f"{namespace}/{model}:{tag}"


def _aliases(name: str) -> tuple[str, ...]:
    """Ollama's own default tag may be left out."""
    return (name.removesuffix(":latest"),) if name.endswith(":latest") else ()
