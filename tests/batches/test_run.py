"""Batches on fake models: order, failures, journals, limits; and on the real one."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllm import GenerationOptions, ModelManager
from nbllm.batches.journal import Journal
from nbllm.batches.journal_rows import Entry
from nbllm.batches.run import RunSettings, run_batch
from nbllm.core.errors import (
    AuthenticationError,
    BatchError,
    BudgetError,
    InvalidOptionError,
    RateLimitError,
    ServerError,
)
from nbllm.core.types import Completed, Event, FinishReason, GenerationResult, TextDelta, Usage
from nbllm.testing import FakeModel, fake_info

GREEDY = GenerationOptions(temperature=0)


class Echo(FakeModel):
    """Answers with its prompt in capitals; "boom" fails, "limit" is refused once."""

    def __init__(self, cost: float | None = None, **info: Any) -> None:
        super().__init__(info=fake_info("echo", local=False, model_type="openai", **info))
        self.cost, self.asked, self.most, self.running = cost, [], 0, 0
        self.refused: set[str] = set()
        self.gate: asyncio.Event | None = None

    async def _events(self, request: Any) -> AsyncGenerator[Event, None]:
        text = request.messages[-1].text
        self.asked.append(text)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            if self.gate is not None and text.startswith("slow"):
                await self.gate.wait()
            if text.startswith("boom"):
                raise ServerError("echo", f"broke at {text}")
            if text.startswith("key"):
                raise AuthenticationError("echo", "the key is refused")
            if text.startswith("limit") and text not in self.refused:
                self.refused.add(text)
                raise RateLimitError("echo", "too many", retry_after_seconds=0.01)
            yield TextDelta(text.upper())
            usage = Usage(prompt_tokens=3, completion_tokens=2, cost_usd=self.cost)
            yield Completed(
                GenerationResult(
                    text=text.upper(),
                    model="echo",
                    finish_reason=FinishReason.STOP,
                    usage=usage,
                )
            )
        finally:
            self.running -= 1


async def test_rows_come_in_order_with_their_own_errors() -> None:
    model = Echo()
    rows = await model.map(["a", "boom 1", "c", "boom 2", "e"], max_failures=1)
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert [row.text for row in rows] == ["A", "", "C", "", "E"]
    assert rows[1].error == "ServerError: echo: broke at boom 1"


async def test_as_many_run_as_are_wanted() -> None:
    model = Echo()
    await model.map(map(str, range(100)), concurrency=7)
    assert model.most == 7


async def test_prompts_are_read_as_they_are_needed() -> None:
    model, read = Echo(), 0

    def prompts() -> Any:
        nonlocal read
        for number in range(10_000):
            read = number
            yield str(number)

    rows = model.map(prompts(), concurrency=2).rows()
    async for row in rows:
        if row.index == 50:
            break
    await rows.aclose()
    assert read < 100
    assert model.running == 0


async def test_a_slow_row_holds_back_no_more_than_a_window() -> None:
    model = Echo()
    model.gate = asyncio.Event()
    batch = model.map(["slow", *map(str, range(1000))], concurrency=4)
    rows = batch.rows()
    first = asyncio.ensure_future(anext(rows))
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(model.asked) <= 16
    model.gate.set()
    assert (await first).text == "SLOW"
    await rows.aclose()


async def test_a_rate_limit_slows_all_down_and_loses_nothing() -> None:
    model = Echo()
    rows = await model.map([f"limit {n}" for n in range(20)], concurrency=8)
    assert all(row.text for row in rows)
    assert len(model.asked) == 40


async def test_equal_rows_are_asked_once_where_that_changes_nothing() -> None:
    model = Echo()
    rows = await model.map(["a", "b", "a", "a"], options=GREEDY)
    assert sorted(model.asked) == ["a", "b"]
    assert [row.repeated for row in rows] == [False, False, True, True]
    assert [row.text for row in rows] == ["A", "B", "A", "A"]
    await model.map(["a", "a"], temperature=0.7)
    assert len(model.asked) == 4


async def test_what_every_row_would_meet_ends_the_run_at_once() -> None:
    model = Echo()
    with pytest.raises(BatchError, match=r"every row would fail: .*the key is refused"):
        await model.map(["key", *map(str, range(1000))], concurrency=1)
    assert len(model.asked) < 10


class Spender(Echo):
    """A budget has enough for so many answers, of which each reserves two."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.left, self.reserved = answers, 0

    async def _events(self, request: Any) -> AsyncGenerator[Event, None]:
        if self.left - self.reserved < 2:
            raise BudgetError("echo", "team has 0 tokens left", budget="team")
        self.reserved += 2
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            async for event in super()._events(request):
                yield event
        finally:
            self.reserved -= 2
            self.left -= 1


async def test_an_awaited_run_that_ends_early_gives_out_what_is_finished() -> None:
    with pytest.raises(BatchError) as ended:
        await Echo().map(["a", "b", "key", "c"], concurrency=1)
    finished = ended.value.finished
    assert [row.text for row in finished] == ["A", "B", ""]  # "c" was not asked
    assert "the key is refused" in finished[2].error
    again = pickle.loads(pickle.dumps(ended.value))
    assert [row.text for row in again.finished] == [row.text for row in finished]


@pytest.mark.parametrize("concurrency", [1, 8, 64])
async def test_a_budget_that_is_spent_ends_the_run_and_keeps_what_is_done(
    tmp_path: Path, concurrency: int
) -> None:
    model, file = Spender(20), tmp_path / "run.jsonl"
    with pytest.raises(BatchError, match=r"as a budget allows no more.*team has .* is kept in"):
        await model.map(map(str, range(500)), concurrency=concurrency, journal=file)
    assert model.left == 1  # what others had reserved and did not take was used
    with Journal(file) as journal:
        assert [entry.error for entry in journal.entries.values()] == [""] * 19
    model.left = 10_000
    rows = await model.map(map(str, range(500)), journal=file)
    assert sum(row.resumed for row in rows) == 19


@pytest.mark.parametrize(("kind", "priority"), [("router", "background"), ("openai", None)])
async def test_a_run_through_a_router_works_in_the_background(
    kind: str, priority: str | None
) -> None:
    model, seen = Echo(), []
    model.info = replace(model.info, model_type=kind)

    async def note(request: Any) -> AsyncGenerator[Event, None]:
        seen.append(request.options.priority)
        async for event in Echo._events(model, request):
            yield event

    model._events = note  # type: ignore[method-assign]
    await model.map(["a"])
    await model.map(["b"], priority="interactive")
    assert seen == [priority, "interactive"]


async def test_too_many_failures_end_the_run_with_their_reasons() -> None:
    model = Echo()
    with pytest.raises(BatchError, match=r"stopped after 20 rows, because 20 .* 20 times ServerEr"):
        await model.map([f"boom {n}" for n in range(1000)], concurrency=1)
    assert len(model.asked) < 40


async def test_money_is_reserved_before_it_is_spent() -> None:
    model = Echo(cost=0.01)
    with pytest.raises(BatchError, match=r"could exceed max_cost: 0\.\d+ of 0\.1 US dollars"):
        await model.map(map(str, range(1000)), concurrency=16, max_cost=0.1)
    assert len(model.asked) <= 10


async def test_at_a_limit_what_is_under_way_is_finished_and_nothing_else_begins(
    tmp_path: Path,
) -> None:
    model, file = Echo(cost=0.01), tmp_path / "run.jsonl"
    model.gate = asyncio.Event()
    prompts = ["a", "slow 1", "slow 2", *map(str, range(100))]
    batch = model.map(prompts, concurrency=4, max_cost=0.1, journal=file)
    task = asyncio.ensure_future(batch._all())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    assert model.running == 2
    model.gate.set()
    with pytest.raises(BatchError, match=r"could exceed max_cost: 0\.1 of 0\.1 US") as ended:
        await task
    finished = ended.value.finished
    assert len(finished) == len(model.asked) == 10
    assert [row.text for row in finished[:3]] == ["A", "SLOW 1", "SLOW 2"]
    assert not any(row.error for row in finished)
    with Journal(file) as journal:
        assert len(journal.entries) == 10


async def test_what_is_set_aside_and_not_taken_is_used() -> None:
    class Uneven(Echo):
        async def _events(self, request: Any) -> AsyncGenerator[Event, None]:
            self.cost = 0.05 if request.messages[-1].text == "dear" else 0.01
            async for event in super()._events(request):
                yield event

    model = Uneven()
    with pytest.raises(BatchError, match=r"could exceed max_cost: 0\.16 of 0\.2 US"):
        await model.map(["dear", *map(str, range(99))], concurrency=8, max_cost=0.2)
    assert len(model.asked) == 12


async def test_a_run_that_goes_on_knows_by_its_journal_what_an_answer_costs(
    tmp_path: Path,
) -> None:
    model, file = Echo(cost=0.01), tmp_path / "run.jsonl"
    await model.map(["a"], journal=file)
    with pytest.raises(BatchError, match="could exceed max_cost"):
        await model.map(["a", *"bcdefghi"], journal=file, concurrency=8, max_cost=0.025)
    assert len(model.asked) == 3


async def test_rows_go_one_at_a_time_until_one_tells_what_it_costs() -> None:
    model = Echo(cost=0.01)
    prompts = [None, "boom", *map(str, range(20))]
    with pytest.raises(BatchError, match="could exceed max_cost"):
        await model.map(prompts, concurrency=16, max_cost=0.025)
    assert len(model.asked) == 3  # "boom" told nothing


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_prompts_that_cannot_be_read_on_end_the_run_with_what_there_is(
    tmp_path: Path, concurrency: int
) -> None:
    def prompts() -> Any:
        yield from "abc"
        raise ValueError("the file is broken")

    model, file = Echo(), tmp_path / "run.jsonl"
    problem = "reading the prompts failed behind 3 rows: ValueError: the file is broken"
    with pytest.raises(BatchError, match=problem) as ended:
        await model.map(prompts(), journal=file, concurrency=concurrency)
    assert [row.text for row in ended.value.finished] == ["A", "B", "C"]
    assert isinstance(ended.value.__cause__, ValueError)
    with Journal(file) as journal:
        assert len(journal.entries) == 3


async def test_a_prompt_that_cannot_be_read_fails_alone() -> None:
    class Odd:
        def __iter__(self) -> Any:
            raise RuntimeError("no")

    odd = [None, float("nan"), b"x", 5, Odd(), range(10**12), [], {}, object, "\ud83d", "x" * 10**6]
    rows = await Echo().map([*odd, [{"role": "user", "content": "ok"}]], max_failures=1)
    assert all(row.error.startswith("InvalidOptionError: prompt") for row in rows[:9])
    assert [len(row.text) for row in rows[9:]] == [1, 10**6, 2]


async def test_a_run_without_end_ends_at_its_limit() -> None:
    model = Echo()
    with pytest.raises(BatchError, match="because 20 of them failed: 20 times InvalidOption"):
        await model.map(itertools.count(), max_total_tokens=50)
    with pytest.raises(BatchError, match="could exceed max_total_tokens") as ended:
        await model.map(map(str, itertools.count()), max_total_tokens=50)
    assert len(ended.value.finished) == len(model.asked) == 10


async def test_tokens_are_reserved_before_they_are_spent() -> None:
    model = Echo()
    with pytest.raises(BatchError, match="could exceed max_total_tokens"):
        await model.map(map(str, range(1000)), concurrency=4, max_total_tokens=50)
    assert 1 < len(model.asked) <= 50


async def test_the_first_rows_are_done_before_any_other_is_asked() -> None:
    model = Echo()
    async for row in model.map(map(str, range(40)), concurrency=8, first=5):
        if row.index < 5:
            assert len(model.asked) <= 5
    assert len(model.asked) == 40


async def test_a_run_is_one_thing_to_watch_and_to_stop() -> None:
    model = Echo()
    rows = await model.map([str(number) for number in range(12)], title="letters")
    records = model._activity._history.records()
    runs = {record.run for record in records}
    assert len(rows) == len(records) == 12
    (run,) = runs
    assert run is not None
    assert (run.title, run.words) == ("letters", "12 of 12 rows")
    await model.generate("alone")
    assert model._activity._history.records()[-1].run is None


async def test_a_journal_is_gone_on_from(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    model = Echo()
    prompts = ["a", "boom", "c"]
    first = await model.map(prompts, journal=file, max_failures=1)
    again = await model.map([*prompts, "d"], journal=file, max_failures=1)
    assert sorted(model.asked) == ["a", "boom", "boom", "c", "d"]
    assert [row.resumed for row in again] == [True, False, True, False]
    assert [row.text for row in first] == [row.text for row in again[:3]]
    assert again[0].result is not None
    assert again[0].result.usage.prompt_tokens == 3
    kept = await model.map(prompts, journal=file, max_failures=1, retry_failed=False)
    assert kept[1].resumed
    assert len(model.asked) == 5
    await model.map(["a"], journal=file, temperature=0.5)
    assert len(model.asked) == 6  # another request


@pytest.mark.parametrize("cut", [1, 7, 40, 100])
async def test_a_line_in_pieces_is_passed_over(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "run.jsonl"
    model = Echo()
    await model.map(["a", "b"], journal=file)
    file.write_bytes(file.read_bytes()[:-cut])
    rows = await model.map(["a", "b"], journal=file)
    assert [row.text for row in rows] == ["A", "B"]
    with Journal(file) as journal:
        assert sorted(entry.text for entry in journal.entries.values()) == ["A", "B"]


def test_a_journal_has_one_run_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with Journal(file) as journal:
        journal.add("k" * 9, Entry(text="\ud83d", model="m"))
        code = "import pathlib, sys; from nbllm.batches.journal import Journal; "
        code += "Journal(pathlib.Path(sys.argv[1]))"
        other = [sys.executable, "-c", code, str(file)]
        done = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "is in use by another run; wait for it, or stop it" in done.stderr
    with Journal(file) as journal:
        assert journal.entries["k" * 9].text == "\ud83d"


async def test_equal_rows_that_may_differ_are_each_kept(tmp_path: Path) -> None:
    file, model = tmp_path / "run.jsonl", Echo()
    for wanted in (3, 5):
        rows = await model.map(["a"] * wanted, journal=file, temperature=0.7, concurrency=1)
        assert len(model.asked) == wanted
        assert not any(row.repeated for row in rows)
    assert [row.resumed for row in rows] == [True] * 3 + [False] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be deleted there")
async def test_a_journal_that_is_deleted_meanwhile_is_written_again(tmp_path: Path) -> None:
    file, model = tmp_path / "run.jsonl", Echo()
    await model.map(["a", "b"], journal=file)
    async for row in model.map(["a", "b", "c", "d"], journal=file, concurrency=1):
        if row.index == 2:
            file.unlink()
    rows = await model.map(["a", "b", "c", "d"], journal=file)
    assert all(row.resumed for row in rows)
    assert [row.text for row in rows] == ["A", "B", "C", "D"]
    assert beside(file) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be replaced there")
async def test_a_journal_that_is_replaced_meanwhile_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with Journal(file) as journal:
        file.unlink()
        file.write_text("mine")
        with pytest.raises(BatchError, match="was replaced by another file while the run wrote"):
            journal.note({"batch": "x"})
    assert file.read_text() == "mine"


async def test_a_journal_that_cannot_be_written_on_ends_the_run_with_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Journal.add

    def full(self: Journal, key: str, entry: Entry) -> None:
        if len(self.entries) == 3:
            raise BatchError(f"{self.path} cannot be written: No space left on device")
        added(self, key, entry)

    monkeypatch.setattr(Journal, "add", full)
    model, file = Echo(), tmp_path / "run.jsonl"
    with pytest.raises(BatchError, match="No space left on device") as ended:
        await model.map([*"abcdefgh"], journal=file, concurrency=1)
    assert [row.text for row in ended.value.finished] == ["A", "B", "C", "D"]
    assert model.asked == [*"abcd"]


def beside(file: Path) -> list[Path]:
    return [path for path in file.parent.iterdir() if path != file]


async def test_a_journal_is_little_more_than_its_texts(tmp_path: Path) -> None:
    file, model = tmp_path / "run.jsonl", Echo()
    prompts = [f"A text of the length that answers have: {number:04}. " * 4 for number in range(50)]
    rows = await model.map(prompts, journal=file)
    assert [row.text for row in rows] == [prompt.strip().upper() for prompt in prompts]
    texts = sum(len(row.text.encode()) for row in rows)
    assert file.stat().st_size < 1.1 * texts
    assert beside(file) == []  # no lock is left
    again = await model.map(prompts, journal=file)
    assert [row.text for row in again] == [row.text for row in rows]
    assert all(row.resumed for row in again)


ENTRIES = [
    Entry(text="plain", model="one"),
    Entry(text="", model="one", finish_reason=FinishReason.LENGTH, prompt_tokens=0),
    Entry(text="dear", model="two", completion_tokens=7, cost_usd=1.25e-5),
    Entry(text='{"a": "\u2028\n"}', model="one", prompt_tokens=3, cached_tokens=2),
    Entry(model="two", label_probabilities=((0.25, 0.75), (1.0,))),
    Entry(error="ServerError: it broke"),
]


def test_what_a_journal_keeps_is_read_again_as_it_was(tmp_path: Path) -> None:
    for number, entry in enumerate(ENTRIES):
        with Journal(tmp_path / "run.jsonl") as journal:  # each opened again behind the others
            journal.add(f"{number:09}", entry)
    with Journal(tmp_path / "run.jsonl") as journal:
        assert journal.entries == {f"{n:09}": entry for n, entry in enumerate(ENTRIES)}


def test_equal_requests_have_other_names_in_another_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl") as one, Journal(tmp_path / "b.jsonl") as other:
        names = {one.key("request"), one.key("request"), one.key("r"), other.key("request")}
        first = one.key("request")
    assert len(names) == 3
    with Journal(tmp_path / "a.jsonl") as again:
        assert again.key("request") == first


@pytest.mark.parametrize(
    "line",
    [
        "",
        "short",
        "ninechars",
        "ninechars5",
        "ninechars'text'",
        'ninechars"text',
        'ninechars"text"5',
        'ninechars"text""more"',
        'nineeuro€"text"',
        'ninechars"three"three',
        'ninecharsthree"text"',
        'ninechars1,2,3,4"text"',
        'ninechars1,,3"text"',
        'ninechars[1]"text"',
        'ninechars{"error":1}',
        'ninechars{"error":"torn',
        'ninechars{"finish_reason":"length"}',
        'ninechars{"finish_reason":"odd"}"text"',
        'ninechars{"label_probabilities":5}"text"',
        'ninechars1e999"text"',
        'ninechars{"a":' + "[" * 100_000,
        '{"model": 5}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_none_of_its_own_says_nothing(tmp_path: Path, line: str) -> None:
    file = tmp_path / "run.jsonl"
    with Journal(file) as journal:
        journal.add("a" * 9, Entry(text="A"))
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
    with Journal(file) as journal:
        assert list(journal.entries) == ["a" * 9]


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_row_is_whole_or_none(tmp_path: Path, entry: Entry) -> None:
    file = tmp_path / "run.jsonl"
    with Journal(file):
        head = file.read_bytes()
    with Journal(file) as journal:
        journal.add("k" * 9, entry)
    row = file.read_bytes()
    kept = row.rindex(b"\n", 0, -1) + 1  # behind the line that names the model
    for cut in range(kept, len(row)):
        file.write_bytes(row[:cut])
        with Journal(file) as journal:
            found = journal.entries.get("k" * 9)
            assert found == (entry if cut == len(row) - 1 else None)
    assert row.startswith(head)


@pytest.mark.parametrize("version", ["1", "2", "4", '"x"', "null"])
def test_a_journal_of_another_version_is_refused_as_such(tmp_path: Path, version: str) -> None:
    file = tmp_path / "run.jsonl"
    old = f'{{"nbllm":"batch","version":{version}}}\n{{"key":"k","text":"t"}}\n'
    file.write_text(old)
    with pytest.raises(BatchError, match="a journal of another version of nbllm"), Journal(file):
        pass
    assert file.read_text() == old


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    for text in ("important\n", "important", '{"nbllm":"batch","version":3}\n'):
        file.write_text(text)
        with pytest.raises(BatchError, match=r"mine\.txt is not a journal of nbllm"), Journal(file):
            pass
        assert file.read_text() == text
    with pytest.raises(BatchError, match="cannot be written"), Journal(tmp_path / "no" / "x"):
        pass


KILLED = """
import asyncio, pathlib, sys
sys.path.insert(0, {folder!r})
from test_run import Echo

class Slow(Echo):
    async def _events(self, request):
        print(request.messages[-1].text, flush=True)
        await asyncio.sleep(0.002)
        async for event in super()._events(request):
            yield event

asyncio.run(Slow().map(map(str, range(500)), journal={file!r}, concurrency=4)._all())
"""


def killed_after(lines: int, file: Path) -> list[bytes]:
    """What a run had asked that was killed when it had asked so much."""
    code = KILLED.format(folder=str(Path(__file__).parent), file=str(file))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        assert run.stdout is not None
        asked = [run.stdout.readline() for _ in range(lines)]
        run.kill()
        return [*asked, *run.stdout.readlines()]


@pytest.mark.parametrize("lines", [3, 60, 200])
async def test_a_run_that_is_killed_loses_no_finished_row(tmp_path: Path, lines: int) -> None:
    file = tmp_path / "run.jsonl"
    asked = killed_after(lines, file)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(file.read_bytes())
    with Journal(copy) as kept:
        finished = [*kept.entries]
    assert len(asked) - 4 <= len(finished) + 1
    model = Echo()
    rows = await model.map(map(str, range(500)), journal=file, concurrency=4)
    assert [row.text for row in rows] == [str(n) for n in range(500)]
    assert len(model.asked) == 500 - len(finished)


async def aiter_of(prompts: str) -> AsyncGenerator[str, None]:
    for prompt in prompts:
        yield prompt


@pytest.mark.parametrize(
    ("prompts", "settings", "problem"),
    [
        ("text", {}, "prompts must be a list of prompts"),
        (5, {}, "prompts must be a list of prompts"),
        (aiter_of("ab"), {}, r"iterable; collect them first, as in \[each async for"),
        (["a"], {"concurrency": 0}, "concurrency must be between 1 and 1,000"),
        (["a"], {"concurrency": 1.5}, "concurrency must be an integer"),
        (["a"], {"max_failures": 2}, "max_failures must be between 0 and 1"),
        (["a"], {"temprature": 1}, "temprature: unknown option"),
    ],
)
async def test_what_cannot_be_is_refused(prompts: Any, settings: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        await Echo().map(prompts, **settings)


async def test_leaving_a_run_ends_it() -> None:
    model = Echo()
    async for row in run_batch(model, map(str, range(1000)), RunSettings(concurrency=3)):
        if row.index == 5:
            break
    for _ in range(5):
        await asyncio.sleep(0)
    assert model.running == 0


async def test_the_real_model_answers_all(tmp_path: Path) -> None:
    async with ModelManager(folder=tmp_path) as manager:
        model, _ = await manager.load_model("SmolLM2", context_length=2048)
        rows = await model.map(
            [f"What is the capital of {name}?" for name in ("France", "Italy", "Norway", "Spain")],
            max_tokens=16,
            temperature=0,
        )
    assert all(row.text and not row.error for row in rows)
    assert {row.result.finish_reason for row in rows if row.result} <= {"stop", "length"}
