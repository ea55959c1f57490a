"""Budgets hold on the wire: what a server was asked for at most, and billed, stays within them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.budgets.budget import Amount, Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.errors import BudgetError, NbllmError
from nbllm.core.types import GenerationResult, ImagePart, Message, TextPart


def limited(model: Any, *budgets: Budget, **settings: Any) -> Budgets:
    made = Budgets(budgets, **settings)
    model.spend_from(made)
    return made


class Billing:
    """A server that fails now and then, and counts all that it worked, heard or not."""

    def __init__(self, say: Callable[..., list[str]]) -> None:
        self.say, self.billed, self.requests = say, 0, 0
        self.chance = random.Random(7)

    async def __call__(self, request: Any, connection: Any) -> None:
        if request.method == "GET":  # its list of models
            await connection.answer(404)
            return
        self.requests += 1
        chance = self.chance.random()
        if chance < 0.15:
            await connection.answer(503, {"error": {"message": "overloaded"}})
            return
        words = self.chance.randrange(1, request.json["max_tokens"] + 1)
        self.billed += 7 + words
        await asyncio.sleep(self.chance.random() * 0.02)
        events = self.say(*(" w" for _ in range(words)))
        if chance < 0.25:
            await connection.stream(*events[: words // 2 + 1], end=False)
            connection.drop()
            return
        await connection.stream(*events)


@pytest.mark.parametrize("together", [16, 200])
async def test_what_a_server_billed_is_never_more(
    raw_server: Any, make_model: Any, say: Callable[..., list[str]], together: int
) -> None:
    server_side = Billing(say)
    async with raw_server(server_side) as server:
        model = make_model(server.url, "openai-compatible")
        budgets = limited(model, Budget(tokens=2_000, requests=150))
        asked = [model.generate("Hi", max_tokens=20) for _ in range(together)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(each, GenerationResult | NbllmError) for each in outcomes)
    (status,) = budgets.statuses()
    assert server_side.billed <= status.spent.tokens <= 2_000
    assert server_side.requests == status.spent.requests <= 150
    assert status.reserved == Amount()
    if together > 16:
        assert any(isinstance(each, BudgetError) for each in outcomes)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "extra": {"n": 3}}, 15),
        ({"max_tokens": 5, "extra": {"max_completion_tokens": 50}}, 50),
        ({"extra": {"max_tokens": 40, "n": 2}}, 80),
    ],
)
async def test_what_extra_asks_for_counts(
    raw_server: Any, make_model: Any, say: Any, options: dict[str, Any], most: int
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("x"))

    async with raw_server(script) as server:
        model = make_model(server.url)
        bound = await model.usage_bound(model.request("Hi", **options))
        assert bound.completion_tokens == most
        budgets = limited(model, Budget(tokens=most - 1))
        with pytest.raises(BudgetError):
            await model.generate("Hi", **options)
        assert server.received == []
        budgets.set(Budget(tokens=most + (bound.prompt_tokens or 0)))
        await model.generate("Hi", **options)
        assert budgets.statuses()[0].spent == Amount(0, 8, 1)


async def test_an_answer_without_a_limit_is_sent_with_what_is_left(
    raw_server: Any, make_model: Any, say: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("x"))

    async with raw_server(script) as server:
        model = make_model(server.url, "openai-compatible")
        bound = await model.usage_bound(model.request("Hi"))
        limited(model, Budget(tokens=1_000))
        await model.generate("Hi")
        await model.generate("Hi", extra={"n": 2})
        limits = [each.json["max_tokens"] for each in server.received if each.method == "POST"]
        assert limits[0] == 1_000 - bound.prompt_tokens
        assert 2 * limits[1] <= 1_000 - 8 - bound.prompt_tokens < 2 * limits[1] + 20
        with pytest.raises(BudgetError, match="extra takes the limit"):
            await model.generate("Hi", extra={"max_tokens": None})


async def test_images_count_as_images_and_not_as_their_bytes(make_model: Any) -> None:
    model = make_model("http://127.0.0.1:9")
    picture = ImagePart(data=bytes(3_000_000))
    turn = Message("user", (TextPart("What is it?"), picture))
    bound = await model.usage_bound(model.request([turn]))
    assert 6_000 < (bound.prompt_tokens or 0) < 7_000


async def test_a_prompt_whose_bytes_are_too_many_is_counted(
    raw_server: Any, make_model: Any
) -> None:
    message = {
        "role": "assistant",
        "content": [{"type": "text", "text": "Yes."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 90, "output_tokens": 3},
    }

    async def script(request: Any, connection: Any) -> None:
        counts = request.path.endswith("count_tokens")
        await connection.answer(200, {"input_tokens": 90} if counts else message)

    async with raw_server(script) as server:
        model = make_model(server.url, "anthropic")
        budgets = limited(model, Budget(tokens=250))
        await model.generate("word " * 200, max_tokens=50)
        assert len(server.received) == 2
        assert budgets.statuses()[0].spent == Amount(0, 93, 1)
        with pytest.raises(BudgetError, match="up to 107 prompt tokens"):
            await model.generate("word " * 200, max_tokens=60)


async def test_money_is_counted_by_the_table_and_survives_the_kernel(
    raw_server: Any, make_model: Any, say: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("one", "two"))

    async with raw_server(script) as server:
        host = server.url.removeprefix("http://")
        prices = {"date": "today", "models": {host: {"m": {"input": 10, "output": 100}}}}
        (tmp_path / "prices.json").write_text(json.dumps(prices))
        monkeypatch.setenv("NBLLM_PRICES", str(tmp_path / "prices.json"))
        model = make_model(server.url, "openai-compatible")
        limited(model, Budget(usd=0.01, per="day"), file=tmp_path / "spent.json")
        result = await model.generate("Hi", max_tokens=20)
        assert result.usage.cost_usd == pytest.approx((7 * 10 + 2 * 100) / 1e6)
        later = Budgets(Budget(usd=0.01, per="day"), file=tmp_path / "spent.json")
        assert later.statuses()[0].spent == Amount(270_000_000, 9, 1)
        with pytest.raises(BudgetError, match=r"today's budget of \$0.01 has \$0.00973 left"):
            await model.generate("Hi", max_tokens=100)


async def test_a_server_that_is_not_there_costs_nothing(make_model: Any) -> None:
    model = make_model("http://127.0.0.1:9", "openai-compatible")
    budgets = limited(model, Budget(tokens=10_000))
    with pytest.raises(NbllmError):
        await model.generate("Hi", max_tokens=20, max_retry_seconds=0)
    assert budgets.statuses()[0].spent == Amount()
