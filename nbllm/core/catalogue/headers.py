"""What the headers of model files say, read once for each file and kept for later processes.

A file counts as changed when its size or its time does. The parts of a split model have times of
their own, so that a failure of one is never kept. What is kept for later processes is one JSON file
in the user's cache folder, which is made anew where it is damaged.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbllm.core import saved_files
from nbllm.core.catalogue.folder_search import GGUFS_AT_MOST
from nbllm.core.errors import ModelFileError
from nbllm.core.openers import describe_file
from nbllm.core.paths import file_status, read_text, reason
from nbllm.core.types import GenerationOptions, ModelInfo, Source

__all__ = ["HEADERS", "Headers", "describe", "describe_all"]

_MAX_KNOWN = 2 * GGUFS_AT_MOST
_MOST_BYTES = 64 * 2**20
_READERS = 4
_VERSION = 3
_PARTS = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_RECOMMENDED = {
    # Its makers' advice (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct).
    "smollm2": GenerationOptions(temperature=0.2, top_p=0.9),
}
_FIELDS = {
    "name": str,
    "model_type": str,
    "context_length": int,
    "quantization": str,
    "parameters": float,
    "size_bytes": int,
    "tokenizer": str,
    "source": str,
}

Version = tuple[int, int]


def describe(path: Path, source: Source = "found") -> ModelInfo:
    """What the file's header tells; ``path`` is absolute. Raises ``ModelFileError``."""
    return _listed(path, HEADERS.describe(path, source), source)


def describe_all(
    paths: Iterable[Path], source: Source, until: float
) -> list[ModelInfo | ModelFileError | None]:
    """The same of many, None of those that were not read ``until`` then (monotonic seconds)."""
    files = list(paths)
    told = HEADERS.describe_all(files, source, until)
    return [_attempt(path, each, source) for path, each in zip(files, told, strict=True)]


def _attempt(
    path: Path, told: ModelInfo | str | None, source: Source
) -> ModelInfo | ModelFileError | None:
    if told is None:
        return None
    try:
        return _listed(path, told, source)
    except ModelFileError as error:
        return error


def _listed(path: Path, known: ModelInfo | str, source: Source) -> ModelInfo:
    if isinstance(known, str):
        raise ModelFileError(str(path), known)
    family = next((f for f in _RECOMMENDED if known.name.casefold().startswith(f)), None)
    if family is not None:
        return replace(known, source=source, options=_RECOMMENDED[family])
    return known if source == known.source else replace(known, source=source)


class Headers:
    """What the header of each file said when it was last read, or why it could not be read.

    ``file`` is where it is kept for later processes.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, tuple[Version, ModelInfo | str]] = {}
        self._lock = threading.Lock()
        self._is_read, self._is_changed = False, False

    def describe(self, path: Path, source: Source) -> ModelInfo | str:
        """What the file's header tells, or what is wrong with the file.

        ``source`` is where the file is found if it has not been found elsewhere before.
        """
        told = self._look_up(path)
        return self._read(path, told, source) if isinstance(told, tuple) else told

    def describe_all(
        self, paths: Iterable[Path], source: Source, until: float
    ) -> list[ModelInfo | str | None]:
        """The same of many, None of those that were not read ``until`` then (monotonic seconds).

        Disks answer several questions faster than one after the other, and those on networks much.
        """
        answers = [(path, self._look_up(path)) for path in paths]
        if not any(isinstance(told, tuple) for _, told in answers):
            return [told for _, told in answers if not isinstance(told, tuple)]
        pool = ThreadPoolExecutor(_READERS, thread_name_prefix="nbllm-headers")

        def read(answer: tuple[Path, ModelInfo | str | Version]) -> ModelInfo | str | None:
            path, told = answer
            if not isinstance(told, tuple):
                return told
            return self._read(path, told, source) if time.monotonic() < until else None

        try:
            return [*pool.map(read, answers)]
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt ends the reading

    def _look_up(self, path: Path) -> ModelInfo | str | Version:
        """What is known of a file; its version where that has not been read."""
        try:
            status = file_status(path)
        except OSError as error:
            return reason(error)
        version = (status.st_mtime_ns, status.st_size)
        known = self._known.get(str(path))
        return known[1] if known is not None and known[0] == version else version

    def _read(self, path: Path, version: Version, source: Source) -> ModelInfo | str:
        told = _read(path)
        told = replace(told, source=source) if isinstance(told, ModelInfo) else told
        if isinstance(told, ModelInfo) or not _PARTS.search(path.name):
            self._keep(str(path), (version, told))
        return told

    def restore(self) -> None:
        """Take in what earlier processes read; once is enough."""
        if self._is_read:
            return
        self._is_read = True
        try:
            kept = _entries(read_text(self._store(), _MOST_BYTES))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return
        with self._lock:
            self._known = {**kept, **self._known}

    def save(self) -> None:
        """Keep what was read for later processes, if anything was; a failure costs time only."""
        if not self._is_changed:
            return
        with self._lock:
            self._is_changed, known = False, dict(self._known)

        def merged(text: str | None) -> str:
            try:
                others = _entries(text or "")
            except (ValueError, TypeError, LookupError, RecursionError):
                others = {}
            newest = [*{**others, **known}.items()][-_MAX_KNOWN:]
            files = {path: _row(*entry) for path, entry in newest}
            return json.dumps({"version": _VERSION, "files": files}, separators=(",", ":"))

        try:
            saved_files.update(self._store(), merged)
        except (OSError, ValueError):
            return

    def _store(self) -> Path:
        from platformdirs import user_cache_path

        return self._file or user_cache_path("nbllm") / "headers.json"

    def _keep(self, path: str, entry: tuple[Version, ModelInfo | str]) -> None:
        with self._lock:
            if len(self._known) >= _MAX_KNOWN:  # the file that has been known for longest goes
                del self._known[next(iter(self._known))]
            self._known[path] = entry
            self._is_changed = True


HEADERS = Headers()
"""Those of this process."""


def _read(path: Path) -> ModelInfo | str:
    try:
        return describe_file(path)
    except ModelFileError as error:
        return error.problem


def _row(version: Version, told: ModelInfo | str) -> list[Any]:
    if isinstance(told, str):
        return [*version, told]
    return [*version, {name: getattr(told, name) for name in _FIELDS}]


def _entries(text: str) -> dict[str, tuple[Version, ModelInfo | str]]:
    """Raises ``ValueError`` and kin for a text that nbllm did not write."""
    content = json.loads(text)
    if content["version"] != _VERSION:
        raise ValueError(content["version"])
    rows: Mapping[str, list[Any]] = content["files"]
    return {path: ((int(m), int(s)), _told(path, told)) for path, (m, s, told) in rows.items()}


def _told(path: str, told: object) -> ModelInfo | str:
    if isinstance(told, str):
        return told
    if not isinstance(told, dict):
        raise TypeError(told)
    values = {name: kind(told[name]) for name, kind in _FIELDS.items() if told[name] is not None}
    return ModelInfo(local=True, path=Path(path), **values)
