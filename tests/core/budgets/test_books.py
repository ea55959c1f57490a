"""What is spent on a day is kept in a file, by several processes, and never lost in silence."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.budgets.books import DayBook, Hold, Shortage
from nbllm.core.budgets.budget import NOTHING, Amount, Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.errors import BudgetError, ConfigError
from nbllm.core.types import GenerationResult
from nbllm.testing import FakeModel

DAY = Budget(tokens=150, per="day")


def spending(file: Path, budget: Budget = DAY, **settings: Any) -> tuple[FakeModel, Budgets]:
    budgets = Budgets(budget, file=file, **settings)
    model = FakeModel(text="a b c d e f g h i j", token_seconds=1e-4)
    model.spend_from(budgets)
    return model, budgets


async def ask(model: FakeModel, times: int) -> list[GenerationResult | BaseException]:
    asked = [model.generate("one two three", max_tokens=10) for _ in range(times)]
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_many_at_once_never_exceed_it(tmp_path: Path) -> None:
    model, budgets = spending(tmp_path / "spent.json")
    outcomes = await ask(model, 16)
    assert sum(isinstance(each, GenerationResult) for each in outcomes) == 11
    assert all(isinstance(each, GenerationResult | BudgetError) for each in outcomes)
    assert budgets.statuses()[0].spent == Amount(0, 143, 11)
    _, later = spending(tmp_path / "spent.json")
    assert later.statuses()[0].spent == Amount(0, 143, 11)


ONE_KERNEL = """
import asyncio, sys
from pathlib import Path
from test_books import ask, spending
model, _ = spending(Path(sys.argv[1]))
print(sum(not isinstance(each, Exception) for each in asyncio.run(ask(model, 6))))
"""
RESERVE_AND_HANG = """
import sys, time
from pathlib import Path
from nbllm.core.budgets.books import DayBook
from nbllm.core.budgets.budget import Amount
from test_books import DAY
DayBook(Path(sys.argv[1])).reserve(DAY, Amount(0, 100, 1))
print("ready", flush=True)
time.sleep(60)
"""


def started(code: str, file: Path) -> subprocess.Popen[str]:
    """A kernel of its own."""
    command = [sys.executable, "-c", code, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)


def test_nor_do_several_kernels(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    kernels = [started(ONE_KERNEL, file) for _ in range(3)]
    answered = [int(kernel.communicate(timeout=60)[0]) for kernel in kernels]
    assert sum(answered) == 11
    assert DayBook(file).standing("*").spent == Amount(0, 143, 11)


def test_what_a_killed_process_had_reserved_counts_as_spent(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    with started(RESERVE_AND_HANG, file) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert DayBook(file).standing("*").reserved == Amount(0, 100, 1)
        process.kill()
    now = DayBook(file).standing("*")
    assert (now.spent, now.reserved) == (Amount(0, 100, 1), NOTHING)
    assert isinstance(DayBook(file).reserve(DAY, Amount(0, 51, 1)), Shortage)


def test_what_was_buried_too_early_is_settled_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    hold = DayBook(file).reserve(DAY, Amount(0, 100, 1))
    assert isinstance(hold, Hold)
    text = file.read_text().replace(f'"{os.getpid()} ', '"999999999 ')
    file.write_text(text)
    other = DayBook(file).reserve(DAY, Amount(0, 1, 1))  # which finds nobody of this number
    hold.settle(Amount(0, 30, 1))
    assert isinstance(other, Hold)
    other.settle(NOTHING)
    assert DayBook(file).standing("*").spent == Amount(0, 30, 1)


async def test_a_new_day_begins_with_nothing_and_a_request_counts_where_it_began(
    tmp_path: Path,
) -> None:
    now = [time.mktime((2026, 3, 1, 23, 59, 0, 0, 0, -1))]
    model, budgets = spending(tmp_path / "spent.json", clock=lambda: now[0])
    stream = model.stream("one two three", max_tokens=10)
    await anext(stream)
    now[0] += 3600
    async for _ in stream:
        pass
    assert budgets.statuses()[0].spent == NOTHING
    now[0] -= 3600
    assert budgets.statuses()[0].spent == Amount(0, 13, 1)


DAMAGE = [
    "",
    "{",
    "[]",
    "null",
    '{"version": 2, "days": {}}',
    '{"version": 1}',
    '{"version": 1, "days": []}',
    '{"version": 1, "days": {"TODAY": {"*": {"spent": [0, 0], "open": {}}}}}',
    '{"version": 1, "days": {"TODAY": {"*": {"spent": [0, -5, 0], "open": {}}}}}',
    '{"version": 1, "days": {"TODAY": {"*": {"spent": [0, 1.5, 0], "open": {}}}}}',
    '{"version": 1, "days": {"TODAY": {"*": {"spent": [0, 1, 0]}}}}',
    "\ud800",
]


@pytest.mark.parametrize("text", DAMAGE)
async def test_a_damaged_file_is_told_and_never_taken_for_nothing(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "spent.json"
    file.write_bytes(text.replace("TODAY", DayBook().today).encode("utf-8", "surrogatepass"))
    model, budgets = spending(file)
    with pytest.raises(BudgetError, match="today's budget cannot be kept: ") as caught:
        await model.generate("Hi", max_tokens=10)
    assert str(file) in str(caught.value)
    assert model.requests == []
    assert str(file) in budgets.statuses()[0].problem
    budgets.reset(per="day")
    await model.generate("Hi", max_tokens=10)
    assert any("damaged" in name for name in os.listdir(tmp_path))  # noqa: PTH208


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model, budgets = spending(tmp_path / "file" / "spent.json")
    with pytest.raises(BudgetError, match="cannot be kept"):
        await model.generate("Hi", max_tokens=10)
    assert budgets.statuses()[0].problem or budgets.statuses()[0].spent == NOTHING


async def test_what_cannot_be_settled_stays_reserved_and_is_told(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    model, budgets = spending(file)
    stream = model.stream("one two three", max_tokens=10)
    await anext(stream)
    whole = file.read_text()
    file.write_text("{")
    async for _ in stream:
        pass
    assert str(file) in budgets.notes[0]
    file.write_text(whole)
    assert budgets.statuses()[0].reserved == Amount(0, 13, 1)


async def test_a_request_that_is_cancelled_while_it_reserves_gives_it_back(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    model, budgets = spending(file)
    for _ in range(5):
        task = asyncio.ensure_future(model.generate("one two three", max_tokens=10))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.2)
    status = budgets.statuses()[0]
    assert status.reserved == NOTHING
    assert status.spent.tokens <= 5 * 13


def test_limits_of_a_day_stay_for_all_until_they_are_removed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "budgets.json"
    first, second = Budgets(limits_file=file), Budgets(limits_file=file)
    first.set([Budget(usd=5, per="day"), Budget(usd=1)], stays=True)
    first.set(Budget(tokens=9, per="day"))
    assert second.chosen() == [Budget(usd=5, per="day")]
    second.set(Budget(requests=3, per="day", model="m", unknown=2.5), stays=True)
    second.set(Budget(requests=8, per="day"), stays=True)
    assert Budgets(limits_file=file).chosen() == [
        Budget(usd=5, requests=8, per="day"),
        Budget(requests=3, per="day", model="m", unknown=2.5),
    ]
    assert first.chosen(per="kernel") == [Budget(usd=1)]
    first.remove(per="day", model="m")
    assert second.chosen(model="m") == []
    second.remove()
    assert first.chosen() == [Budget(usd=1), Budget(tokens=9, per="day")]


@pytest.mark.parametrize("text", ["", "{", "5", '[{"usd": 1}]', '[{"usd": -1}]', "[" * 100_000])
async def test_limits_that_cannot_be_read_are_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "budgets.json"
    file.write_text(text)
    budgets, model = Budgets(limits_file=file), FakeModel()
    model.spend_from(budgets)
    with pytest.raises(ConfigError, match="budgets of a day cannot be read"):
        await model.generate("Hi")
    assert model.requests == []
    budgets.remove(per="day")
    await model.generate("Hi")
    assert any("damaged" in name for name in os.listdir(tmp_path))  # noqa: PTH208


async def test_an_older_file_keeps_a_week(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    count = {"*": {"spent": [1, 2, 3], "open": {}}}
    days = {f"2020-01-{day:02}": count for day in range(1, 31)}
    file.write_text(json.dumps({"version": 1, "days": days}))
    model, _ = spending(file)
    await model.generate("Hi", max_tokens=10)
    assert len(json.loads(file.read_text())["days"]) == 7
