"""What a run may take of money and tokens: set aside before each request, settled behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbllm.core.errors import BatchError
from nbllm.core.option_checks import check_number
from nbllm.core.option_names import option_name
from nbllm.core.types import Usage

__all__ = ["Limits"]

_MOST_OF_ANYTHING = 10**12


@dataclass(slots=True)
class _Limit:
    """One amount: ``dearest`` is what the dearest answer so far took of it."""

    name: str
    unit: str
    most: float | None
    spent: float = 0.0
    dearest: float = 0.0

    def check(self, running: int) -> None:
        if self.most is None:
            return
        name = option_name(self.name)
        left = self.most - self.spent - running * self.dearest
        if left < self.dearest or left <= 0:
            raise BatchError(
                f"stopped, because the next answer could exceed {name}: {self.spent:,.10g} of "
                f"{self.most:,.10g} {self.unit} are spent. Raise {name} and run it again with "
                f"the same {option_name('journal')} to go on."
            )

    def settle(self, amount: float) -> None:
        self.spent += amount
        self.dearest = max(self.dearest, amount)


@dataclass(slots=True)
class Limits:
    """``max_cost`` in US dollars and ``max_total_tokens`` of prompts and answers; None: none.

    What an answer is going to take is not known, so as much as the dearest one took is set aside
    for each that is under way. Raises ``InvalidOptionError`` for what cannot be a limit.
    """

    max_cost: float | None
    max_total_tokens: int | None
    running: int = 0
    _limits: tuple[_Limit, _Limit] = field(init=False)

    def __post_init__(self) -> None:
        check_number("max_cost", self.max_cost, 0, _MOST_OF_ANYTHING)
        check_number("max_total_tokens", self.max_total_tokens, 1, _MOST_OF_ANYTHING, whole=True)
        self._limits = (
            _Limit("max_cost", "US dollars", self.max_cost),
            _Limit("max_total_tokens", "tokens", self.max_total_tokens),
        )

    @property
    def exist(self) -> bool:
        """Whether anything is limited."""
        return any(limit.most is not None for limit in self._limits)

    def reserve(self) -> None:
        """Set aside what one more request may take. Raises ``BatchError`` at a limit."""
        for limit in self._limits:
            limit.check(self.running)
        self.running += 1

    def settle(self, usage: Usage) -> None:
        """Note what a request took, in place of what was set aside."""
        self.running -= 1
        cost, tokens = self._limits
        cost.settle(usage.cost_usd or 0.0)
        tokens.settle((usage.prompt_tokens or 0) + (usage.completion_tokens or 0))
