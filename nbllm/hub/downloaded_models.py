"""Which files pulls brought, and models off the disk again: those files and no others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from nbllm.core import saved_files
from nbllm.core.catalogue.hugging_face import hub_cache
from nbllm.core.catalogue.programs import downloads_folder
from nbllm.core.downloads import Deletion
from nbllm.core.errors import DownloadError
from nbllm.core.paths import read_start, read_text, reason
from nbllm.core.texts import quoted

__all__ = [
    "Pulled",
    "delete",
    "forget_pull",
    "note_pull",
    "plan_deletion",
    "pulled_files",
    "pulled_models",
]

_MOST_LINKS = 100_000
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that a pull brought: where from, its first file, and the files that were not there.

    ``parts`` are the files in which they are put together, which a stopped pull leaves.
    ``companions`` came with it, such as a projector for images.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    parts: tuple[Path, ...]
    companions: tuple[Path, ...] = ()


def _record() -> Path:
    from platformdirs import user_data_path

    return user_data_path("nbllm") / "pulled.json"


def note_pull(pulled: Pulled) -> None:
    """Remember a model; what earlier pulls brought of it stays known. Raises ``OSError``."""

    def noted(text: str | None) -> str:
        known, key = _parsed(text), str(pulled.path)
        before = known.get(key, pulled)
        both = replace(
            pulled,
            files=tuple(dict.fromkeys([*before.files, *pulled.files])),
            parts=tuple(dict.fromkeys([*before.parts, *pulled.parts])),
            companions=tuple(dict.fromkeys([*before.companions, *pulled.companions])),
        )
        return _written({**known, key: both})

    saved_files.update(_record(), noted)


def forget_pull(path: Path, *, but: tuple[Path, ...] = ()) -> None:
    """Forget the model whose first file is ``path``, ``but`` companions that stay of it.

    Raises ``OSError``.
    """

    def left(text: str | None) -> str:
        known = _parsed(text)
        pulled = known.pop(str(path), None)
        if pulled is not None and but:
            known[str(path)] = replace(pulled, files=(), parts=(), companions=but)
        return _written(known)

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
        path: Pulled(
            entry["from"],
            Path(path),
            tuple(map(Path, entry["files"])),
            tuple(map(Path, entry["parts"])),
            tuple(map(Path, entry.get("companions", []))),
        )
        for path, entry in entries
        if _is_entry(entry)
    }


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("from"), str):
        return False
    return all(
        isinstance(files := entry.get(key, []), list)
        and all(isinstance(file, str) for file in files)
        for key in ("files", "parts", "companions")
    )


def _written(known: Mapping[str, Pulled]) -> str:
    entries = {
        path: {
            "from": each.name,
            "files": [str(file) for file in each.files],
            "parts": [str(file) for file in each.parts],
            "companions": [str(file) for file in each.companions],
        }
        for path, each in known.items()
    }
    return json.dumps(entries, indent=2) + "\n"


# ---------------------------------------------------------------- deleting


def plan_deletion(name: str, path: Path | None, *, companions: bool = False) -> Deletion:
    """What deleting the model whose first file is ``path`` removes and frees.

    ``name`` is what the person called it. Companions that came with it stay unless they are
    requested. Raises ``DownloadError`` for a model that no pull brought.
    """
    for pulled in pulled_models():
        if path is not None and pulled.path == path:
            files, beside = _own_files(pulled), _own_companions(pulled)
            if beside and not files and not companions:
                raise DownloadError(
                    name,
                    "only its companions are left here; "
                    f"%llm_delete {quoted(pulled.path.stem)} --companions deletes them",
                )
            files, kept = ((*files, *beside), ()) if companions else (files, beside)
            return Deletion(name, pulled.path, files, sum(map(_size, _freed(files))), kept)
    where = f" ({path})" if path is not None else ""
    raise DownloadError(
        name,
        f"it was not downloaded by %llm_pull, so it is not deleted{where}. Delete it with the "
        "program that brought it",
    )


def pulled_files() -> list[Path]:
    """The first file of each model that a pull brought, or began to bring."""
    return [each.path for each in pulled_models() if _is_left(each)]


def pulled_file(name: str) -> Path | None:
    """The one of them that ``name`` means: the file's name, or what was pulled.

    Raises ``DownloadError`` where it means several.
    """
    wanted = name.strip().casefold().removeprefix("hf.co/")
    found = [each for each in pulled_models() if wanted in _names(each) and _is_left(each)]
    if len(found) > 1:
        names = ", ".join(each.path.stem for each in found)
        raise DownloadError(name, f"several models were pulled from there; name one: {names}")
    return found[0].path if found else None


def _names(pulled: Pulled) -> tuple[str, ...]:
    repository = pulled.name.casefold().removeprefix("hf.co/")
    return pulled.path.stem.casefold(), pulled.path.name.casefold(), repository


def _is_left(pulled: Pulled) -> bool:
    return bool(_own_files(pulled) or _own_companions(pulled))


def _own_files(pulled: Pulled) -> tuple[Path, ...]:
    return _only_of(pulled, (*pulled.files, *pulled.parts))


def _own_companions(pulled: Pulled) -> tuple[Path, ...]:
    return _only_of(pulled, pulled.companions)


def _only_of(pulled: Pulled, files: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are there and that no other pulled model needs."""
    different = [each for each in pulled_models() if each.path != pulled.path]
    others = {file for each in different for file in (*each.files, *each.parts, *each.companions)}
    return tuple(
        file
        for file in files
        if file not in others and os.path.lexists(file) and _is_download(file)
    )


def _is_download(file: Path) -> bool:
    """Whether it lies where pulls put files: the record alone is not trusted."""
    return any(folder in file.parents for folder in (hub_cache(), downloads_folder()))


def _freed(files: Iterable[Path]) -> Iterator[Path]:
    """The files whose bytes are given back: blobs that nothing else links to, and plain files."""
    files = set(files)
    for file in files:
        if not file.is_symlink():
            yield file
        elif (blob := _blob(file)) is not None and not _links(blob, files):
            yield blob


def _blob(link: Path) -> Path | None:
    """What a link in a snapshot leads to, if that is a blob of the same repository."""
    folder = _repository(link)
    if folder is None:
        return None
    blob = Path(os.path.normpath(link.parent / link.readlink()))
    return blob if blob.parent == folder / "blobs" else None


def _repository(file: Path) -> Path | None:
    """The folder of the repository in the hub's cache."""
    cache = hub_cache()
    if cache not in file.parents:
        return None
    return cache / file.relative_to(cache).parts[0]


def _links(blob: Path, without: set[Path]) -> bool:
    """Whether a link other than those leads to the blob."""
    snapshots = blob.parent.parent / "snapshots"
    found = islice(snapshots.rglob("*"), _MOST_LINKS)
    return any(link.is_symlink() and link not in without and _blob(link) == blob for link in found)


def _size(file: Path) -> int:
    """The bytes on the disk: what has not arrived of a file takes none."""
    try:
        status = file.stat()
    except OSError:
        return 0
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(blocks * 512, status.st_size)


def delete(deletion: Deletion) -> None:
    """Remove what was planned, and the folders that are empty then. Raises ``DownloadError``."""
    freed = list(_freed(deletion.files))
    try:
        for file in {*deletion.files, *freed}:
            file.unlink(missing_ok=True)
        for file in deletion.files:
            _tidy(file)
        forget_pull(deletion.path, but=deletion.kept)
    except OSError as error:
        raise DownloadError(
            deletion.name,
            f"it cannot be deleted: {reason(error)}. Is it loaded? %llm_unload frees its file",
        ) from error


def _tidy(file: Path) -> None:
    """Remove what is left empty of a file that was deleted: folders, branches, a repository."""
    repository = _repository(file)
    if repository is None:
        shutil.rmtree(file.parent, ignore_errors=True)  # with its lock
        return
    snapshots = repository / "snapshots"
    with suppress(OSError):  # the first folder that holds something ends it
        for folder in file.parents:
            if folder in (snapshots, repository / "blobs"):
                break
            folder.rmdir()
    if snapshots in file.parents:
        commit = file.relative_to(snapshots).parts[0]
        if not (snapshots / commit).exists():
            _remove_branches(repository / "refs", commit)
    if not _has_entries(snapshots) and not _has_entries(repository / "blobs"):
        shutil.rmtree(repository, ignore_errors=True)
        shutil.rmtree(hub_cache() / ".locks" / repository.name, ignore_errors=True)


def _remove_branches(refs: Path, commit: str) -> None:
    """A branch that stands for a snapshot that is gone would make the cache a damaged one."""
    for ref in islice(refs.rglob("*"), _MOST_LINKS):
        with suppress(OSError):
            if ref.is_file() and read_start(ref, 100).decode(errors="replace").strip() == commit:
                ref.unlink()


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False
