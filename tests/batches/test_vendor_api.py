"""Runs through the vendors' batch APIs, against loopback servers of their three protocols."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nbllm import GenerationOptions
from nbllm.batches.journal import Journal
from nbllm.batches.vendor_api import sender, vendor_run, watch
from nbllm.cloud.cloud_model import CloudModel, unchecked_model
from nbllm.core.api_keys import PERMISSIONS_VARIABLE
from nbllm.core.budgets.budget import NOTHING, Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.errors import BatchError, InvalidOptionError, UnsupportedError
from nbllm.core.history import GenerationLog
from nbllm.core.layers.activity import Activity
from nbllm.core.types import ModelInfo
from nbllm.testing import FakeModel

from .vendor_servers import Anthropic, Gemini, OpenAI, OpenAIResponses, Refusal, Server

MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}
PROMPTS = ["one", "two", "three", "four", "five"]
ANSWERS = [prompt.upper() for prompt in PROMPTS]


@pytest.fixture(params=[OpenAI, Anthropic, Gemini], ids=lambda kind: str(kind.model_type))
def vendor(request: pytest.FixtureRequest) -> Server:
    made: Server = request.param()
    return made


@pytest.fixture
async def model(vendor: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CloudModel]:
    monkeypatch.setenv("BATCH_TEST_KEY", "test-key")
    for module, name in ((watch, "_FIRST_PAUSE"), (sender, "_LOOK_PAUSE")):
        monkeypatch.setattr(module, name, 0.01)
    for each in (sender, vendor_run):
        monkeypatch.setattr(each, "_FIRST_DELAY", 0.01)
    with vendor.running() as url:
        monkeypatch.setenv(PERMISSIONS_VARIABLE, f"BATCH_TEST_KEY@{url.removesuffix('/v1')}")
        model = unchecked_model(info_of(vendor, url))
        yield model
        await model.aclose()


def info_of(vendor: Server, url: str) -> ModelInfo:
    return ModelInfo(
        name=MODELS[vendor.model_type],
        model_type=vendor.model_type,
        local=False,
        base_url=url,
        api_key_env="BATCH_TEST_KEY",
        api=vendor.api,
        options=GenerationOptions(max_tokens=100, max_retry_seconds=0.01),
    )


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


async def until_looked_at(vendor: Server) -> None:
    for _ in range(1000):
        if any(batch.looks for batch in vendor.batches.values()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no batch was looked at")


async def test_every_row_has_its_own_answer(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    batch = model.map(PROMPTS, batch_api=True, journal=journal)
    states: list[str] = []
    batch.on_state = lambda: states.append(batch.progress.vendor_state)
    rows = await batch
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert [row.text for row in rows] == ANSWERS
    assert len(vendor.batches) == 1
    assert any(" of 5 rows done, since " in state for state in states)
    assert any("sending 5 rows" in state for state in states)


@pytest.mark.parametrize("vendor", [OpenAIResponses], indirect=True)
async def test_openai_s_other_api_is_sent_to_its_own_endpoint(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.fate = lambda prompt: "failed" if prompt == "two" else ""
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ["ONE", "", "THREE", "FOUR", "FIVE"]
    assert "bad row two" in rows[1].error


async def test_a_second_run_asks_nothing(model: CloudModel, vendor: Server, journal: Path) -> None:
    await model.map(PROMPTS, batch_api=True, journal=journal)
    before = len(vendor.seen)
    again = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in again] == ANSWERS
    assert all(row.resumed for row in again)
    assert len(vendor.seen) == before


async def test_failed_rows_have_the_vendor_s_reason_and_are_retried(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.fate = lambda prompt: "failed" if prompt in ("two", "five") else ""
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [bool(row.error) for row in rows] == [False, True, False, False, True]
    assert "bad row two" in rows[1].error
    assert rows[1].error.startswith("BadRequestError")
    kept = await model.map(PROMPTS, batch_api=True, journal=journal, retry_failed=False)
    assert kept[4].error == rows[4].error
    vendor.fate = lambda prompt: ""
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ANSWERS
    assert vendor.prompts == {"one": 1, "two": 2, "three": 1, "four": 1, "five": 2}


async def test_what_expired_is_told_and_can_be_sent_again(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.expires = True
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ["ONE", "", "THREE", "", "FIVE"]
    assert "expired" in rows[1].error
    vendor.expires = False
    assert [r.text for r in await model.map(PROMPTS, batch_api=True, journal=journal)] == ANSWERS


async def test_rows_without_a_result_are_told_and_strays_are_ignored(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.fate = lambda prompt: "lost" if prompt == "four" else ""
    vendor.extra_lines = b'not json\n\n[]\n{"custom_id": "unknown", "response": {"body": {}}}\n'
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ["ONE", "TWO", "THREE", "", "FIVE"]
    assert "not among the results" in rows[3].error


async def test_a_batch_that_is_refused_as_a_whole_is_told_in_its_rows(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    if vendor.model_type == "anthropic":
        pytest.skip("its batches fail row by row")
    vendor.fails_whole = "the file is odd"
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert all("did not accept the batch" in row.error for row in rows)
    assert all("the file is odd" in row.error for row in rows)


async def test_results_that_are_gone_are_told_and_asked_for_anew(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    if vendor.model_type == "gemini":
        pytest.skip("its results are part of the batch")

    def trap(method: str, path: str, after: bool) -> None:
        if path.endswith(("/content", "/results")):
            raise Refusal(404, "no such file")

    vendor.trap = trap
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert all("are not kept any more" in row.error for row in rows)
    vendor.trap = lambda *_: None
    assert [r.text for r in await model.map(PROMPTS, batch_api=True, journal=journal)] == ANSWERS


async def test_another_key_is_told_and_nothing_is_sent_again(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.polls = 10**9
    task = asyncio.ensure_future(model.map(PROMPTS, batch_api=True, journal=journal)._all())
    await until_looked_at(vendor)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    batches, vendor.batches = vendor.batches, {}  # those of another account are not seen
    with pytest.raises(BatchError, match="with the key that it was sent with"):
        await model.map(PROMPTS, batch_api=True, journal=journal)
    assert not vendor.batches
    vendor.batches, vendor.polls = batches, 1
    assert [r.text for r in await model.map(PROMPTS, batch_api=True, journal=journal)] == ANSWERS


async def test_results_that_break_off_are_read_again(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.cut_results = 2
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ANSWERS
    assert len(vendor.batches) == 1


async def test_a_run_is_split_where_the_vendor_s_limits_are(
    model: CloudModel, vendor: Server, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = model.vendor_batches()
    api.most_rows = 2  # type: ignore[misc]
    monkeypatch.setattr(model, "vendor_batches", lambda: api)
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ANSWERS
    assert sorted(len(batch.rows) for batch in vendor.batches.values()) == [1, 2, 2]
    size = len(api.row("k" * 64, model.request("a" * 100)).data)
    api.most_bytes = 2 * size + 2  # type: ignore[misc]
    api.most_rows = 100  # type: ignore[misc]
    prompts = [letter * 100 for letter in "abcde"]
    rows = await model.map([*prompts, "x" * 10_000], batch_api=True, journal=journal)
    assert [row.text for row in rows[:5]] == [prompt.upper() for prompt in prompts]
    assert "too large for a batch" in rows[5].error
    assert sorted(len(batch.rows) for batch in vendor.batches.values()) == [1, 1, 2, 2, 2, 2]


async def test_equal_rows_are_sent_once_where_their_answers_are_alike(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    prompts = ["same", "other", "same"]
    rows = await model.map(prompts, batch_api=True, journal=journal, temperature=0)
    assert [row.text for row in rows] == ["SAME", "OTHER", "SAME"]
    assert [row.repeated for row in rows] == [False, False, True]
    assert vendor.prompts == {"same": 1, "other": 1}
    other = journal.with_name("other.jsonl")
    rows = await model.map(prompts, batch_api=True, journal=other)
    assert [row.text for row in rows] == ["SAME", "OTHER", "SAME"]
    assert vendor.prompts == {"same": 3, "other": 2}


async def test_a_row_that_is_told_twice_keeps_its_first_answer(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.repeats = True
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ANSWERS
    with Journal(journal) as kept:
        assert len(kept.entries) == 5


async def test_a_schema_makes_values_of_the_answers(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.text_of = lambda prompt: json.dumps({"city": prompt})  # type: ignore[method-assign]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    for _ in range(2):  # the second time from the journal
        rows = await model.map(["Rome", "Oslo"], batch_api=True, journal=journal, schema=schema)
        assert [row.result.value for row in rows if row.result] == [
            {"city": "Rome"},
            {"city": "Oslo"},
        ]
    (batch,) = vendor.batches.values()
    assert all('"properties"' in json.dumps(row) for row in batch.rows.values())


def urgency(prompt: str) -> str:
    return json.dumps({"urgent": "yes" if prompt.startswith("now") else "no"})


async def test_labels_are_chosen_by_batches_too(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.text_of = urgency  # type: ignore[method-assign]
    decide = {"urgent": bool}
    for _ in range(2):  # the second time from the journal
        rows = await model.map(["now", "later"], batch_api=True, journal=journal, decide=decide)
        values = [row.result.value for row in rows if row.result]
        assert values == [{"urgent": True}, {"urgent": False}]
    assert len(vendor.batches) == 1


# ------------------------------------------------------------ sent once


def creation(vendor: Server) -> str:
    return {"openai": "/v1/batches", "anthropic": "/v1/messages/batches"}.get(
        vendor.model_type, "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
    )


@pytest.mark.parametrize("is_carried_out", [False, True])
async def test_a_creation_that_breaks_off_is_not_repeated_blindly(
    model: CloudModel, vendor: Server, journal: Path, *, is_carried_out: bool
) -> None:
    broken: list[str] = []

    def trap(method: str, path: str, after: bool) -> None:
        is_it = method == "POST" and path == creation(vendor) and after == is_carried_out
        if is_it and not broken:
            broken.append(path)
            raise ConnectionError

    vendor.trap = trap
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert broken
    assert [row.text for row in rows] == ANSWERS
    assert len(vendor.batches) == 1


async def test_a_rate_limit_is_waited_for(model: CloudModel, vendor: Server, journal: Path) -> None:
    refused: list[str] = []

    def trap(method: str, path: str, after: bool) -> None:
        if path == creation(vendor) and method == "POST" and not after and len(refused) < 2:
            refused.append(path)
            raise Refusal(429, "slow down", retry_after="0.01")

    vendor.trap = trap
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ANSWERS
    assert len(refused) == 2
    assert len(vendor.batches) == 1


async def test_a_refusal_ends_the_run_and_the_next_one_sends(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    def trap(method: str, path: str, after: bool) -> None:
        if path == creation(vendor) and method == "POST" and not after:
            raise Refusal(400, "this model cannot be batched")

    vendor.trap = trap
    with pytest.raises(BatchError, match="cannot be batched"):
        await model.map(PROMPTS, batch_api=True, journal=journal)
    vendor.trap = lambda *_: None
    assert [r.text for r in await model.map(PROMPTS, batch_api=True, journal=journal)] == ANSWERS
    assert len(vendor.batches) == 1


async def test_a_vendor_out_of_reach_during_the_wait_is_asked_again(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    cut: list[str] = []

    def trap(method: str, path: str, after: bool) -> None:
        if method == "GET" and not after and len(cut) < 3:
            cut.append(path)
            raise ConnectionError

    vendor.trap = trap
    assert [r.text for r in await model.map(PROMPTS, batch_api=True, journal=journal)] == ANSWERS
    assert len(cut) == 3


async def test_an_interrupted_run_is_taken_up_with_more_rows(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.polls = 10**9
    task = asyncio.ensure_future(model.map(PROMPTS, batch_api=True, journal=journal)._all())
    await until_looked_at(vendor)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(batch.ending for batch in vendor.batches.values())
    with pytest.raises(BatchError, match="5 rows that were sent to a vendor's batch API"):
        await model.map(PROMPTS, journal=journal)
    vendor.polls = 2
    rows = await model.map([*PROMPTS, "six"], batch_api=True, journal=journal)
    assert [row.text for row in rows] == [*ANSWERS, "SIX"]
    assert set(vendor.prompts.values()) == {1}


# ------------------------------------------------------------ cancelling


async def test_cancel_keeps_what_is_done(model: CloudModel, vendor: Server, journal: Path) -> None:
    vendor.polls = 10**9
    batch = model.map(PROMPTS, batch_api=True, journal=journal)
    task = asyncio.ensure_future(batch._all())
    await until_looked_at(vendor)
    await batch.cancel()
    rows = await task
    assert [row.text for row in rows] == ["ONE", "", "THREE", "", "FIVE"]
    assert "cancelled" in rows[1].error
    vendor.polls = 2
    rows = await model.map(PROMPTS, batch_api=True, journal=journal)
    assert [row.text for row in rows] == ANSWERS
    assert vendor.prompts == {"one": 1, "two": 2, "three": 1, "four": 2, "five": 1}


async def test_cancel_after_an_interrupt_and_of_what_is_over(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    vendor.polls = 10**9
    task = asyncio.ensure_future(model.map(PROMPTS, batch_api=True, journal=journal)._all())
    await until_looked_at(vendor)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await model.map(PROMPTS, batch_api=True, journal=journal).cancel()
    assert [batch.ending for batch in vendor.batches.values()] == ["cancelled"]
    await model.map(PROMPTS, batch_api=True, journal=journal).cancel()
    assert len(vendor.batches) == 1


# ------------------------------------------------------------ seen elsewhere


async def test_a_run_is_listed_while_it_lasts_and_its_rows_are_recorded(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    history = GenerationLog()
    activity = Activity(history)
    model.report_to(activity)
    vendor.polls = 10**9
    vendor.fate = lambda prompt: "failed" if prompt == "two" else ""
    batch = model.map(PROMPTS, batch_api=True, journal=journal, title="five rows")
    task = asyncio.ensure_future(batch._all())
    await until_looked_at(vendor)
    (listed,) = activity.running()
    assert listed.run is not None
    assert (listed.run.title, listed.run.total) == ("five rows", 5)
    vendor.polls = 1
    await task
    assert not activity.running()
    records = history.records()
    assert {record.run for record in records} == {listed.run}
    assert sum(record.usage.completion_tokens or 0 for record in records) == 4 * 500
    assert [record.error for record in records if record.error] == ["BadRequestError"]
    assert (listed.run.done, listed.run.failed) == (5, 1)
    await model.map(PROMPTS, batch_api=True, journal=journal, retry_failed=False)
    assert len(history.records()) == 5


async def test_a_run_that_is_stopped_where_it_is_listed_leaves_the_vendor_working(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    activity = Activity(GenerationLog())
    model.report_to(activity)
    vendor.polls = 10**9
    task = asyncio.ensure_future(model.map(PROMPTS, batch_api=True, journal=journal)._all())
    await until_looked_at(vendor)
    run = activity.running()[0].run
    assert run is not None
    run.stop()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not activity.running()
    assert [batch.ending for batch in vendor.batches.values()] == [""]


# ------------------------------------------------------------ refusals and defaults


def test_a_model_without_a_batch_api_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"fake.*no batch API"):
        FakeModel().map(["a"], batch_api=True)


def test_a_server_of_a_vendor_s_protocol_has_none() -> None:
    info = ModelInfo(name="m", model_type="vllm", local=False, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(UnsupportedError, match=r"m: .*no batch API"):
        unchecked_model(info).map(["a"], batch_api=True)


def test_the_vendor_decides_on_the_concurrency(model: CloudModel, journal: Path) -> None:
    with pytest.raises(InvalidOptionError, match="cannot be combined with batch_api"):
        model.map(["a"], batch_api=True, journal=journal, concurrency=3)


async def test_options_of_local_models_fail_their_rows(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    rows = await model.map(["a"], batch_api=True, journal=journal, raw=True)
    assert "only local models support raw" in rows[0].error
    assert not vendor.batches


# ------------------------------------------------------------ money


@pytest.fixture
async def priced(
    model: CloudModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CloudModel]:
    """The model with a price: 2 US dollars for a million tokens of a prompt, 8 of an answer."""
    seller = str(model.info.base_url).removeprefix("http://").removesuffix("/v1")
    table = {seller: {model.name: {"input": 2.0, "output": 8.0}}}
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"date": "2026-01-01", "models": table}))
    monkeypatch.setenv("NBLLM_PRICES", str(prices))
    priced = unchecked_model(model.info)
    yield priced
    await priced.aclose()


async def test_the_price_is_half_of_the_table_s(priced: CloudModel, journal: Path) -> None:
    batch = priced.map(["one", "two"], batch_api=True, journal=journal)
    rows = await batch
    costs = [row.result.usage.cost_usd for row in rows if row.result]
    half = (1000 * 2.0 + 500 * 8.0) / 1_000_000 / 2
    assert costs == [pytest.approx(half)] * 2
    assert batch.progress.cost_usd == pytest.approx(2 * half)


async def test_max_cost_is_kept_before_anything_is_sent(
    priced: CloudModel, vendor: Server, journal: Path
) -> None:
    with pytest.raises(BatchError, match=r"nothing was sent: 5 rows could cost up to 0\.00"):
        await priced.map(PROMPTS, batch_api=True, journal=journal, max_cost=0.001)
    assert not vendor.seen
    rows = await priced.map(PROMPTS, batch_api=True, journal=journal, max_cost=0.1)
    assert [row.text for row in rows] == ANSWERS


async def test_max_cost_needs_a_price(model: CloudModel, vendor: Server, journal: Path) -> None:
    with pytest.raises(BatchError, match=r"what .* may cost is not known"):
        await model.map(PROMPTS, batch_api=True, journal=journal, max_cost=1)
    assert not vendor.seen


async def test_budgets_hold_for_batches(priced: CloudModel, vendor: Server, journal: Path) -> None:
    budgets = Budgets([Budget(usd=0.02), Budget(requests=7, model=priced.name)], wait_seconds=0)
    priced.spend_from(budgets)
    await priced.map(PROMPTS, batch_api=True, journal=journal)
    spent = {status.budget.name: status.spent for status in budgets.statuses()}
    assert [(each.usd, each.requests) for each in spent.values()] == [(15 * 10**9, 5), (0, 5)]
    assert all(status.reserved == NOTHING for status in budgets.statuses())
    with pytest.raises(BatchError, match="has 2 requests left"):
        await priced.map(["a", "b", "c"], batch_api=True, journal=journal)
    assert len(vendor.batches) == 1
    assert all(status.reserved == NOTHING for status in budgets.statuses())


async def test_what_is_at_the_vendor_stays_reserved(
    priced: CloudModel, vendor: Server, journal: Path
) -> None:
    budgets = Budgets([Budget(requests=7)], wait_seconds=0)
    priced.spend_from(budgets)
    vendor.polls = 10**9
    task = asyncio.ensure_future(priced.map(PROMPTS, batch_api=True, journal=journal)._all())
    await until_looked_at(vendor)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert budgets.statuses()[0].reserved.requests == 5
    vendor.polls = 1
    await priced.map(PROMPTS, batch_api=True, journal=journal)
    status = budgets.statuses()[0]
    assert (status.reserved.requests, status.spent.requests) == (0, 5)


async def test_without_a_journal_one_is_kept_beside_the_notebook(
    model: CloudModel, vendor: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await model.map(["one"], batch_api=True, system="Be short.")
    await model.map(["one", "two"], batch_api=True, system="Be short.")
    assert vendor.prompts == {"one": 1, "two": 1}
    assert journals_in(tmp_path) == 1


def journals_in(folder: Path) -> int:
    return len([*folder.glob("nbllm-batch-*.jsonl")])


# ------------------------------------------------------------ kill -9

CHILD = """
import asyncio, json, sys
from nbllm import GenerationOptions
from nbllm.batches.vendor_api import sender, watch
from nbllm.cloud.cloud_model import unchecked_model
from nbllm.core.types import ModelInfo
watch._FIRST_PAUSE = sender._LOOK_PAUSE = 0.05
info, journal, prompts = json.loads(sys.argv[1])
info["options"] = GenerationOptions(max_tokens=100, max_retry_seconds=0.01)
rows = asyncio.run(unchecked_model(ModelInfo(**info)).map(
    prompts, batch_api=True, journal=journal)._all())
print(json.dumps([row.text for row in rows]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGKILL")
def test_no_row_is_sent_twice_or_lost_wherever_the_process_is_killed(
    model: CloudModel, vendor: Server, journal: Path
) -> None:
    given = {name: getattr(model.info, name) for name in _GIVEN}
    command = [sys.executable, "-c", CHILD, json.dumps([given, str(journal), PROMPTS])]
    running: list[subprocess.Popen[str]] = []
    points = _points(vendor)

    def trap(method: str, path: str, after: bool) -> None:
        if points and points[0](method, path, after):
            running[-1].send_signal(signal.SIGKILL)
            running[-1].wait()
            points.pop(0)
            if len(points) == 4:
                raise ConnectionError  # the first time it does not even arrive

    vendor.trap = trap
    for _ in range(8):
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        out, _ = running[-1].communicate()
        if running[-1].returncode == 0:
            break
    assert not points
    assert json.loads(out) == ANSWERS
    assert vendor.prompts == dict.fromkeys(PROMPTS, 1)


_GIVEN = ("name", "model_type", "local", "base_url", "api_key_env")


def _points(vendor: Server) -> list[Callable[[str, str, bool], bool]]:
    """Moments to kill at, one after another, in runs that follow one another.

    Before the creation arrives, before its answer is sent, in the look for what was created, in
    the wait, and at the results.
    """
    create = ("POST", creation(vendor))
    results = ("/content", "/results", "batches/0")
    return [
        lambda method, path, after: (method, path, after) == (*create, False),
        lambda method, path, after: (method, path, after) == (*create, True),
        lambda method, path, after: method == "GET" and path.endswith("/batches"),
        lambda method, path, after: method == "GET" and path.endswith(("_0", "/0")),
        lambda method, path, after: method == "GET" and path.endswith(results),
    ]
