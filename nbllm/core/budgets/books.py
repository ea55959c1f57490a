"""Where spending is counted: in memory for a kernel, in a file for all kernels of a day.

A request's worst case is reserved before it goes out, and gives way to what it took. Checking and
reserving are one step, so that any number of requests at once, from any number of processes, stay
within the limit. What a process had reserved when it was killed counts as spent.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from nbllm.core import saved_files
from nbllm.core.budgets.budget import NOTHING, UNITS, Amount, Budget, Unit
from nbllm.core.forks import ChildSafeLock, renew_in_children
from nbllm.core.paths import read_text

__all__ = ["Book", "DayBook", "Hold", "KernelBook", "Shortage", "Standing", "data_file"]

_VERSION = 1
_MOST_DAYS = 7
_MOST_FILE_BYTES = 16 * 2**20
_CLOCK_SECONDS = 5.0
"""By so much two readings of when a process began may differ, where the clock was set between."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What was spent, and what requests under way have reserved."""

    spent: Amount = NOTHING
    reserved: Amount = NOTHING

    def shortage(self, budget: Budget, worst: Amount) -> Shortage | None:
        """Why a request that may take ``worst`` cannot go out now; None where it can."""
        short: Shortage | None = None
        for unit in UNITS:
            limit = budget.limit(unit)
            if limit is None:
                continue
            free, needed = limit - getattr(self.spent, unit), getattr(worst, unit)
            reserved = getattr(self.reserved, unit)
            if needed > free - reserved and (short is None or not short.is_final):
                short = Shortage(budget, unit, max(0, free), reserved, needed)
        return short


@dataclass(frozen=True, slots=True)
class Shortage:
    """What a budget lacks for a request, in the unit of ``Amount``.

    ``free`` is what is not spent, of which requests under way have ``reserved`` a part.
    """

    budget: Budget
    unit: Unit
    free: int
    reserved: int
    needed: int

    @property
    def is_final(self) -> bool:
        """Whether it would be too little even if the requests under way took nothing."""
        return self.needed > self.free


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation. It is settled once, with what was spent in its place."""

    book: Book
    scope: str
    amount: Amount
    day: str = ""
    process: int = field(default_factory=os.getpid)

    def settle(self, spent: Amount) -> None:
        """Raises as its book does; the reservation then stays, which is the safe side.

        In a forked child it does nothing: the request is the parent's.
        """
        if self.process == os.getpid():
            self.book.settle(self, spent)


class Book(Protocol):
    """Counts spending by scope. May be used from any thread."""

    def standing(self, scope: str) -> Standing:
        """Raises ``OSError`` and ``ValueError`` where that cannot be told."""

    def reserve(self, budget: Budget, worst: Amount) -> Hold | Shortage:
        """Raises as ``standing`` does; nothing is reserved then."""

    def settle(self, hold: Hold, spent: Amount) -> None:
        """Put what was spent in the place of what was reserved. Raises as ``standing`` does."""

    def forget(self, scope: str) -> None:
        """Count from nothing again. Raises ``OSError``."""


class KernelBook:
    """Counts as long as the process lives; a forked child goes on from what was spent."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._lock = ChildSafeLock()
        renew_in_children(self)

    def renew(self) -> None:
        """What the parent's requests have reserved is no matter of a forked child."""
        spent = {scope: Standing(each.spent) for scope, each in self._standings.items()}
        self._standings = spent

    def standing(self, scope: str) -> Standing:
        """See ``Book``."""
        with self._lock:
            return self._standings.get(scope, Standing())

    def reserve(self, budget: Budget, worst: Amount) -> Hold | Shortage:
        """See ``Book``."""
        with self._lock:
            now = self._standings.get(budget.scope, Standing())
            short = now.shortage(budget, worst)
            if short is not None:
                return short
            self._standings[budget.scope] = replace(now, reserved=now.reserved + worst)
            return Hold(self, budget.scope, worst)

    def settle(self, hold: Hold, spent: Amount) -> None:
        """See ``Book``."""
        with self._lock:
            now = self._standings.get(hold.scope, Standing(reserved=hold.amount))
            self._standings[hold.scope] = Standing(now.spent + spent, now.reserved - hold.amount)

    def forget(self, scope: str) -> None:
        """See ``Book``; what is reserved stays so."""
        with self._lock:
            now = self._standings.get(scope, Standing())
            self._standings[scope] = replace(now, spent=NOTHING)


def data_file(name: str) -> Path:
    """A file in the user's data folder, which nobody empties as a cache."""
    from platformdirs import user_data_path

    return user_data_path("nbllm") / name


@dataclass(slots=True)
class _Count:
    """The spending of a scope on a day; ``open`` is what each process has reserved."""

    spent: Amount = NOTHING
    open: dict[str, Amount] = field(default_factory=dict)

    @property
    def standing(self) -> Standing:
        return Standing(self.spent, sum(self.open.values(), NOTHING))

    def change(self, owner: str, reserved: Amount, spent: Amount = NOTHING) -> None:
        """Reserve, or give back. What was taken for spent meanwhile is taken from there."""
        total = self.open.pop(owner, NOTHING) + reserved
        still = total.at_least_zero()
        if still != NOTHING:
            self.open[owner] = still
        self.spent = (self.spent + spent + (total - still)).at_least_zero()

    def bury(self) -> None:
        """Count what dead processes had reserved as spent: nobody can tell what they took."""
        for owner in [each for each in self.open if not _is_alive(each)]:
            self.spent += self.open.pop(owner)


_Days = dict[str, dict[str, _Count]]
_LOCK = ChildSafeLock()
"""For the threads of this process, which have no other where there is no place for lock files."""


class DayBook:
    """Counts in a file by the days of local time, for all processes of a user."""

    def __init__(self, file: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock

    @property
    def file(self) -> Path:
        """The file, which need not be there yet."""
        return self._file or data_file("spent.json")

    @property
    def today(self) -> str:
        """The date, as the file has it."""
        return time.strftime("%Y-%m-%d", time.localtime(self._clock()))

    def standing(self, scope: str) -> Standing:
        """See ``Book``."""
        try:
            days = _read(read_text(self.file, _MOST_FILE_BYTES))
        except FileNotFoundError:
            return Standing()
        count = days.get(self.today, {}).get(scope, _Count())
        count.bury()
        return count.standing

    def reserve(self, budget: Budget, worst: Amount) -> Hold | Shortage:
        """See ``Book``."""
        hold = Hold(self, budget.scope, worst, self.today)
        short: Shortage | None = None

        def take(count: _Count) -> None:
            nonlocal short
            count.bury()
            short = count.standing.shortage(budget, worst)
            if short is None:
                count.change(_owner(), worst)

        self._update(hold.day, budget.scope, take)
        return short or hold

    def settle(self, hold: Hold, spent: Amount) -> None:
        """See ``Book``; on the day on which it was reserved."""

        def give(count: _Count) -> None:
            count.change(_owner(), NOTHING - hold.amount, spent)

        self._update(hold.day, hold.scope, give)

    def forget(self, scope: str) -> None:
        """See ``Book``; a file that cannot be read is set aside."""

        def clear(count: _Count) -> None:
            count.spent = NOTHING

        try:
            self._update(self.today, scope, clear)
        except ValueError:
            self.file.replace(self.file.with_name(f"{self.file.name}.damaged-{time.time_ns()}"))

    def _update(self, day: str, scope: str, change: Callable[[_Count], None]) -> None:
        def changed(text: str | None) -> str:
            days = {} if text is None else _read(text)
            change(days.setdefault(day, {}).setdefault(scope, _Count()))
            return _written(days)

        with _LOCK:
            saved_files.update(self.file, changed)


def _read(text: str) -> _Days:
    """What a file says. Raises ``ValueError`` for one that is not as ``_written`` writes it."""
    try:
        values = json.loads(text)
        if values["version"] != _VERSION:
            raise ValueError(f"it is of another version ({values['version']!r:.20})")
        return {
            day: {scope: _count(value) for scope, value in scopes.items()}
            for day, scopes in values["days"].items()
        }
    except (LookupError, TypeError, AttributeError, json.JSONDecodeError, RecursionError):
        raise ValueError("it is damaged, so what was spent is not known") from None


def _count(value: Mapping[str, Any]) -> _Count:
    return _Count(
        _amount(value["spent"]), {owner: _amount(each) for owner, each in value["open"].items()}
    )


def _amount(numbers: list[int]) -> Amount:
    if len(numbers) != len(UNITS) or any(type(n) is not int or n < 0 for n in numbers):
        raise TypeError
    return Amount(*numbers)


def _written(days: _Days) -> str:
    kept = sorted(days)[-_MOST_DAYS:]
    values = {
        day: {
            scope: {
                "spent": astuple(count.spent),
                "open": {owner: astuple(each) for owner, each in count.open.items()},
            }
            for scope, count in days[day].items()
        }
        for day in kept
    }
    return json.dumps({"version": _VERSION, "days": values}, indent=1)


def _owner() -> str:
    """A name of this process, which no later one has and none of another machine."""
    return f"{os.getpid()} {_own_start(os.getpid()):.2f} {socket.gethostname()}"


def _is_alive(owner: str) -> bool:
    """Whether a process may still settle; of other machines nobody knows, so that it counts."""
    with suppress(ValueError):
        number, started, host = owner.split(" ", 2)
        is_here = host == socket.gethostname()
        return not is_here or abs(_started(int(number)) - float(started)) < _CLOCK_SECONDS
    return False


@lru_cache(maxsize=1)
def _own_start(process: int) -> float:
    return _started(process)


def _started(process: int) -> float:
    """When it began, in seconds; 0 for one that is not there."""
    import psutil

    try:
        return psutil.Process(process).create_time()
    except (psutil.Error, ValueError, OverflowError):
        return 0.0
