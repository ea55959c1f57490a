"""``Budget``: a limit on what requests may spend, and ``Amount``, what they spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_checks import check_number
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import shown

if TYPE_CHECKING:
    from nbllm.core.types import ModelInfo

__all__ = [
    "NOTHING",
    "PICO",
    "UNITS",
    "Amount",
    "Budget",
    "Per",
    "Unit",
    "amount_words",
    "budgets_from",
]

Per = Literal["kernel", "day"]
Unit = Literal["usd", "tokens", "requests"]
UNITS: tuple[Unit, ...] = get_args(Unit)

PICO = 10**12
"""Money is counted in whole millionths of a millionth of a dollar: sums of floats drift."""
_MOST_USD = 1e9
_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Amount:
    """What is spent, reserved or left, in whole numbers; ``usd`` is in 1e-12 US dollars."""

    usd: int = 0
    tokens: int = 0
    requests: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(*(getattr(self, u) + getattr(other, u) for u in UNITS))

    def __sub__(self, other: Amount) -> Amount:
        return Amount(*(getattr(self, u) - getattr(other, u) for u in UNITS))

    def at_least_zero(self) -> Amount:
        """With 0 in the place of what is below it."""
        return Amount(*(max(0, getattr(self, u)) for u in UNITS))

    @property
    def dollars(self) -> float:
        """The money in US dollars."""
        return self.usd / PICO


NOTHING = Amount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What requests may spend at most: in US dollars, in tokens (prompts and answers), in requests.

    It counts for a ``kernel`` (one ``ModelManager``), or for all kernels of the user of one ``day``
    (local time), and for one ``model`` where that is named: as it is loaded, or by its vendor's id,
    in any case; ``*`` stands for any letters. Of models without a known price ``unknown`` says what
    a million tokens cost, or that a budget in dollars refuses them. Retries and fallbacks are
    requests too, answers from the cache are none.

    Raises ``InvalidOptionError``.
    """

    usd: float | None = None
    tokens: int | None = None
    requests: int | None = None
    per: Per = "kernel"
    model: str | None = None
    unknown: Literal["refuse"] | float = "refuse"

    def __post_init__(self) -> None:
        check_number("usd", self.usd, 0, _MOST_USD)
        check_number("tokens", self.tokens, 0, _MOST, whole=True)
        check_number("requests", self.requests, 0, _MOST, whole=True)
        if self.per not in get_args(Per):
            raise InvalidOptionError("per", f"must be kernel or day (got {shown(self.per)})")
        if self.model is not None and not (isinstance(self.model, str) and self.model.strip()):
            raise InvalidOptionError("model", f"must be a model's name (got {shown(self.model)})")
        if self.unknown != "refuse":
            if isinstance(self.unknown, str) or self.unknown is None:
                problem = f'must be "refuse" or US dollars per million tokens (got {self.unknown})'
                raise InvalidOptionError("unknown", problem)
            check_number("unknown", self.unknown, 0, _MOST_USD)
        if all(getattr(self, unit) is None for unit in UNITS):
            raise InvalidOptionError("budget", "needs a limit: usd, tokens or requests")

    @property
    def scope(self) -> str:
        """What it counts for: a model's name in lower case, or ``*``. One limit counts for each."""
        return self.model.strip().lower() if self.model else "*"

    @property
    def name(self) -> str:
        """What messages call it."""
        whose = "today's budget" if self.per == "day" else "this kernel's budget"
        return f"{whose} for {self.model}" if self.model else whose

    def limit(self, unit: Unit) -> int | None:
        """As a whole number, in the unit of ``Amount``; None for no limit."""
        if unit == "usd":
            return None if self.usd is None else round(self.usd * PICO)
        value: int | None = getattr(self, unit)
        return value

    def set_values(self) -> dict[str, Any]:
        """What differs from the defaults, by name, as JSON values."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def merged(self, over: Budget) -> Budget:
        """The same with every limit that ``over`` sets in its place."""
        limits = {u: value for u in UNITS if (value := getattr(over, u)) is not None}
        unknown = self.unknown if over.usd is None else over.unknown
        return replace(self, **limits, unknown=unknown)

    def covers(self, info: ModelInfo) -> bool:
        """Whether requests to this model count."""
        names = (info.name, info.model or "", *info.aliases)
        return any(fnmatchcase(name.lower(), self.scope) for name in names)


def budgets_from(given: Any) -> tuple[Budget, ...]:
    """One or several budgets, or mappings of their fields. Raises ``InvalidOptionError``."""
    if isinstance(given, Budget):
        return (given,)
    if isinstance(given, Mapping):
        known = [field.name for field in fields(Budget)]
        for name in given:
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise InvalidOptionError("budget", f"has no key {shown(name)}.{hint}")
        return (Budget(**given),)
    if isinstance(given, str) or not isinstance(given, Iterable):
        problem = f"must be a Budget, or a list of them (got {shown(given)})"
        raise InvalidOptionError("budgets", problem)
    return tuple(budget for each in given for budget in budgets_from(each))


def amount_words(unit: Unit, amount: int) -> str:
    """An amount for reading: dollars with all the digits that matter.

    >>> amount_words("usd", 12_300_000_000), amount_words("tokens", 1), amount_words("requests", 2)
    ('$0.0123', '1 token', '2 requests')
    """
    if unit != "usd":
        return f"{amount:,} {unit if amount != 1 else unit[:-1]}"
    dollars = amount / PICO
    return (
        f"${dollars:,.2f}" if dollars >= 100 or amount % (PICO // 100) == 0 else f"${dollars:.4g}"
    )
