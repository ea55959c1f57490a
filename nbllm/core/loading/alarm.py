"""``Alarm``: calls something at a time, by a thread that exists only while one is set."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Calls ``ring`` at the time it was set to, or earlier, so that ``ring`` sets it anew.

    It may be set from any thread. ``name`` is that of the thread that rings.
    """

    def __init__(self, ring: Callable[[], None], name: str) -> None:
        self._ring_bell, self._name = ring, name
        self._timer: threading.Timer | None = None
        self._due = math.inf
        self._lock = threading.Lock()

    def set(self, due: float | None) -> None:
        """Ring at ``due``, by ``time.monotonic``, at the latest; None: do not ring any more."""
        with self._lock:
            if due is not None and self._timer is not None and self._due <= due:
                return  # an early call is cheaper than a new thread for each request
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if due is not None:
                self._due = due
                self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._ring)
                self._timer.name, self._timer.daemon = self._name, True
                self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return  # it was set anew at the same moment
            self._timer = None
        self._ring_bell()
