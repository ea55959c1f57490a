"""Many requests on the real engine: what they share, who goes first, and where a context ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import EngineBusyError, InvalidOptionError
from nbllm.core.types import Completed, FinishReason, GenerationResult, Message, TextDelta
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.local.scheduling.request_queue import QUEUE_LIMIT

Load = Callable[..., LlamaCppModel]

STORY = "Tell me a long story about a fox."
RULES = "You answer in the style of a ship's log. " + "Each entry has its date and place. " * 8
NOTES = [
    f"Note {n}: the {animal} ate {n * 7} apples.\n"
    for n, animal in enumerate(["fox", "owl", "bear", "hare", "wolf"])
]
COPY = "Repeat these notes exactly:\n" + "".join(NOTES)


@pytest.fixture
def load_tiny(load: Load, tiny_models: dict[str, Path]) -> Load:
    """For what depends on the engine alone: a model that computes thousands of tokens a second."""
    return partial(load, tiny_models["llama-q8_0"])


@pytest.fixture
def load_short(load: Load, short_gguf: Path) -> Load:
    """For what depends on its tokens too, and not on the sense of what it writes."""
    return partial(load, short_gguf)


def new_tokens(results: list[GenerationResult]) -> int:
    """Tokens of prompts that had to be read."""
    return sum(result.usage.prompt_tokens - result.usage.cached_tokens for result in results)


async def until_first_text(model: LlamaCppModel, prompt: str, **options: Any) -> AsyncIterator[str]:
    """A stream that is being written."""
    async with aclosing(model.stream(prompt, **options)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                yield event.text


# -------------------------------------------------------------------------------- sharing prompts


async def test_a_prompt_found_in_the_context_gives_the_numbers_of_one_read_afresh(
    load: Load,
) -> None:
    model, options = load(), {"temperature": 0, "max_tokens": 12, "logprobs": 5}
    fresh = await model.generate(STORY, system=RULES, **options)
    again = await model.generate(STORY, system=RULES, **options)
    assert (fresh.usage.cached_tokens, again.usage.cached_tokens > 80) == (0, True)
    assert again.logprobs == fresh.logprobs


async def test_another_question_under_the_same_rules_gives_the_numbers_of_one_read_afresh(
    load_short: Load,
) -> None:
    options = {"system": RULES, "temperature": 0, "max_tokens": 1, "logprobs": 20}
    fresh = await load_short().generate("Where are we?", **options)
    warm = load_short()
    await warm.generate(STORY, **options)
    shared = await warm.generate("Where are we?", **options)
    assert shared.usage.cached_tokens > 70 > fresh.usage.cached_tokens
    # The pieces in which the prompt is read differ, and with them the last bits.
    ours, theirs = ({t.data: t.logprob for t in r.logprobs[0].top} for r in (shared, fresh))
    common = ours.keys() & theirs.keys()
    assert len(common) >= 15
    assert max(abs(ours[token] - theirs[token]) for token in common) < 0.5


async def test_several_answers_to_a_prompt_read_it_once(load_short: Load) -> None:
    model = load_short()
    results = await model.generate_many(STORY, 4, system=RULES, seed=11, max_tokens=10)
    assert len({result.text for result in results}) == 4
    assert [result.seed for result in results] == [11, 12, 13, 14]
    assert new_tokens(results) < 1.3 * results[0].usage.prompt_tokens
    alone = await model.generate(STORY, system=RULES, seed=13, max_tokens=10)
    assert alone.text[:20] == results[2].text[:20]
    with pytest.raises(InvalidOptionError, match="must be an integer between 1 and"):
        await model.generate_many(STORY, 0)


async def test_questions_that_come_at_once_read_their_common_rules_once(
    load_tiny: Load,
) -> None:
    questions = [f"What happened on day {day}?" for day in range(8)]
    model = load_tiny()
    asked = (model.generate(q, system=RULES, max_tokens=3) for q in questions)
    results = list(await asyncio.gather(*asked))
    assert new_tokens(results) < 2 * results[0].usage.prompt_tokens


async def test_where_a_reader_leaves_the_next_reads_on_for_all_that_wait(load_tiny: Load) -> None:
    model = load_tiny(context_length=4096)
    tasks = [asyncio.create_task(model.generate(COPY * 16, max_tokens=3)) for _ in range(4)]
    await asyncio.sleep(0.1)
    tasks[0].cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks[1:]), 60)
    length = results[0].usage.prompt_tokens
    assert length > 3000, "no two of them have room beside one another"
    assert new_tokens(results) < length + 10


async def test_requests_that_have_no_room_beside_one_another_all_end(load_tiny: Load) -> None:
    model = load_tiny(context_length=2048)
    prompts = [COPY * 8, COPY * 8, STORY * 35, COPY * 7 + STORY]
    options: dict[str, Any] = {"max_tokens": 3, "ignore_eos": True}
    tasks = [
        asyncio.create_task(
            model.generate(prompt, priority=("background", "interactive")[place % 2], **options)
        )
        for place, prompt in enumerate(prompts * 2)
    ]
    await asyncio.sleep(0.1)
    tasks[1].cancel()
    results = await asyncio.wait_for(asyncio.gather(tasks[0], *tasks[2:]), 120)
    assert all(result.usage.completion_tokens == 3 for result in results)


async def test_prompts_that_left_the_context_are_kept_if_there_is_memory_for_them(
    load_short: Load,
) -> None:
    model = load_short(parallel=1, prefix_cache_mib=64)
    first = await model.generate(STORY, system=RULES, temperature=0, max_tokens=8, logprobs=0)
    other = await model.generate(COPY, temperature=0, max_tokens=8)
    again = await model.generate(STORY, system=RULES, temperature=0, max_tokens=8, logprobs=0)
    assert other.usage.cached_tokens < 20
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert again.logprobs == first.logprobs


async def test_a_kept_prompt_comes_back_where_others_fill_the_context(load_tiny: Load) -> None:
    model = load_tiny(context_length=512, parallel=2, prefix_cache_mib=64)
    await model.generate(STORY, system=RULES, max_tokens=8)
    others = [model.generate(f"{n} " * 100, max_tokens=8) for n in range(3)]
    await asyncio.gather(*others)
    again = await model.generate(STORY, system=RULES, max_tokens=8)
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1


async def test_without_memory_for_them_they_are_read_again(load_tiny: Load) -> None:
    model = load_tiny(parallel=1)
    await model.generate(STORY, system=RULES, max_tokens=2)
    await model.generate(COPY, max_tokens=2)
    again = await model.generate(STORY, system=RULES, max_tokens=2)
    assert again.usage.cached_tokens < 20


# -------------------------------------------------------------------------------- guessing


async def test_guessing_changes_no_greedy_answer(load_short: Load) -> None:
    model = load_short(context_length=512)
    options = {"temperature": 0, "max_tokens": 32}
    plain = await model.generate(COPY, prompt_lookup=False, **options)
    guessed = await model.generate(COPY, **options)
    assert guessed.usage.accepted_draft_tokens > 0
    assert guessed.text == plain.text
    assert guessed.usage.completion_tokens == plain.usage.completion_tokens


@pytest.mark.parametrize("options", [{}, {"repeat_penalty": 1.1}, {"stop": "Note 3"}])
async def test_guessing_changes_no_answer_that_is_drawn(
    short_model: LlamaCppModel, options: dict[str, Any]
) -> None:
    options |= {"seed": 3, "temperature": 0.5, "max_tokens": 24, "logprobs": 1}
    plain = await short_model.generate(COPY, prompt_lookup=False, **options)
    guessed = await short_model.generate(COPY, **options)
    assert guessed.text == plain.text
    assert len(guessed.logprobs) == guessed.usage.completion_tokens
    assert guessed.raw_finish_reason == plain.raw_finish_reason


# -------------------------------------------------------------------------------- order


async def test_an_interactive_question_does_not_wait_for_background_ones(
    load_tiny: Load,
) -> None:
    model, begun = load_tiny(parallel=2), asyncio.Event()

    async def write(number: int) -> int:
        options: dict[str, Any] = {"max_tokens": 100, "temperature": 0, "ignore_eos": True}
        async for event in model.stream(f"{STORY} {number}", priority="background", **options):
            begun.set()
            if isinstance(event, Completed):
                return event.result.usage.completion_tokens
        raise AssertionError

    background = [asyncio.create_task(write(number)) for number in range(6)]
    await begun.wait()
    asked = await model.generate("Hi", max_tokens=5)
    unfinished = sum(not task.done() for task in background)
    assert asked.text
    assert unfinished >= 4, "one place is kept free for interactive questions"
    assert await asyncio.gather(*background) == [100] * 6


async def test_background_answers_go_on_beside_interactive_ones(load_tiny: Load) -> None:
    model = load_tiny(parallel=3)
    background = asyncio.create_task(
        model.generate(STORY, priority="background", max_tokens=15, temperature=0)
    )
    stream = until_first_text(model, "Count to a thousand.", max_tokens=700, ignore_eos=True)
    async with aclosing(stream) as texts:  # type: ignore[type-var]
        async for _ in texts:
            if background.done():
                break
        assert background.done(), "it was starved"


async def test_a_short_prompt_does_not_wait_for_a_long_one(load_tiny: Load) -> None:
    model = load_tiny(context_length=4096)
    long = asyncio.create_task(model.generate(COPY * 16, max_tokens=1))
    short = asyncio.create_task(model.generate("Hi", max_tokens=1))
    await asyncio.wait((long, short), return_when=asyncio.FIRST_COMPLETED)
    assert short.done()
    assert not long.done()
    long.cancel()


async def test_too_many_waiting_requests_are_refused_and_the_others_served(
    load_tiny: Load,
) -> None:
    model = load_tiny(parallel=1)
    waiting = [
        asyncio.ensure_future(model.generate("Hi", max_tokens=200, temperature=0))
        for _ in range(QUEUE_LIMIT + 20)
    ]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION, timeout=30)
    failures = [error for task in done if (error := task.exception())]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(failures[0], EngineBusyError)
    assert "requests are already waiting" in str(failures[0])
    assert (await model.generate("Hi", max_tokens=2)).text


def test_an_unknown_priority_is_told_the_known_ones(model: LlamaCppModel) -> None:
    with pytest.raises(InvalidOptionError, match="must be interactive or background"):
        model.stream("Hi", priority="urgent")


def parting(one: GenerationResult, alone: GenerationResult) -> float:
    """How much likelier than the other's token the one alone was, at the place where they part."""
    for mine, theirs in zip(one.logprobs, alone.logprobs, strict=False):
        if mine.data != theirs.data:
            likely = {token.data: token.logprob for token in theirs.top}
            return theirs.logprob - likely.get(mine.data, -99.0)
    return 0.0


async def test_many_mixed_requests_with_cancels_answer_as_they_do_alone(
    load_tiny: Load,
) -> None:
    """Where two tokens are nearly as likely, either may win: the last bits of llama.cpp's results
    depend on how many tokens are computed at once."""
    model = load_tiny(context_length=1024)
    filler = ["", "Some words to read first. ", "Some words to read first. " * 9]
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 6, "logprobs": 10}
    asked = [f"{filler[n % 3]}Tell me about {n % 11} {STORY[-5:]}" for n in range(40)]
    tasks = [asyncio.create_task(model.generate(prompt, **options)) for prompt in asked]
    for number in range(3, len(tasks), 5):
        await asyncio.sleep(0.02)
        tasks[number].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    whole = {p: r for p, r in zip(asked, results, strict=True) if isinstance(r, GenerationResult)}
    assert len(whole) >= 25
    for prompt in whole:
        alone = await model.generate(prompt, **options)
        assert parting(whole[prompt], alone) < 0.5


# -------------------------------------------------------------------------------- the context's end


async def test_an_answer_may_go_on_past_the_contexts_end(load_tiny: Load) -> None:
    model = load_tiny(context_length=512)
    options = {"system": RULES, "temperature": 0, "max_tokens": 400, "ignore_eos": True}
    stopped = await model.generate(STORY, **options)
    assert stopped.usage.total_tokens <= 512 < stopped.usage.prompt_tokens + 400
    assert stopped.finish_reason is FinishReason.LENGTH
    shifted = await model.generate(STORY, on_full="shift", **options)
    assert shifted.usage.completion_tokens == 400
    assert shifted.text.startswith(stopped.text[:40])
    after = await model.generate(STORY, **options)
    assert after.text[:40] == stopped.text[:40], "what was dropped harms no other answer"


async def test_short_texts_at_rest_make_room_and_change_no_answer(load_short: Load) -> None:
    """Cells at rest are emptied and moved; a conversation that goes on is found all the same."""
    model = load_short(context_length=4096)
    chat = [Message("user", "Name a fruit that is yellow, and say why people like it.")]
    options = {"temperature": 0, "max_tokens": 12, "logprobs": 2}
    alone = await model.generate(chat, **options)
    for number in range(6):
        await model.generate(f"Tell me {number} things about the sea. " * 7, max_tokens=4)
    again = await model.generate(chat, **options)
    assert again.logprobs == alone.logprobs
    turn = [*chat, again.message, Message("user", "And a red one?")]
    follow_up = await model.generate(turn, temperature=0, max_tokens=2)
    assert follow_up.usage.cached_tokens > again.usage.prompt_tokens
