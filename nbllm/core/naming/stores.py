"""Models that other programs have put on this disk: Ollama's store and Hugging Face's cache.

Only names and small manifests are read, within bounds; what cannot be read is not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from nbllm.core.paths import absolute_path, read_file

__all__ = ["hub_files", "ollama_blob", "ollama_names"]

_MOST_MANIFESTS = 500
_MOST_BYTES = 2**18
_MODEL_LAYER = "application/vnd.ollama.image.model"
_SYSTEM_STORE = "/usr/share/ollama/.ollama/models"  # where Linux's installer runs it
_LIBRARY = "registry.ollama.ai/library/"


def ollama_names(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The models that Ollama has fetched, as ``ollama list`` names them."""
    found = (_name(path, store) for store in _stores(environment) for path in _manifests(store))
    return list(dict.fromkeys(found))


def ollama_blob(name: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The GGUF of a model that Ollama has fetched; ``:latest`` may be left out."""
    wanted = {name.casefold(), f"{name}:latest".casefold()}
    for store in _stores(environment):
        for path in _manifests(store):
            if _name(path, store).casefold() in wanted:
                return _blob(path, store)
    return None


def hub_files(repository: str, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """The GGUFs of a repository in the cache of ``huggingface_hub``, the newest snapshot's."""
    home = environment.get("HF_HOME", "").strip() or "~/.cache/huggingface"
    cache = environment.get("HF_HUB_CACHE", "").strip() or f"{home}/hub"
    with suppress(OSError, ValueError):
        folder = absolute_path(cache) / f"models--{repository.replace('/', '--')}" / "snapshots"
        snapshots = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)
        found = snapshots[-1].rglob("*.gguf") if snapshots else iter(())
        return sorted(path for path in islice(found, _MOST_MANIFESTS) if path.is_file())
    return []


def _stores(environment: Mapping[str, str]) -> Iterator[Path]:
    own = environment.get("OLLAMA_MODELS", "").strip() or "~/.ollama/models"
    for folder in dict.fromkeys([own, _SYSTEM_STORE]):
        with suppress(OSError, ValueError):
            store = absolute_path(folder)
            if (store / "manifests").is_dir():
                yield store


def _manifests(store: Path) -> list[Path]:
    """The manifests, each ``host/owner/name/tag``."""
    with suppress(OSError):
        found = (store / "manifests").glob("*/*/*/*")
        return sorted(path for path in islice(found, _MOST_MANIFESTS) if path.is_file())
    return []


def _name(manifest: Path, store: Path) -> str:
    *folders, tag = manifest.relative_to(store / "manifests").parts
    return f"{'/'.join(folders).removeprefix(_LIBRARY)}:{tag}"


def _blob(manifest: Path, store: Path) -> Path | None:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        layers = json.loads(read_file(manifest, _MOST_BYTES))["layers"]
        digests = [each["digest"] for each in layers if each["mediaType"] == _MODEL_LAYER]
        blob = store / "blobs" / str(digests[0]).replace(":", "-").replace("/", "")
        return blob if digests and blob.is_file() else None
    return None
