"""``Budgets``: all budgets of a manager, and how they stand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbllm.core.budgets.books import Book, DayBook, KernelBook
from nbllm.core.budgets.budget import NOTHING, Amount, Budget, Per, budgets_from
from nbllm.core.paths import reason
from nbllm.core.types import ModelInfo

__all__ = ["BudgetStatus", "Budgets"]

WAIT_SECONDS = 60.0


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
    tells the time. ``notes`` are sentences on what could not be written down.
    """

    def __init__(
        self,
        budgets: Any = (),
        *,
        file: Path | None = None,
        clock: Callable[[], float] = time.time,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.wait_seconds = wait_seconds
        self.day_book = DayBook(file, clock=clock)
        self.books = _books(self.day_book)
        self.notes: list[str] = []
        self._budgets: dict[tuple[Per, str], Budget] = {}
        self._lock = threading.Lock()
        self.set(budgets)

    def set(self, budgets: Any) -> None:
        """Add a budget, or several.

        Of those for the same time and model the limits are put together; of two limits in the same
        unit the newer one counts. What was spent stays. Raises ``InvalidOptionError``.
        """
        given = budgets_from(budgets)
        with self._lock:
            changed = dict(self._budgets)
            for each in given:
                known = changed.get((each.per, each.scope))
                changed[each.per, each.scope] = known.merged(each) if known else each
            self._budgets = changed

    def remove(self, *, per: Per | None = None, model: str | None = None) -> list[Budget]:
        """Take away the budgets of this time and this model, or all; returns them."""
        gone = self.chosen(per=per, model=model)
        with self._lock:
            for each in gone:
                self._budgets = {k: b for k, b in self._budgets.items() if b is not each}
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
            b for b in self._budgets.values() if per in (None, b.per) and scope in (None, b.scope)
        ]

    def statuses(self) -> list[BudgetStatus]:
        """How all budgets stand."""
        return [self._status(budget) for budget in self._budgets.values()]

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
        return tuple(b for key, b in self._budgets.items() if key in own or b.covers(info))


def _books(day_book: DayBook) -> dict[Per, Book]:
    return {"kernel": KernelBook(), "day": day_book}
