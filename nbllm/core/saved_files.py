"""The one writer of what nbllm saves: settings, configs, conversations, measurements.

A file is replaced in one step, so that a full disk, a crash or a kill leaves the old one whole.
Whoever saves what another process may save too goes through ``update``, which reads, merges and
writes under a lock that all processes of the user share.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path

from nbllm.core.paths import file_status, read_text

__all__ = ["MOST_BYTES", "replacing", "update", "write"]

_DRAFT, _DRAFT_SUFFIX = ".nbllm-", ".tmp"
_ABANDONED_SECONDS = 3_600
"""A draft that is older belongs to a writer that was killed; the longest write takes seconds."""
_LOCK_SECONDS = 10.0
_MAX_ENTRIES = 20_000
"""So many files of a folder are looked at for abandoned drafts."""
MOST_BYTES = 256 * 2**20
"""Of a file that is updated."""


def write(file: Path, content: str | bytes) -> None:
    """Put ``content`` in the place of the file's, all or nothing; a link's target is written.

    The file's permissions stay. Raises ``OSError``, also where its folder is not there or the file
    is a device or a pipe, ``UnicodeEncodeError`` for half a surrogate pair, and ``ValueError``
    for a path that no file can have.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(file) as draft, draft.open("wb") as stream:
        stream.write(data)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A draft beside ``file``, new and empty, which takes its place at the end of the block.

    What the block raises leaves the file as it was, and no draft. Raises as ``write`` does.
    """
    target = Path(os.path.realpath(file))
    mode = _mode(target)
    _remove_abandoned(target.parent, int(time.time() // _ABANDONED_SECONDS))
    draft = target.with_name(f"{_DRAFT}{os.urandom(8).hex()}{_DRAFT_SUFFIX}")
    try:
        draft.open("xb").close()
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        if mode is not None:
            draft.chmod(mode)
        draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def _mode(target: Path) -> int | None:
    """The permissions of the file that is there, None where none is.

    Raises ``OSError`` for what a file must not take the place of, such as /dev/null.
    """
    try:
        return stat.S_IMODE(file_status(target).st_mode)
    except FileNotFoundError:
        return None


def update(file: Path, change: Callable[[str | None], str], *, makes_folder: bool = True) -> str:
    """Replace the file's text by what ``change`` makes of it, None where there is no file.

    Nobody else's ``update`` of the same file comes between. Its folder is created unless
    ``makes_folder`` is False. What ``change`` raises leaves the file as it was. Returns the new
    text. Raises ``OSError``, ``ValueError``, and ``TimeoutError`` where another process holds the
    file for 10 seconds.
    """
    with _locked(file):
        try:
            current = read_text(file, MOST_BYTES)
        except FileNotFoundError:
            current = None
        text = change(current)
        if text != current:
            if makes_folder:
                file.parent.mkdir(parents=True, exist_ok=True)
            write(file, text)
    return text


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock of a file, which lies in the user's cache folder and not beside the file."""
    from filelock import FileLock, Timeout
    from platformdirs import user_cache_path

    digest = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:32]
    lock = FileLock(user_cache_path("nbllm") / "locks" / f"{digest}.lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        problem = f"another process has kept {file} locked for {_LOCK_SECONDS:g} s; try again"
        raise TimeoutError(problem) from None
    # No cache folder to write to, or one without locks: one process at a time is all there can be.
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


@lru_cache(maxsize=1_000)
def _remove_abandoned(folder: Path, hour: int) -> None:
    """Remove the drafts of writers that were killed; once in an hour is enough for a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, _MAX_ENTRIES):
            if entry.name.startswith(_DRAFT) and entry.name.endswith(_DRAFT_SUFFIX):
                _remove_if_old(entry)


def _remove_if_old(draft: os.DirEntry[str]) -> None:
    with suppress(OSError):
        if time.time() - draft.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
            Path(draft).unlink()
