"""Downloaded models off the disk: their links, and the blobs that nothing else links to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from nbllm.core.catalogue.downloads import downloads_folder
from nbllm.core.catalogue.hugging_face import hub_cache
from nbllm.core.downloads import Deletion
from nbllm.core.errors import DownloadError
from nbllm.core.paths import read_start, reason
from nbllm.hub.records import Pulled, forget_pull, pulled_models

__all__ = ["delete", "plan_deletion", "pulled_files"]

_MOST_LINKS = 100_000


def plan_deletion(name: str, path: Path | None) -> Deletion:
    """What deleting the model whose first file is ``path`` removes and frees.

    ``name`` is what the person called it. Raises ``DownloadError`` for a model that no pull
    brought.
    """
    for pulled in pulled_models():
        if path is not None and pulled.path == path:
            files = _own_files(pulled)
            return Deletion(name, files, sum(map(_size, _freed(files))))
    where = f" ({path})" if path is not None else ""
    raise DownloadError(
        name,
        f"it was not downloaded by %llm_pull, so it is not deleted{where}. Delete it with the "
        "program that brought it",
    )


def pulled_files() -> list[Path]:
    """The first file of each model that was pulled and is still there."""
    return [each.path for each in pulled_models() if each.path.exists()]


def _own_files(pulled: Pulled) -> tuple[Path, ...]:
    """The files that are there and that no other pulled model needs."""
    others = {file for each in pulled_models() if each.path != pulled.path for file in each.files}
    return tuple(
        file
        for file in pulled.files
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
    try:
        return file.stat().st_size
    except OSError:
        return 0


def delete(deletion: Deletion) -> None:
    """Remove what was planned, and the folders that are empty then. Raises ``DownloadError``."""
    freed = list(_freed(deletion.files))
    try:
        for file in {*deletion.files, *freed}:
            file.unlink(missing_ok=True)
        for file in deletion.files:
            _tidy(file)
        if deletion.files:
            forget_pull(deletion.files[0])
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
            if folder == snapshots:
                break
            folder.rmdir()
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
