"""Whether somebody looks at a widget, and whether presses reach the kernel while a cell runs.

ipywidgets counts views (``_view_count``), but a page that is closed or reloaded takes its count
with it. So now and then the front end is asked: a hidden ``Play`` that is set going moves at once
in every page that shows it, and nowhere else. The pages of ipywidgets 7 cannot be asked so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Presence", "follow_cells"]

ASK_EVERY_SECONDS = 20.0
ANSWER_SECONDS = 12.0
FIRST_ANSWER_SECONDS = 60.0
"""A page that loads the widgets' code for the first time takes a while."""
CELL_SECONDS = 1.5
"""Cells that are quicker need no word about the buttons."""


class Presence:
    """Follows one widget; ``ask`` sends a question to the pages, which ``answered`` comes back to.

    Without ``ask`` a page is believed to be there until it tells that its last view is gone, and
    buttons are said to wait in every cell that takes a while.
    Pure but for the clock: any thread may call any of it.
    """

    def __init__(
        self, ask: Callable[[], None] | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._clock = ask or (lambda: None), clock
        self._patience_seconds = FIRST_ANSWER_SECONDS if ask else math.inf
        self._views = 0
        self._asked: float | None = None
        self._deadline: float | None = None
        self._next_ask = 0.0
        self._cell_since: float | None = None
        self._asked_in_cell = False

    def shown(self) -> None:
        """It was displayed, or a page tells of a new view of it."""
        now = self._clock()
        self._asked, self._deadline = None, now + self._patience_seconds
        self._next_ask = now + CELL_SECONDS

    def count_views(self, views: int) -> None:
        """A page tells how many views there are, in all pages that it knows of."""
        if views > self._views:
            self.shown()
        elif views == 0:
            self._deadline = None
        self._views = views

    def answered(self) -> None:
        """A page that shows it has answered."""
        self._asked = None
        self._deadline = self._clock() + ASK_EVERY_SECONDS + ANSWER_SECONDS

    def cell_began(self) -> None:
        """The kernel's main thread runs a cell from now on."""
        self._cell_since, self._asked_in_cell = self._clock(), False

    def cell_ended(self) -> None:
        """It waits for the next cell; what the pages have sent meanwhile arrives now."""
        self._cell_since = None
        now = self._clock()
        if self._deadline is not None and now < self._deadline + FIRST_ANSWER_SECONDS:
            self._deadline = max(self._deadline, now + ANSWER_SECONDS)

    def check(self) -> bool:
        """Whether somebody may be looking; to be called every second or so while that is so."""
        now = self._clock()
        is_busy = self._cell_since is not None
        if self._deadline is None or (now >= self._deadline and not is_busy):
            return False
        asks_for_cell = (
            self._cell_since is not None
            and not self._asked_in_cell
            and now - self._cell_since >= CELL_SECONDS
        )
        if asks_for_cell or now >= self._next_ask:
            self._asked_in_cell = self._asked_in_cell or is_busy
            self._asked = self._asked or now
            self._next_ask = now + ASK_EVERY_SECONDS
            self._ask()
        return True

    @property
    def buttons_wait(self) -> bool:
        """Whether presses have to wait for the end of the cell that runs."""
        asked = self._asked
        in_cell = self._cell_since is not None and self._asked_in_cell
        return in_cell and asked is not None and self._clock() - asked >= CELL_SECONDS


def follow_cells(shell: InteractiveShell | None, presence: Presence) -> Callable[[], None]:
    """Tell ``presence`` of the shell's cells; returns what ends that."""
    if shell is None:
        return lambda: None
    hooks: dict[str, Callable[[Any], None]] = {
        "pre_run_cell": lambda info: presence.cell_began(),
        "post_run_cell": lambda result: presence.cell_ended(),
    }
    for event, hook in hooks.items():
        shell.events.register(event, hook)

    def leave() -> None:
        for event, hook in hooks.items():
            if hook in shell.events.callbacks[event]:
                shell.events.unregister(event, hook)

    return leave
