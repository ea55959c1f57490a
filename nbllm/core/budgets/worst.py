"""The most that a request may take, and the words in which a budget refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.core.budgets.books import Shortage
from nbllm.core.budgets.bounds import charge
from nbllm.core.budgets.budget import NOTHING, PICO, Amount, Budget, Unit, amount_words
from nbllm.core.errors import BudgetError
from nbllm.core.paths import reason
from nbllm.core.types import Usage

if TYPE_CHECKING:
    from nbllm.core.managed_model import ManagedModel

__all__ = ["Worst", "WorstBatch", "exceeded", "unreadable"]

_LEAST_ANSWER_TOKENS = 16
"""Some vendors refuse a lower limit."""
_MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Worst:
    """The most that a request of ``model`` may take: a prompt, and ``copies`` of an answer.

    ``answer`` tokens are wanted; where ``is_stated`` is False, fewer will do. Where ``is_bounded``
    is False, nothing but a limit in the request holds the model to them.
    """

    model: ManagedModel
    budgets: tuple[Budget, ...]
    prompt: int
    answer: int = 0
    copies: int = 1
    is_stated: bool = True
    is_bounded: bool = True

    @property
    def is_kept_in_file(self) -> bool:
        """Whether counting it takes a file."""
        return any(budget.per == "day" for budget in self.budgets)

    def usage(self, answer: int) -> Usage:
        """The tokens, with answers of so many."""
        return Usage(prompt_tokens=self.prompt, completion_tokens=self.copies * answer)

    def charge(self, budget: Budget, answer: int) -> Amount:
        """What that costs. Raises ``BudgetError`` where the price is unknown and must not be."""
        usage = self.usage(answer)
        amount = charge(budget, usage, self.model.highest_cost(usage))
        if amount is None:
            raise _unpriced(self.model.name, budget)
        return amount

    def affordable(self, budget: Budget, spent: Amount) -> int:
        """How many tokens of an answer the budget has left, whatever others have reserved."""
        least, more = self.charge(budget, 0), self.charge(budget, _MANY)
        answer = self.answer
        units: tuple[Unit, ...] = ("usd", "tokens")
        for unit in units:
            limit, each = budget.limit(unit), getattr(more, unit) - getattr(least, unit)
            if limit is not None and each > 0:
                left = limit - getattr(spent, unit) - getattr(least, unit)
                left -= 2 if unit == "usd" else 0  # which is rounded up
                answer = min(answer, left * _MANY // each)
        return max(answer, min(_LEAST_ANSWER_TOKENS, self.answer))


@dataclass(frozen=True, slots=True)
class WorstBatch(Worst):
    """The most that a batch of a vendor's may take, at half the price of its requests."""

    requests: tuple[Usage, ...] = ()

    def charge(self, budget: Budget, answer: int) -> Amount:
        """What that costs, whatever ``answer`` is. Raises as for one request."""
        return sum((self._charge(budget, usage) for usage in self.requests), NOTHING)

    def _charge(self, budget: Budget, usage: Usage) -> Amount:
        cost = self.model.highest_cost(usage)
        amount = charge(budget, usage, None if cost is None else cost / 2)
        if amount is None:
            raise _unpriced(self.model.name, budget)
        return amount


def exceeded(worst: Worst, short: Shortage) -> BudgetError:
    """The refusal of a request that a budget has not enough left for."""
    budget, unit = short.budget, short.unit
    limit, left = budget.limit(unit) or 0, short.free - short.reserved
    words = [
        f"{budget.name} of {amount_words(unit, limit)} has {amount_words(unit, max(0, left))} left"
    ]
    if short.reserved:
        words.append(f", {amount_words(unit, short.reserved)} being reserved by requests under way")
    if unit != "requests":
        needs = amount_words(unit, short.needed)
        words.append(f"; this request could take {needs}{_tokens(worst, short)}")
    remedies = ["raise the budget (%llm_budget, manager.budgets.set)"]
    if unit != "requests" and worst.answer and worst.is_stated:
        remedies.insert(0, "lower max_tokens")
    if short.reserved:
        remedies.append("try again when they have ended")
    if budget.per == "day":
        remedies.append("wait for tomorrow")
    scale = PICO if unit == "usd" else 1
    return BudgetError(
        worst.model.name,
        f"{''.join(words)}. Nothing was sent. {_alternatives(remedies)}.",
        budget=budget.name,
        unit=unit,
        left=max(0, left) / scale,
        needed=short.needed / scale,
    )


def _tokens(worst: Worst, short: Shortage) -> str:
    """What the tokens of a worst case are."""
    answer = worst.answer if worst.is_stated else min(_LEAST_ANSWER_TOKENS, worst.answer)
    if not worst.is_stated and not short.is_final:  # it was given what there may be later
        return ""
    behind = f" and {worst.copies * answer:,} for the answer" if answer else ""
    return f" (up to {worst.prompt:,} prompt tokens{behind})"


def _alternatives(remedies: list[str]) -> str:
    *others, last = remedies
    words = f"{', '.join(others)} or {last}" if others else last
    return words[0].upper() + words[1:]


def _unpriced(model: str, budget: Budget) -> BudgetError:
    return BudgetError(
        model,
        f"{budget.name} is in dollars, and the price of this model is not known. Nothing was sent. "
        "Say what a million of its tokens cost (%llm_budget --unknown 5, Budget(unknown=5); 0 for "
        "a server of your own), or add it to the table that NBLLM_PRICES names.",
        budget=budget.name,
        unit="usd",
    )


def unreadable(model: str, budget: Budget, file: Path, error: OSError | ValueError) -> BudgetError:
    """The refusal where nobody can tell or write down what was spent."""
    return BudgetError(
        model,
        f"{budget.name} cannot be kept: {file}: {reason(error)}. Nothing was sent. Make the file "
        'usable, start it anew (%llm_budget reset, manager.budgets.reset(per="day")), or remove '
        "the budget.",
        budget=budget.name,
    )
