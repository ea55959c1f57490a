"""What a run may take of money and tokens: set aside before each request, settled behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbllm.core.option_checks import check_number
from nbllm.core.option_names import option_name
from nbllm.core.results import GenerationResult

__all__ = ["LimitReachedError", "Limits"]

_MOST_OF_ANYTHING = 10**12
_ROUNDED = 1e-9


class LimitReachedError(Exception):
    """One more request could take more than is left."""


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
        # Sums of fractions are rounded: ten times 0.01 fit into 0.1.
        if left < self.dearest * (1 - _ROUNDED) or left <= self.most * _ROUNDED:
            raise LimitReachedError(
                f"stopped, because the next answer could exceed {name}: {self.spent:,.10g} of "
                f"{self.most:,.10g} {self.unit} are spent. Raise {name} and run it again with "
                f"the same {option_name('journal')} to go on."
            )


@dataclass(slots=True)
class Limits:
    """``max_cost`` in US dollars and ``max_total_tokens`` of prompts and answers; None: none.

    What an answer is going to take is not known, so as much as the dearest one took is set aside
    for each that is under way. Raises ``InvalidOptionError`` for what cannot be a limit.
    """

    max_cost: float | None
    max_total_tokens: int | None
    running: int = 0
    are_known: bool = field(init=False)
    """Whether there is no limit, or an answer that tells what another one may take."""
    _limits: tuple[_Limit, _Limit] = field(init=False)

    def __post_init__(self) -> None:
        check_number("max_cost", self.max_cost, 0, _MOST_OF_ANYTHING)
        check_number("max_total_tokens", self.max_total_tokens, 1, _MOST_OF_ANYTHING, whole=True)
        self._limits = (
            _Limit("max_cost", "US dollars", self.max_cost),
            _Limit("max_total_tokens", "tokens", self.max_total_tokens),
        )
        self.are_known = all(limit.most is None for limit in self._limits)

    def reserve(self) -> None:
        """Set aside what one more request may take. Raises ``LimitReachedError``."""
        for limit in self._limits:
            limit.check(self.running)
        self.running += 1

    def settle(self, result: GenerationResult | None) -> None:
        """Note what a request took in place of what was set aside; None: it has no answer."""
        self.running -= 1
        if result is not None:
            for limit, amount in zip(self._limits, _taken(result), strict=True):
                limit.spent += amount
            self.learn(result)

    def learn(self, result: GenerationResult | None) -> None:
        """Expect what an answer took, also one of an earlier run, of others."""
        if result is not None and not result.from_cache:
            self.are_known = True
            for limit, amount in zip(self._limits, _taken(result), strict=True):
                limit.dearest = max(limit.dearest, amount)


def _taken(result: GenerationResult) -> tuple[float, float]:
    usage = result.usage
    tokens = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return usage.cost_usd or 0.0, tokens
