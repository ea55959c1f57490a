"""Answers that depend on nothing but their own request, to the last bit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import ModelLoadError
from nbllm.core.types import GenerationResult
from nbllm.local.llama_cpp_model import LlamaCppModel

Load = Callable[..., LlamaCppModel]

RULES = "You answer in the style of a ship's log. " + "Each entry has its date and place. " * 8
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "logprobs": 2}


@pytest.fixture(scope="module")
def models(tiny_models: dict[str, Path], short_gguf: Path) -> dict[str, Path]:
    return {**tiny_models, "short": short_gguf}


def numbers(result: GenerationResult) -> Any:
    return result.text, result.logprobs


def mixed_questions(count: int, filler: str) -> list[dict[str, Any]]:
    source = random.Random(7)
    questions = []
    for number in range(count):
        before = filler * source.choice((0, 0, 1, 5))
        asked: dict[str, Any] = {"prompt": f"{before}What do you know of number {number % 9}?"}
        if source.random() < 0.3:
            asked |= {"prompt": f"Day {number}: where are we?", "system": RULES}
        questions.append(asked)
    return questions


@pytest.mark.parametrize(
    ("name", "context", "count"), [("llama-q8_0", 1024, 24), ("short", 256, 6)]
)
async def test_mixed_requests_with_cancels_have_the_numbers_of_each_alone(
    name: str, context: int, count: int, models: dict[str, Path], load: Load
) -> None:
    """In a context so small that cells are emptied, packed and read again all the time."""
    path = models[name]
    model = load(path, context_length=context, batch_invariant=True, threads=2)
    questions = mixed_questions(count, "Some words to read first. " * (context // 256))
    tasks = [asyncio.create_task(model.generate(**each, **GREEDY)) for each in questions]
    for number in range(3, len(tasks), 5):
        await asyncio.sleep(0.05)
        tasks[number].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    whole = [
        (question, result)
        for question, result in zip(questions, results, strict=True)
        if isinstance(result, GenerationResult)
    ]
    assert len(whole) >= count * 3 // 4
    alone = load(path, context_length=context, batch_invariant=True, parallel=1)
    for question, result in whole:
        assert numbers(await alone.generate(**question, **GREEDY)) == numbers(result)


async def test_guessing_changes_no_number_of_a_long_context(
    load: Load, models: dict[str, Path]
) -> None:
    model = load(models["llama-q8_0"], context_length=2048, batch_invariant=True)
    notes = "".join(f"Note {n}: the fox ate {n * 7} apples and {n * 3} pears.\n" for n in range(28))
    asked = {"prompt": f"{notes}Repeat the notes.", "temperature": 0, "max_tokens": 200}
    plain = await model.generate(**asked, logprobs=0, prompt_lookup=False)
    guessed = await model.generate(**asked, logprobs=0)
    assert plain.usage.prompt_tokens > 512
    assert guessed.usage.accepted_draft_tokens > 0
    assert numbers(guessed) == numbers(plain)


async def test_a_prefix_that_was_packed_or_kept_in_memory_gives_the_same_numbers(
    load: Load, short_gguf: Path
) -> None:
    model = load(
        short_gguf, context_length=256, parallel=2, batch_invariant=True, prefix_cache_mib=64
    )
    asked = {"prompt": "Where are we?", "system": RULES}
    fresh = await model.generate(**asked, **GREEDY)
    await asyncio.gather(*(model.generate(f"{n} " * 60, **GREEDY) for n in range(3)))
    again = await model.generate(**asked, **GREEDY)
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert numbers(again) == numbers(fresh)


@pytest.mark.parametrize("name", ["mamba", "gemma2"])
def test_a_memory_that_does_not_stay_is_refused(
    name: str, tiny_models: dict[str, Path], load: Load
) -> None:
    with pytest.raises(ModelLoadError, match="load it without batch_invariant"):
        load(tiny_models[name], batch_invariant=True)


async def test_a_quantization_is_taken_only_if_its_numbers_hold(
    tiny_models: dict[str, Path], load: Load
) -> None:
    """Which kernels a processor uses for F16 decides whether that is the case."""
    try:
        model = load(tiny_models["mistral"], batch_invariant=True)
    except ModelLoadError as refusal:
        if "Q4_0, Q4_1 or Q8_0" in str(refusal):
            return
        raise
    asked = [f"{n}" for n in range(6)]
    together = await asyncio.gather(*(model.generate(prompt, **GREEDY) for prompt in asked))
    for prompt, result in zip(asked, together, strict=True):
        assert numbers(await model.generate(prompt, **GREEDY)) == numbers(result)
