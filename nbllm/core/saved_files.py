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
from pathlib import Path

__all__ = ["update", "write"]

_DRAFT, _DRAFT_SUFFIX = ".nbllm-", ".tmp"
_ABANDONED_SECONDS = 3_600
"""A draft that is older belongs to a writer that was killed; the longest write takes seconds."""
_LOCK_SECONDS = 10.0


def write(file: Path, text: str) -> None:
    """Put ``text`` in the place of the file's, all or nothing; a link's target is written.

    The file's permissions stay. Raises ``OSError``, also where its folder is not there, and
    ``UnicodeEncodeError`` for half a surrogate pair.
    """
    target = Path(os.path.realpath(file))
    data = text.encode()
    _remove_abandoned(target.parent)
    draft = target.with_name(f"{_DRAFT}{os.urandom(8).hex()}{_DRAFT_SUFFIX}")
    try:
        with draft.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            draft.chmod(stat.S_IMODE(target.stat().st_mode))
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def update(file: Path, change: Callable[[str | None], str]) -> str:
    """Replace the file's text by what ``change`` makes of it, None where there is no file.

    Nobody else's ``update`` of the same file comes between. Its folder is created. What ``change``
    raises leaves the file as it was. Returns the new text. Raises ``OSError``, ``UnicodeError``,
    and ``TimeoutError`` where another process holds the file for 10 seconds.
    """
    with _locked(file):
        try:
            current = file.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            current = None
        text = change(current)
        if text != current:
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
        raise TimeoutError(f"another process has held {file} for {_LOCK_SECONDS:g} s") from None
    except OSError:  # no cache folder to write to: one process at a time is all there can be
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _remove_abandoned(folder: Path) -> None:
    """Remove the drafts of writers that were killed."""
    now = time.time()
    for draft in folder.glob(f"{_DRAFT}*{_DRAFT_SUFFIX}"):
        with suppress(OSError):
            if now - draft.stat().st_mtime > _ABANDONED_SECONDS:
                draft.unlink()
