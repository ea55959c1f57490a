"""Budgets are never exceeded, by whoever asks how often, and say what they had left."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from nbllm import ModelManager
from nbllm.core.budgets.books import Hold, KernelBook
from nbllm.core.budgets.budget import NOTHING, Amount, Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.errors import (
    ApiConnectionError,
    ApiTimeoutError,
    BudgetError,
    ContextLengthError,
    InterruptedStreamError,
    InvalidOptionError,
    RateLimitError,
    UnsupportedError,
)
from nbllm.core.generation import Generation
from nbllm.core.layers.retry import Retry, RetryPolicy
from nbllm.core.openers import LoadControl
from nbllm.core.routing.router_settings import RouterMember, RouterSettings
from nbllm.core.types import (
    BudgetWait,
    Completed,
    Event,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
    Usage,
)
from nbllm.testing import FakeModel, FakeOpener, fake_info

TEN_WORDS = "a b c d e f g h i j"
PROMPT = "one two three"


class Priced(FakeModel):
    """Of a vendor: a dollar for each token; it counts how many tokens it gave at once."""

    def highest_cost(self, usage: Usage) -> float | None:
        return float((usage.prompt_tokens or 0) + (usage.completion_tokens or 0))


def spending(*budgets: Budget, model: type[FakeModel] = FakeModel, **settings: Any) -> Any:
    kept = Budgets(budgets, **{k: settings.pop(k) for k in ("file", "clock") if k in settings})
    made = model(settings.pop("info", None), text=settings.pop("text", TEN_WORDS), **settings)
    made.spend_from(kept)
    return made, kept


async def test_what_a_request_took_is_counted() -> None:
    model, budgets = spending(Budget(tokens=100, requests=5))
    await model.generate(PROMPT, max_tokens=50)
    (status,) = budgets.statuses()
    assert status.spent == Amount(0, 13, 1)
    assert status.reserved == NOTHING


@pytest.mark.parametrize("together", [16, 200])
async def test_many_at_once_never_exceed_it_by_a_token(together: int) -> None:
    model, budgets = spending(Budget(tokens=150), token_seconds=1e-4)
    asked = [model.generate(PROMPT, max_tokens=10) for _ in range(together)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    answered = [each for each in outcomes if isinstance(each, GenerationResult)]
    assert len(answered) == 11  # 13 tokens each, and never a part of a request
    assert all(isinstance(each, BudgetError | GenerationResult) for each in outcomes)
    assert budgets.statuses()[0].spent == Amount(0, 143, 11)


async def test_a_request_waits_where_others_may_take_less_than_they_have_reserved() -> None:
    model, budgets = spending(Budget(tokens=200), token_seconds=1e-3)
    asked = [model.generate(PROMPT, max_tokens=100) for _ in range(7)]
    results = await asyncio.gather(*asked)
    assert len(results) == 7
    assert budgets.statuses()[0].spent == Amount(0, 91, 7)


async def test_a_wait_names_the_budget_until_it_is_over() -> None:
    model, _ = spending(Budget(tokens=200, model="fake"), token_seconds=1e-3)
    first = model.stream(PROMPT, max_tokens=100)
    await anext(first)
    generation = Generation()
    second = model.stream(PROMPT, max_tokens=100, generation=generation)
    assert await anext(second) == BudgetWait("this kernel's budget for fake")
    assert generation.budget == "this kernel's budget for fake"
    async for _ in first:
        pass
    assert await anext(second) == BudgetWait("")
    assert generation.budget == ""
    events = [event async for event in second]
    assert isinstance(events[-1], Completed)
    assert not any(isinstance(event, BudgetWait) for event in events)


async def test_a_reader_who_leaves_while_it_waits_leaves_nothing_reserved() -> None:
    model, budgets = spending(Budget(tokens=200), token_seconds=1e-3)
    first = model.stream(PROMPT, max_tokens=100)
    await anext(first)
    async with aclosing(model.stream(PROMPT, max_tokens=100)) as second:
        await anext(second)
    async for _ in first:
        pass
    assert budgets.statuses()[0].reserved == NOTHING


async def test_a_request_that_waited_is_still_sent_again_where_it_fails() -> None:
    async def following(_: GenerationRequest) -> AsyncIterator[Event]:
        attempts.append(1)
        yield BudgetWait("today's budget")
        if len(attempts) == 1:
            raise RateLimitError("fake", "busy", retryable=True)
        yield Completed(result)

    attempts: list[int] = []
    model, _ = spending()
    result = await model.generate(PROMPT)
    retry = Retry(RetryPolicy(first_delay=0))
    events = [event async for event in retry(model.requests[0], following)]
    assert len(attempts) == 2
    assert isinstance(events[-1], Completed)


async def test_the_wait_has_an_end() -> None:
    model, budgets = spending(Budget(tokens=200), token_seconds=0.05)
    budgets.wait_seconds = 0.02
    async with aclosing(model.stream(PROMPT, max_tokens=100)) as events:
        await anext(events)
        with pytest.raises(BudgetError, match="103 tokens being reserved by requests under way"):
            await model.generate(PROMPT, max_tokens=100)


async def test_the_error_says_what_was_left_and_what_to_do() -> None:
    model, _ = spending(Budget(tokens=20))
    with pytest.raises(BudgetError) as caught:
        await model.generate(PROMPT, max_tokens=1000)
    assert str(caught.value) == (
        "fake: this kernel's budget of 20 tokens has 20 tokens left; this request could take 1,003 "
        "tokens (up to 3 prompt tokens and 1,000 for the answer). Nothing was sent. Lower "
        "max_tokens or raise the budget (%llm_budget, manager.budgets.set)."
    )
    error = caught.value
    assert (error.unit, error.left, error.needed) == ("tokens", 20, 1003)
    assert model.requests == []


async def test_an_answer_without_a_limit_gets_what_is_left() -> None:
    model, budgets = spending(Budget(tokens=20), text=TEN_WORDS * 4)
    result = await model.generate(PROMPT)
    assert result.finish_reason is FinishReason.LENGTH
    assert result.notes == (
        "this kernel's budget limited the answer to 17 tokens; max_tokens sets another limit",
    )
    assert budgets.statuses()[0].spent == Amount(0, 20, 1)
    with pytest.raises(BudgetError, match="has 0 tokens left"):
        await model.generate(PROMPT)


async def test_money_counts_as_the_price_says() -> None:
    model, budgets = spending(Budget(usd=40), model=Priced)
    await model.generate(PROMPT, max_tokens=10)
    assert budgets.statuses()[0].spent.dollars == 13
    with pytest.raises(BudgetError, match=r"\$40.00 has \$27.00 left; this .* take \$103.00"):
        await model.generate(PROMPT, max_tokens=100)
    result = await model.generate(PROMPT)  # which states no limit
    assert result.usage.completion_tokens == 10
    assert budgets.statuses()[0].spent.dollars == 26
    with pytest.raises(BudgetError, match=r"take \$19.00 \(up to 3 .* and 16 for the answer\)"):
        await model.generate(PROMPT)


async def test_an_unknown_price_is_refused_or_counts_as_stated() -> None:
    vendor = fake_info("new", local=False, model_type="openai")
    model, budgets = spending(Budget(usd=1), info=vendor)
    with pytest.raises(BudgetError, match="price of this model is not known"):
        await model.generate(PROMPT, max_tokens=10)
    assert model.requests == []
    budgets.set(Budget(usd=1, unknown=1000))
    await model.generate(PROMPT, max_tokens=10)
    assert budgets.statuses()[0].spent.dollars == pytest.approx(0.013)
    budgets.set(Budget(usd=1, unknown=0))
    await model.generate(PROMPT, max_tokens=10)
    assert budgets.statuses()[0].spent.dollars == pytest.approx(0.013)


async def test_local_models_are_free() -> None:
    model, budgets = spending(Budget(usd=0))
    await model.generate(PROMPT)
    assert budgets.statuses()[0].spent == Amount(0, 13, 1)


async def test_a_stopped_answer_counts_as_far_as_it_came() -> None:
    model, budgets = spending(Budget(tokens=1000))
    stream = model.stream(PROMPT, max_tokens=100)
    async for _ in stream:
        break
    await stream.aclose()
    assert budgets.statuses()[0].spent == Amount(0, 4, 1)
    assert budgets.statuses()[0].reserved == NOTHING


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (RateLimitError("m", "slow down", status=429), Amount(0, 0, 1)),
        (ApiConnectionError("m", "nobody is there", was_sent=False), Amount(0, 0, 0)),
        (ApiTimeoutError("m", "no first token"), Amount(0, 53, 1)),
        (InterruptedStreamError("m", "broken", partial_text="a"), Amount(0, 53, 1)),
        (ContextLengthError("m", "too long"), Amount(0, 0, 1)),
        (UnsupportedError("m", "no such option"), Amount(0, 0, 0)),
        (RuntimeError("broken"), Amount(0, 3, 1)),
    ],
)
async def test_a_failure_counts_as_what_it_may_have_cost(error: Exception, spent: Amount) -> None:
    model, budgets = spending(Budget(tokens=1000), error=error)
    with pytest.raises(type(error)):
        await model.generate(PROMPT, max_tokens=50)
    assert budgets.statuses()[0].spent == spent
    assert budgets.statuses()[0].reserved == NOTHING


class Flaky(FakeModel):
    """Its first two requests end without a word that anybody hears."""

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        if len(self.requests) < 2:
            self.requests.append(request)
            raise ApiTimeoutError("m", "no first token", retryable=True)
        async for event in super()._events(request):
            yield event


async def test_every_attempt_counts() -> None:
    model, budgets = spending(Budget(tokens=1000), model=Flaky)
    model.add_layers(Retry(RetryPolicy(first_delay=0)))
    await model.generate(PROMPT, max_tokens=50)
    assert budgets.statuses()[0].spent == Amount(0, 2 * 53 + 13, 3)


async def test_no_attempt_is_made_that_the_budget_does_not_allow() -> None:
    model, _ = spending(Budget(requests=2), model=Flaky)
    model.add_layers(Retry(RetryPolicy(first_delay=0)))
    with pytest.raises(BudgetError, match="budget of 2 requests has 0 requests left"):
        await model.generate(PROMPT, max_tokens=50)
    assert len(model.requests) == 2


async def test_an_answer_from_the_cache_costs_nothing() -> None:
    manager = ModelManager(
        [fake_info("m")], open_model=FakeOpener(), cache=True, budgets=Budget(requests=1)
    )
    async with manager:
        model, _ = await manager.load_model("m")
        for _ in range(3):
            await model.generate("Hi", temperature=0)
        assert manager.budgets.statuses()[0].spent.requests == 1


async def test_embeddings_count_too() -> None:
    model, budgets = spending(Budget(tokens=100, requests=1))
    await model.embed(["some words"])
    assert budgets.statuses()[0].spent.requests == 1
    with pytest.raises(BudgetError):
        await model.embed(["some more"])


class Ranker(FakeModel):
    """Reads each document behind the query, a token a word."""

    async def _rerank(self, query: str, documents: list[str]) -> tuple[tuple[float, ...], Usage]:
        read = sum(len(f"{query} {each}".split()) for each in documents)
        return tuple(float(len(each)) for each in documents), Usage(prompt_tokens=read)


async def test_what_a_reranker_reads_counts_too() -> None:
    model, budgets = spending(Budget(tokens=5_000, requests=2), model=Ranker)
    assert await model.rerank("which one", ["a b", "c"]) == (3.0, 1.0)
    assert budgets.statuses()[0].spent == Amount(0, 7, 1)
    assert await model.rerank("which one", []) == ()
    assert budgets.statuses()[0].spent.requests == 1
    with pytest.raises(BudgetError, match="tokens"):
        await model.rerank("x" * 3_000, ["a", "b"])
    await model.rerank("which", ["a"])
    with pytest.raises(BudgetError, match="requests"):
        await model.rerank("which", ["a"])


async def test_a_model_that_ranks_nothing_spends_nothing() -> None:
    model, budgets = spending(Budget(tokens=5_000))
    with pytest.raises(UnsupportedError, match="not a reranker"):
        await model.rerank("which", ["a"])
    assert budgets.statuses()[0].spent == budgets.statuses()[0].reserved == NOTHING


async def test_budgets_are_for_models_by_any_of_their_names() -> None:
    info = fake_info("mine", local=False, model_type="openai", model="gpt-4o-2024")
    model, budgets = spending(Budget(requests=1, model="GPT-4o*"), Budget(requests=9), info=info)
    await model.generate(PROMPT, max_tokens=5)
    with pytest.raises(BudgetError, match=r"this kernel's budget for GPT-4o\*"):
        await model.generate(PROMPT, max_tokens=5)
    assert [each.spent.requests for each in budgets.statuses()] == [1, 1]
    assert [each.reserved for each in budgets.statuses()] == [NOTHING, NOTHING]
    other = FakeModel(fake_info("else"))
    other.spend_from(budgets)
    await other.generate(PROMPT)


def test_limits_for_the_same_are_put_together() -> None:
    budgets = Budgets([Budget(tokens=5, usd=1, unknown=2), Budget(requests=6), Budget(tokens=7)])
    assert budgets.chosen() == [Budget(usd=1, tokens=7, requests=6, unknown=2)]
    budgets.set(Budget(usd=3))
    assert budgets.chosen() == [Budget(usd=3, tokens=7, requests=6)]


def test_a_limit_is_replaced_by_one_for_the_same() -> None:
    budgets = Budgets([Budget(usd=1), Budget(tokens=5, per="day"), Budget(usd=2, model="a")])
    budgets.set(Budget(usd=3))
    assert [each.usd for each in budgets.chosen()] == [3, None, 2]
    assert budgets.remove(model="A") == [Budget(usd=2, model="a")]
    assert budgets.remove(per="day") == [Budget(tokens=5, per="day")]
    assert len(budgets.remove()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs a limit"),
        ({"usd": -1}, "usd must be"),
        ({"usd": float("nan")}, "usd must be"),
        ({"usd": "5"}, "usd must be a number"),
        ({"tokens": 1.5}, "tokens must be an integer"),
        ({"requests": True}, "requests must be an integer"),
        ({"usd": 1, "per": "week"}, "per must be kernel or day"),
        ({"usd": 1, "model": " "}, "model must be a model's name"),
        ({"usd": 1, "unknown": "free"}, "unknown must be"),
        ({"usd": 1, "unknown": -1}, "unknown must be"),
        ({"usd": 1, "dollars": 2}, "budget has no key 'dollars'"),
    ],
)
def test_what_cannot_be_a_budget_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        Budgets(fields)


def test_threads_with_loops_of_their_own_keep_it_too() -> None:
    model, budgets = spending(Budget(tokens=600, requests=60), token_seconds=1e-4)
    outcomes: list[object] = []

    async def some(chance: random.Random) -> None:
        async def one() -> GenerationResult:
            answer: GenerationResult = await model.generate(
                PROMPT, max_tokens=chance.randrange(1, 20)
            )
            return answer

        tasks = [asyncio.ensure_future(one()) for _ in range(40)]
        await asyncio.sleep(0.002)
        for task in chance.sample(tasks, 10):
            task.cancel()
        outcomes.extend(await asyncio.gather(*tasks, return_exceptions=True))

    threads = [
        threading.Thread(target=asyncio.run, args=(some(random.Random(number)),))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (status,) = budgets.statuses()
    answers = [each for each in outcomes if isinstance(each, GenerationResult)]
    taken = sum(each.usage.total_tokens or 0 for each in answers)
    assert taken <= status.spent.tokens <= 600
    assert len(answers) <= status.spent.requests <= 60
    assert status.reserved == NOTHING
    assert len(outcomes) == 160


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX alone forks")
def test_a_forked_child_has_no_reservations_of_the_parent() -> None:
    book, budget = KernelBook(), Budget(tokens=200)
    hold = book.reserve(budget, Amount(0, 100, 1))
    assert isinstance(hold, Hold)
    child = os.fork()
    if child == 0:
        hold.settle(NOTHING)  # as a generator does that is collected there
        os._exit(0 if book.standing("*").reserved == NOTHING else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert book.standing("*").reserved == Amount(0, 100, 1)


def test_a_config_entry_has_a_budget_of_its_own(tmp_path: Path) -> None:
    entry = '{"name": "m", "model_type": "openai", "local": false, "budgets": {"usd": 2.5}}'
    (tmp_path / "models.json").write_text(entry)
    manager = ModelManager.from_config(tmp_path / "models.json", budgets=Budget(requests=3))
    assert manager.budgets.chosen() == [Budget(requests=3), Budget(usd=2.5, model="m")]
    manager.save_config(tmp_path / "again.json")
    again = ModelManager.from_config(tmp_path / "again.json")
    assert again.budgets.chosen() == [Budget(usd=2.5, model="m")]
    assert '"model": "m"' not in (tmp_path / "again.json").read_text()


async def test_what_a_router_spends_is_its_members_and_counts_once() -> None:
    refusal = ApiTimeoutError("a", "no first token", retryable=True)

    def open_fake(info: ModelInfo, control: LoadControl) -> FakeModel:
        return FakeModel(info, text="Yes.", error=refusal if info.name == "a" else None)

    settings = RouterSettings(
        members=(RouterMember("a"), RouterMember("b")), strategy="in-order", fallback=("timeout",)
    )
    router = fake_info("r", local=False, model_type="router", router=settings, context_length=None)
    manager = ModelManager(
        [fake_info("a"), fake_info("b"), router],
        open_model=open_fake,
        budgets=[Budget(requests=9, tokens=500), Budget(requests=1, model="b")],
    )
    async with manager:
        model, _ = await manager.load_model("r")
        await model.generate(PROMPT, max_tokens=20)
        every, only_b = (status.spent for status in manager.budgets.statuses())
        assert (every, only_b) == (Amount(0, 23 + 4, 2), Amount(0, 4, 1))
        with pytest.raises(BudgetError, match="this kernel's budget for b"):
            await model.generate(PROMPT, max_tokens=20)
