"""``Budgets``: all budgets of a manager, and how they stand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nbllm.core import saved_files
from nbllm.core.budgets.books import Book, DayBook, KernelBook
from nbllm.core.budgets.budget import NOTHING, Amount, Budget, Per, budgets_from
from nbllm.core.errors import ConfigError
from nbllm.core.forks import ChildSafeLock
from nbllm.core.paths import read_text, reason
from nbllm.core.types import ModelInfo

__all__ = ["BudgetStatus", "Budgets"]

WAIT_SECONDS = 60.0
_MOST_FILE_BYTES = 2**20
_Kept: TypeAlias = dict[tuple[Per, str], Budget]


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """How a budget stands. ``problem`` says why that is not known, where it is not."""

    budget: Budget
    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    problem: str = ""


class Budgets:
    """The budgets of a manager. It may be used from any thread and any event loop.

    A request is refused as ``BudgetError`` where its worst case exceeds what is not spent. Where it
    exceeds only what requests under way have reserved, it waits for them, for ``wait_seconds`` at
    most. ``file`` is where the spending of days is kept (in the user's data folder), ``clock``
    tells the time. ``notes`` are sentences on what could not be written down. ``limits_file`` holds
    the budgets of days that stay until they are removed, for all who name it. One that cannot be
    read is never taken for none: what needs it raises ``ConfigError``.
    """

    def __init__(
        self,
        budgets: Any = (),
        *,
        file: Path | None = None,
        clock: Callable[[], float] = time.time,
        wait_seconds: float = WAIT_SECONDS,
        limits_file: Path | None = None,
    ) -> None:
        self.wait_seconds = wait_seconds
        self.day_book = DayBook(file, clock=clock)
        self.books = _books(self.day_book)
        self.notes: list[str] = []
        self._budgets: _Kept = {}
        self._limits = None if limits_file is None else _LimitsFile(limits_file)
        self._lock = ChildSafeLock()
        self.set(budgets)

    def set(self, budgets: Any, *, stays: bool = False) -> None:
        """Add a budget, or several.

        Of those for the same time and model the limits are put together; of two limits in the same
        unit the newer one counts. What was spent stays. With ``stays`` those of a day are written
        to the file of limits, where there is one. Raises ``InvalidOptionError``, ``ConfigError``,
        and ``OSError`` where that file cannot be written.
        """
        given = budgets_from(budgets)
        kept = [each for each in given if stays and self._limits and each.per == "day"]
        if kept and self._limits is not None:
            self._limits.change(lambda known: _with(known, kept))
        with self._lock:
            self._budgets = _with(self._budgets, [each for each in given if each not in kept])

    def remove(self, *, per: Per | None = None, model: str | None = None) -> list[Budget]:
        """Take away the budgets of this time and this model, or all; returns them.

        A file of limits that cannot be read is set aside. Raises ``OSError``.
        """
        if self._limits is not None and per != "kernel":
            self._limits.mend()
        gone = self.chosen(per=per, model=model)
        keys = {(each.per, each.scope) for each in gone}
        if self._limits is not None and any(each.per == "day" for each in gone):
            self._limits.change(lambda known: _without(known, keys))
        with self._lock:
            self._budgets = _without(self._budgets, keys)
        return gone

    def reset(self, *, per: Per | None = None, model: str | None = None) -> list[Budget]:
        """Count the spending of these budgets from nothing again. Raises ``OSError``."""
        chosen = self.chosen(per=per, model=model)
        for budget in chosen:
            self.books[budget.per].forget(budget.scope)
        return chosen

    def chosen(self, *, per: Per | None = None, model: str | None = None) -> list[Budget]:
        """The budgets of this time and this model, or all."""
        scope = None if model is None else model.strip().lower()
        return [
            b for b in self._all().values() if per in (None, b.per) and scope in (None, b.scope)
        ]

    def _all(self) -> _Kept:
        return self._budgets if self._limits is None else {**self._limits.read(), **self._budgets}

    def statuses(self) -> list[BudgetStatus]:
        """How all budgets stand."""
        return [self._status(budget) for budget in self._all().values()]

    def _status(self, budget: Budget) -> BudgetStatus:
        try:
            standing = self.books[budget.per].standing(budget.scope)
        except (OSError, ValueError) as error:
            return BudgetStatus(budget, problem=f"{self.day_book.file}: {reason(error)}")
        return BudgetStatus(budget, standing.spent, standing.reserved)

    def covering(self, info: ModelInfo) -> tuple[Budget, ...]:
        """Those that a request to this model counts in: by its names, or by its config entry.

        A router spends nothing: the requests that it makes count as its members' own.
        """
        if info.model_type == "router":
            return ()
        own = {(each.per, each.scope) for each in info.budgets}
        return tuple(b for key, b in self._all().items() if key in own or b.covers(info))


class _LimitsFile:
    """Budgets of days in a JSON file, a list; read again whenever it has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._budgets: _Kept = {}

    def read(self) -> _Kept:
        """Raises ``ConfigError``."""
        try:
            status = self._file.stat()
        except OSError:  # nobody can have written it
            return {}
        seen = status.st_mtime_ns, status.st_size, status.st_ino
        if seen != self._seen:
            try:
                self._budgets = _parsed(read_text(self._file, _MOST_FILE_BYTES))
            except (OSError, ValueError) as error:
                raise self._problem(error) from None
            self._seen = seen
        return self._budgets

    def change(self, change: Callable[[_Kept], _Kept]) -> None:
        """Raises ``ConfigError`` where it cannot be read, ``OSError`` where not written."""

        def changed(text: str | None) -> str:
            try:
                kept = change({} if text is None else _parsed(text))
            except ValueError as error:
                raise self._problem(error) from None
            return json.dumps([each.set_values() for each in kept.values()], indent=1)

        saved_files.update(self._file, changed)

    def mend(self) -> None:
        """Set a file aside that cannot be read. Raises ``OSError``."""
        try:
            self.read()
        except ConfigError:
            self._file.replace(self._file.with_name(f"{self._file.name}.damaged-{time.time_ns()}"))

    def _problem(self, error: OSError | ValueError) -> ConfigError:
        problem = (
            f"the budgets of a day cannot be read: {reason(error)}. Nothing was sent. Mend the "
            "file, or set it aside with %llm_budget off --per day"
        )
        return ConfigError(problem, file=self._file)


def _parsed(text: str) -> _Kept:
    """Raises ``ValueError`` for anything but a list of budgets of days."""
    try:
        found = budgets_from(json.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if any(each.per != "day" for each in found):
        raise ValueError("it has a budget that is not of a day")
    return _with({}, found)


def _with(known: _Kept, given: Iterable[Budget]) -> _Kept:
    changed = dict(known)
    for each in given:
        old = changed.get((each.per, each.scope))
        changed[each.per, each.scope] = old.merged(each) if old else each
    return changed


def _without(known: _Kept, keys: Container[tuple[Per, str]]) -> _Kept:
    return {key: budget for key, budget in known.items() if key not in keys}


def _books(day_book: DayBook) -> dict[Per, Book]:
    return {"kernel": KernelBook(), "day": day_book}
