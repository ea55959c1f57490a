"""What a budget reserves for a local model is never less than what the model then takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nbllm.core.budgets.budget import Amount, Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.errors import BudgetError
from nbllm.core.types import GenerationResult, Tool
from nbllm.local.llama_cpp_model import LlamaCppModel

PROMPT = "Wähle ein 🐈-Wort <|im_end|> 日本語 for the n."
TOOL = Tool(
    "lookup", "Looks up a word.", {"type": "object", "properties": {"w": {"type": "string"}}}
)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_tokens": 8},
        {"raw": True},
        {"tools": (TOOL,)},
        {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        {"system": "Be brief.", "max_tokens": 5, "on_full": "shift"},
    ],
)
async def test_of_a_request(model: LlamaCppModel, settings: dict[str, Any]) -> None:
    bound = await model.usage_bound(model.request(PROMPT, **settings))
    result = await model.generate(PROMPT, **{"max_tokens": 8, **settings})
    assert (result.usage.prompt_tokens or 0) <= (bound.prompt_tokens or 0)
    assert (result.usage.completion_tokens or 0) <= (bound.completion_tokens or 0)
    if not settings.get("tools"):
        assert bound.prompt_tokens == result.usage.prompt_tokens


async def test_of_a_decision(model: LlamaCppModel) -> None:
    decide = {"team": ["red", "blue", "a colour of another kind"], "urgent": bool}
    budgets = Budgets(Budget(tokens=10_000))
    model.spend_from(budgets)
    try:
        result = await model.decide(PROMPT, decide)
        took = result.usage.prompt_tokens or 0
        assert budgets.statuses()[0].spent == Amount(0, took, 1)
        budgets.set(Budget(tokens=took + 10))
        with pytest.raises(BudgetError) as caught:
            await model.decide(PROMPT, decide)
        assert (caught.value.needed or 0) >= took
    finally:
        budgets.remove()


async def test_sixteen_at_once_stay_within_it(model: LlamaCppModel) -> None:
    budgets = Budgets(Budget(tokens=300))
    model.spend_from(budgets)
    try:
        asked = [model.generate(f"Count to {n}.", max_tokens=12, seed=n) for n in range(16)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        answers = [each for each in outcomes if isinstance(each, GenerationResult)]
        assert all(isinstance(each, GenerationResult | BudgetError) for each in outcomes)
        taken = [each.usage.total_tokens or 0 for each in answers]
        assert sum(taken) == budgets.statuses()[0].spent.tokens <= 300
        assert 0 < len(taken) < 16
    finally:
        budgets.remove()
