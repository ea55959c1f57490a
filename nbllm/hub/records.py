"""Which files pulls brought, so that deleting a model removes those and no others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbllm.core import saved_files
from nbllm.core.paths import read_text

__all__ = ["Pulled", "forget_pull", "note_pull", "pulled_models"]

_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that a pull brought: where from, its first file, and all its files."""

    name: str
    path: Path
    files: tuple[Path, ...]


def _record() -> Path:
    from platformdirs import user_data_path

    return user_data_path("nbllm") / "pulled.json"


def note_pull(name: str, first: Path, others: Iterable[Path]) -> None:
    """Remember a model; what an earlier pull brought with it stays known. Raises ``OSError``."""

    def noted(text: str | None) -> str:
        known = _parsed(text)
        before = known[str(first)].files if str(first) in known else ()
        files = tuple(dict.fromkeys([first, *before, *others]))
        return _written({**known, str(first): Pulled(name, first, files)})

    saved_files.update(_record(), noted)


def forget_pull(path: Path) -> None:
    """Forget the model whose first file is ``path``. Raises ``OSError``."""

    def left(text: str | None) -> str:
        known = _parsed(text)
        return _written({key: each for key, each in known.items() if key != str(path)})

    saved_files.update(_record(), left)


def pulled_models() -> list[Pulled]:
    """All that were pulled and not deleted, whether their files are still there or not."""
    try:
        return list(_parsed(read_text(_record(), _MOST_BYTES)).values())
    except (OSError, ValueError):
        return []


def _parsed(text: str | None) -> dict[str, Pulled]:
    """What can be read of a record; a damaged one is begun anew."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {
        path: Pulled(entry["from"], Path(path), tuple(map(Path, entry["files"])))
        for path, entry in entries
        if _is_entry(entry)
    }


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("from"), str):
        return False
    files = entry.get("files")
    return isinstance(files, list) and all(isinstance(file, str) for file in files)


def _written(known: Mapping[str, Pulled]) -> str:
    entries = {
        path: {"from": each.name, "files": [str(file) for file in each.files]}
        for path, each in known.items()
    }
    return json.dumps(entries, indent=2) + "\n"
