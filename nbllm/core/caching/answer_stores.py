"""Where answers are kept: in memory, or in one SQLite file that several processes share.

Both hold texts by key, drop what is older than ``seconds`` and, beyond ``most_bytes``, what was
used least recently. A file that is damaged is set aside and made anew; where no file can be
written, answers are kept in memory. Either is told in ``notes``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

__all__ = ["CacheStore", "CachedAnswer", "MemoryStore", "SqliteStore", "default_file"]

MOST_BYTES = 512 * 2**20
_ENTRY_BYTES = 200
_BUSY_SECONDS = 2.0
_USED_AFTER_SECONDS = 60.0
"""A use is noted only so often: otherwise every hit would be a write."""
_PRUNE_EVERY = 50
_NETWORK_DISKS = (
    "nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "fuse.sshfs"
)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as it was stored; ``title`` is what people find it by."""

    text: str
    created: float
    title: str = ""


class CacheStore(Protocol):
    """Keeps texts by key. May be used from any thread."""

    notes: list[str]

    def get(self, key: str) -> CachedAnswer | None:
        """What is kept under ``key``, if it is not too old."""
        ...

    def put(self, key: str, kept: CachedAnswer) -> None:
        """Keep an answer; a failure is noted and raises nothing."""
        ...

    def entries(self, text: str = "") -> list[tuple[str, CachedAnswer]]:
        """The newest first; those whose titles hold ``text``."""
        ...

    def clear(self) -> int:
        """Forget everything; how many answers that were."""
        ...


def default_file() -> Path:
    """The file in the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("nbllm") / "answers.sqlite"


class MemoryStore:
    """Keeps answers as long as the process lives."""

    def __init__(self, most_bytes: int = MOST_BYTES, seconds: float | None = None) -> None:
        self.notes: list[str] = []
        self._most, self._seconds = most_bytes, seconds
        self._kept: OrderedDict[str, CachedAnswer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> CachedAnswer | None:
        """See ``CacheStore``."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if _is_old(kept.created, self._seconds):
                self._drop(key)
                return None
            self._kept.move_to_end(key)
            return kept

    def put(self, key: str, kept: CachedAnswer) -> None:
        """See ``CacheStore``."""
        size = _size(kept)
        with self._lock:
            if key in self._kept:
                self._drop(key)
            if size > self._most:
                return
            self._kept[key] = kept
            self._bytes += size
            while self._bytes > self._most:
                self._drop(next(iter(self._kept)))

    def entries(self, text: str = "") -> list[tuple[str, CachedAnswer]]:
        """See ``CacheStore``."""
        with self._lock:
            rows = [row for row in self._kept.items() if text in row[1].title]
        return sorted(rows, key=lambda row: -row[1].created)

    def clear(self) -> int:
        """See ``CacheStore``."""
        with self._lock:
            count, self._bytes = len(self._kept), 0
            self._kept.clear()
            return count

    def _drop(self, key: str) -> None:
        self._bytes -= _size(self._kept.pop(key))


class SqliteStore:
    """Keeps answers in a file, which its owner alone may read."""

    def __init__(
        self,
        file: Path | None = None,
        most_bytes: int = MOST_BYTES,
        seconds: float | None = None,
    ) -> None:
        self.notes: list[str] = []
        self.file = file or default_file()
        self._most, self._seconds = most_bytes, seconds
        self._memory = MemoryStore(most_bytes, seconds)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner, self._writes, self._is_given_up = 0, 0, False

    def get(self, key: str) -> CachedAnswer | None:
        """See ``CacheStore``."""

        def read(database: sqlite3.Connection) -> CachedAnswer | None:
            row = database.execute(
                "SELECT text, created, title, used FROM answers WHERE key = ?", (key,)
            ).fetchone()
            if row is None or _is_old(row[1], self._seconds):
                return None
            if time.time() - row[3] > _USED_AFTER_SECONDS:
                self._note_use(database, key)
            return CachedAnswer(*row[:3])

        found = self._with(read)
        return self._memory.get(key) if found is None else found

    def put(self, key: str, kept: CachedAnswer) -> None:
        """See ``CacheStore``."""

        def write(database: sqlite3.Connection) -> bool:
            with database:
                database.execute(
                    "INSERT OR REPLACE INTO answers (key, text, created, title, used, size) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (key, kept.text, kept.created, kept.title, time.time(), _size(kept)),
                )
            self._writes += 1
            if self._writes % _PRUNE_EVERY == 1:
                self._prune(database)
            return True

        if self._with(write) is None:
            self._memory.put(key, kept)

    def entries(self, text: str = "") -> list[tuple[str, CachedAnswer]]:
        """See ``CacheStore``."""
        like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._with(
            lambda database: database.execute(
                "SELECT key, text, created, title FROM answers "
                "WHERE title LIKE ? ESCAPE '\\' ORDER BY created DESC LIMIT 10000",
                (like,),
            ).fetchall()
        )
        return [(row[0], CachedAnswer(*row[1:])) for row in rows or ()] + self._memory.entries(text)

    def clear(self) -> int:
        """See ``CacheStore``."""

        def delete(database: sqlite3.Connection) -> int:
            with database:
                return database.execute("DELETE FROM answers").rowcount

        return (self._with(delete) or 0) + self._memory.clear()

    # ------------------------------------------------------------ the file

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """The result of ``work``; None where the file cannot be used, now or any more."""
        with self._lock:
            for _ in range(2):
                if self._is_given_up:
                    return None
                try:
                    return work(self._open())
                except sqlite3.DatabaseError as error:
                    self._close()
                    if not _is_damage(error) or not self._set_aside():
                        self._give_up(error)
                except OSError as error:
                    self._close()
                    self._give_up(error)
        return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._owner == os.getpid():
            return self._connection
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if kind := network_disk(self.file):
            raise OSError(f"it is on a network disk ({kind}), where SQLite's locks do not hold")
        if not self.file.exists():
            self.file.touch(mode=0o600)
        database = sqlite3.connect(
            self.file, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, "
            "created REAL NOT NULL, title TEXT NOT NULL, used REAL NOT NULL, "
            "size INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._connection, self._owner = database, os.getpid()
        return database

    def _close(self) -> None:
        if self._connection is not None and self._owner == os.getpid():
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _give_up(self, error: Exception) -> None:
        """A lock that others hold for seconds costs this one answer; anything else the file."""
        if "locked" in str(error):
            return
        self._is_given_up = True
        self.notes.append(f"Answers are kept in memory only: {self.file} cannot be used ({error}).")

    def _set_aside(self) -> bool:
        aside = self.file.with_name(f"{self.file.name}.damaged-{int(time.time())}")
        try:
            self.file.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        self.notes.append(f"The kept answers were damaged and were set aside: {aside}")
        return True

    def _note_use(self, database: sqlite3.Connection, key: str) -> None:
        with suppress(sqlite3.OperationalError), database:
            database.execute("UPDATE answers SET used = ? WHERE key = ?", (time.time(), key))

    def _prune(self, database: sqlite3.Connection) -> None:
        """Drop what is too old, and beyond the bound what was used least recently."""
        if self._seconds is not None:
            oldest = time.time() - self._seconds
            database.execute("DELETE FROM answers WHERE created < ?", (oldest,))
        (total,) = database.execute("SELECT COALESCE(SUM(size), 0) FROM answers").fetchone()
        if total <= self._most:
            return
        doomed = []
        with closing(database.execute("SELECT key, size FROM answers ORDER BY used")) as rows:
            for key, size in rows:
                if total <= self._most * 0.9:
                    break
                doomed.append((key,))
                total -= size
        database.executemany("DELETE FROM answers WHERE key = ?", doomed)


def network_disk(path: Path) -> str | None:
    """The file system of ``path`` where that is one over a network, such as "nfs4"."""
    import psutil

    place, best, kind = os.path.realpath(path), "", ""
    with suppress(OSError, RuntimeError):
        for disk in psutil.disk_partitions(all=True):
            mount = disk.mountpoint
            if len(mount) >= len(best) and Path(place).is_relative_to(mount):
                best, kind = mount, disk.fstype
    return kind if kind.casefold().startswith(_NETWORK_DISKS) else None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    words = str(error)
    return any(part in words for part in ("malformed", "not a database", "no such column"))


def _is_old(created: float, seconds: float | None) -> bool:
    return seconds is not None and time.time() - created > seconds


def _size(kept: CachedAnswer) -> int:
    return len(kept.text.encode("utf-8", "surrogatepass")) + len(kept.title) + _ENTRY_BYTES
