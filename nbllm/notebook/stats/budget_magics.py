"""``%llm_budget``: what may be spent, and what was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    from nbllm.core.budgets.budget import Budget, Per
    from nbllm.core.budgets.budgets import Budgets, BudgetStatus
    from nbllm.notebook.tables import Table

__all__ = ["BudgetMagics"]

_SCALES = {"": 1, "k": 1_000, "m": 1_000_000}


def _count(word: str) -> int:
    """A number such as 500, 20k, 1.5M or 200,000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([km]?)", re.sub("[,_]", "", word).lower())
    value = float(match[1]) * _SCALES[match[2]] if match else 0.5
    if value != int(value):
        raise UsageError(f"{word!r} is not a number such as 500, 20k or 1.5M")
    return int(value)


def _dollars(word: str) -> float:
    """An amount such as 2.50 or $2.50."""
    try:
        return float(word.removeprefix("$").replace(",", ""))
    except ValueError:
        raise UsageError(f"{word!r} is not an amount in US dollars such as 2.50") from None


def _price(word: str) -> float | Literal["refuse"]:
    return "refuse" if word == "refuse" else _dollars(word)


BUDGET = Help(
    """
    %llm_budget --usd 2.50                for all models of this kernel
    %llm_budget --usd 5 --per day         for all kernels of a day, until "off"
    %llm_budget --tokens 200k --requests 50 --model gpt-4o
    %llm_budget --usd 5 --unknown 3       models without a known price: $3 for a million tokens
    %llm_budget                           what was spent and what is left, as a DataFrame
    %llm_budget reset --per day           count today's from nothing again
    %llm_budget off --model gpt-4o
""",
    (
        flag(
            "action",
            nargs="?",
            choices=("show", "reset", "off"),
            default="show",
            help="Without limits: show all, count from nothing again, or remove them.",
        ),
        flag("--usd", metavar="X", type=_dollars, help="Limit in US dollars."),
        flag(
            "--tokens", metavar="N", type=_count, help="Limit in tokens, prompts and answers: 200k."
        ),
        flag("--requests", metavar="N", type=_count, help="Limit in requests, retries included."),
        flag(
            "--per",
            choices=("kernel", "day"),
            help="What it counts for: this kernel (default), or all kernels of a day.",
        ),
        flag("--model", metavar="NAME", help="For one model; * stands for any letters."),
        flag(
            "--unknown",
            metavar="X",
            type=_price,
            help="What a million tokens cost in US dollars where the price is not known; a budget "
            "in dollars otherwise refuses (refuse, the default).",
        ),
    ),
)


class BudgetFlags(Flags):
    """What ``BUDGET`` explains."""

    action: Literal["show", "reset", "off"]
    usd: float | None
    tokens: int | None
    requests: int | None
    per: Per | None
    model: str | None
    unknown: float | Literal["refuse"] | None


_COLUMNS = {
    "budget": "string",
    "model": "string",
    "unit": "string",
    "limit": "Float64",
    "spent": "Float64",
    "reserved": "Float64",
    "left": "Float64",
}


@magics_class
class BudgetMagics(SessionMagics):
    """The magic of budgets."""

    @no_var_expand
    @with_help(BUDGET)
    @line_magic
    def llm_budget(self, line: str) -> Table | None:
        """Limit what requests spend: in US dollars, tokens or requests.

        The most that a request can take is reserved before it is sent, and what it took counts
        afterwards. A request that could exceed a budget isn't sent. A budget of a day holds for
        later kernels too, until it is removed. Returns the budgets as a table.
        """
        args = parse(parser_of(self, "llm_budget"), line, BudgetFlags())
        budgets = self.session.manager.budgets
        with brief_errors():
            given = {
                name: value
                for name in ("usd", "tokens", "requests", "unknown")
                if (value := getattr(args, name)) is not None
            }
            if args.action == "show":
                if given:
                    budgets.set(_changed(budgets, args, given), stays=True)
                return _table(budgets)
            if given:
                raise UsageError(f"%llm_budget {args.action} takes --per and --model only")
            self._undo(budgets, args)
        return None

    def _undo(self, budgets: Budgets, args: BudgetFlags) -> None:
        act = budgets.remove if args.action == "off" else budgets.reset
        done = act(per=args.per, model=args.model)
        what = "removed" if args.action == "off" else "reset"
        names = ", ".join(budget.name for budget in done)
        view = self.session.open_view("llm_budget")
        view.keep(f"{what.capitalize()}: {names}." if done else f"No budget was {what}.")


def _changed(budgets: Budgets, args: BudgetFlags, given: dict[str, Any]) -> Budget:
    """The budget of this time and model with the given limits; its others stay."""
    from dataclasses import replace

    from nbllm.core.budgets.budget import Budget

    per: Per = args.per or "kernel"
    for known in budgets.chosen(per=per, model=args.model or "*"):
        return replace(known, **given)
    return Budget(**given, per=per, model=args.model)


def _table(budgets: Budgets) -> Table:
    from nbllm.notebook.tables import make_table

    statuses = budgets.statuses()
    rows = [row for status in statuses for row in _rows(status)]
    notes = [f"{status.budget.name}: {status.problem}" for status in statuses if status.problem]
    if not rows:
        notes.append("No budget is set; %llm_budget --usd 2.50 sets one.")
    return make_table(rows, _COLUMNS, [*notes, *_price_notes(statuses), *budgets.notes])


def _rows(status: BudgetStatus) -> list[dict[str, Any]]:
    from nbllm.core.budgets.budget import PICO, UNITS

    budget, rows = status.budget, []
    for unit in UNITS:
        limit, scale = budget.limit(unit), PICO if unit == "usd" else 1
        if limit is None:
            continue
        row: dict[str, Any] = {
            "budget": "today" if budget.per == "day" else "this kernel",
            "model": budget.model or "all",
            "unit": "US dollars" if unit == "usd" else unit,
            "limit": limit / scale,
        }
        if not status.problem:
            spent, reserved = getattr(status.spent, unit), getattr(status.reserved, unit)
            left = max(0, limit - spent - reserved)
            row |= {"spent": spent / scale, "reserved": reserved / scale, "left": left / scale}
        rows.append(row)
    return rows


def _price_notes(statuses: list[BudgetStatus]) -> list[str]:
    in_dollars = [status.budget for status in statuses if status.budget.usd is not None]
    stated = sorted({b.unknown for b in in_dollars if not isinstance(b.unknown, str)})
    notes = []
    if any(budget.unknown == "refuse" for budget in in_dollars):
        notes.append("Models without a known price are refused; --unknown X states one.")
    if stated:
        prices = ", ".join(f"${price:g}" for price in stated)
        notes.append(f"Models without a known price count as {prices} for a million tokens.")
    return notes
