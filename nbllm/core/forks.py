"""What a forked child does with the objects that it inherits.

``multiprocessing`` forks by default on Linux up to Python 3.13. A child has none of the parent's
threads, and any of its locks may be held by one of them for ever. So whatever has locks, threads
or something of the parent's that a child must not touch, begins anew there.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["ChildSafeLock", "Renewable", "keep_untouched", "renew_in_children"]


class Renewable(Protocol):
    """Something whose state holds in one process only."""

    def renew(self) -> None:
        """Begin anew in a forked child, without touching what is the parent's."""


_RENEWED: WeakSet[Renewable] = WeakSet()
_KEPT: list[object] = []


def renew_in_children(owner: Renewable) -> None:
    """From now on, as long as it lives, call ``owner.renew`` in each forked child."""
    _RENEWED.add(owner)


def keep_untouched(*inherited: object) -> None:
    """Hold on to what is the parent's, for its finalizers would close or flush it there too."""
    _KEPT.extend(inherited)


class ChildSafeLock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Be free, in a forked child."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _renew_all() -> None:
    for owner in list(_RENEWED):
        owner.renew()


if hasattr(os, "register_at_fork"):  # POSIX alone forks
    os.register_at_fork(after_in_child=_renew_all)
