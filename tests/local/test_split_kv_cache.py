"""Answers that have a share of the context each (``kv_unified`` turned off)."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import ContextLengthError
from nbllm.core.types import TextDelta
from nbllm.local.llama_cpp_model import LlamaCppModel

PARALLEL, SHARE = 8, 256
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
WORDS = ("sea", "car", "bread", "moon", "cats", "rain", "clock", "train", "snow", "glass", "chess")
RULES = "rules " * 12
ROUNDED = 3  # of the texts may go another way: batches of other sizes round differently


@pytest.fixture(scope="module", params=["gemma2", "mamba"])
def both(request: Any, load: Any, tiny_models: dict[str, Path]) -> list[LlamaCppModel]:
    """A tiny model with a split KV cache, and the same with one sequence."""
    path = tiny_models[request.param]
    shares = load(path, context_length=PARALLEL * SHARE, parallel=PARALLEL, kv_unified=False)
    return [shares, load(path, context_length=SHARE, parallel=1)]


def prompt_of(number: int, beginning: str = "") -> str:
    words = random.Random(number).choices(WORDS, k=6 + number % 9)
    return f"{beginning}{number} {' '.join(words)}"


async def text_of(model: LlamaCppModel, prompt: str, tokens: int) -> str:
    return (await model.generate(prompt, max_tokens=tokens, **GREEDY)).text


async def differing(both: list[LlamaCppModel], asked: list[tuple[str, int]]) -> int:
    """How many texts differ between all at a time in the one and one at a time in the other."""
    split, alone = both
    together = await asyncio.gather(*(text_of(split, *each) for each in asked))
    single = [await text_of(alone, *each) for each in asked]
    return sum(a != b for a, b in zip(together, single, strict=True))


async def test_answers_that_end_at_different_times_are_those_of_each_alone(
    both: list[LlamaCppModel],
) -> None:
    asked = [(prompt_of(number), 3 + 11 * (number % 5)) for number in range(14)]
    assert await differing(both, asked) <= ROUNDED


async def test_a_common_beginning_is_read_once_and_copied(both: list[LlamaCppModel]) -> None:
    asked = [(prompt_of(number, RULES), 16) for number in range(10)]
    assert await differing(both, asked) <= ROUNDED
    if both[0].info.model_type != "mamba":
        result = await both[0].generate(prompt_of(3, RULES), max_tokens=1)
        assert (result.usage.cached_tokens or 0) > 50


async def test_a_cancelled_answer_leaves_its_slot_as_good_as_new(
    both: list[LlamaCppModel],
) -> None:
    async def broken_off(number: int) -> None:
        async with aclosing(both[0].stream(prompt_of(number), **GREEDY)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    return

    await asyncio.gather(*map(broken_off, range(PARALLEL)))
    asked = [(prompt_of(number), 8 + 3 * number) for number in range(PARALLEL)]
    assert await differing(both, asked) <= ROUNDED


async def test_each_request_has_its_share_and_no_more(both: list[LlamaCppModel]) -> None:
    split, _ = both
    assert split.info.context_length == SHARE
    with pytest.raises(ContextLengthError) as caught:
        await split.generate("word " * SHARE)
    assert caught.value.context_length == SHARE
    full = await asyncio.gather(*(split.generate(prompt_of(n), **GREEDY) for n in range(PARALLEL)))
    assert all(result.usage.total_tokens == SHARE for result in full), "all of them, at a time"
