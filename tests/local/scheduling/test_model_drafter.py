from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbllm.local.engine import Engine
from nbllm.local.llama.sampling import Sampler
from nbllm.local.scheduling.model_drafter import Draft, DraftRequest, ModelDrafter
from nbllm.local.scheduling.step_times import StepTimes
from nbllm.local.scheduling.tasks import Task
from nbllm.local.token_text import TextAssembler

Native = Callable[..., Any]


@pytest.fixture(scope="module")
def tiny_native(native: Native, tiny_models: dict[str, Path]) -> Native:
    """What is guessed, when and by whom does not depend on how much a model knows."""
    return partial(native, path=tiny_models["llama-q8_0"], parallel=2)


@pytest.fixture(scope="module")
def small(tiny_native: Native) -> Any:
    """The model that guesses; it has room for two texts."""
    return tiny_native(context_length=256, max_outputs=2, batch_tokens=128)


@pytest.fixture
def drafter(small: Any) -> ModelDrafter:
    small.cells.clear()
    return ModelDrafter(small)


def task_of(small: Any, text: str) -> Task:
    tokens = small.vocabulary.tokenize(text, add_special=True, parse_special=True)
    sampler: Any = None
    return Task(0, tokens, 500, sampler, TextAssembler(()))


def greedy(small: Any, tokens: list[int], count: int) -> list[int]:
    """What the model writes behind ``tokens`` when it reads them afresh."""
    small.cells.clear()
    text, read = list(tokens), 0
    while len(text) < len(tokens) + count:
        small.batch.clear()
        piece = text[read : read + small.batch.capacity]
        row = small.batch.add(piece, read, 0, logits=1)
        assert small.decode() == 0
        read += len(piece)
        if read == len(text):
            text.append(int(np.argmax(small.logits(row))))
    return text[len(tokens) :]


def slow(rows: int) -> float:
    """Steps of a model that is much larger than the small one: rows cost next to nothing."""
    return 10.0 + 0.01 * rows


def busy(rows: int) -> float:
    """Steps of a model that computes each row as long as the first."""
    return 1.0 * rows


def guess(drafter: ModelDrafter, *tasks: Task, seconds: Any = slow, most: int = 8) -> list[Draft]:
    requests = [DraftRequest(task, slot, most) for slot, task in enumerate(tasks)]
    return drafter.guess(requests, rows=len(tasks), seconds=seconds)


STORY = "Once upon a time there was a"


def test_guesses_are_what_the_small_model_would_write(small: Any, drafter: ModelDrafter) -> None:
    task = task_of(small, STORY)
    (draft,) = guess(drafter, task)
    assert len(draft.tokens) > 1
    assert all(0 < rate < 1 for rate in draft.rates)
    assert draft.tokens == greedy(small, task.tokens, len(draft.tokens))


def test_guesses_go_on_behind_what_was_written_instead(small: Any, drafter: ModelDrafter) -> None:
    task = task_of(small, STORY)
    (draft,) = guess(drafter, task)
    other = task_of(small, " dragon").tokens[-1:]
    task.tokens += [*draft.tokens[:2], *other]
    drafter.compare(0, [*draft.tokens[:2], *other])
    (later,) = guess(drafter, task)
    assert later.tokens == greedy(small, task.tokens, len(later.tokens))


def test_two_answers_are_guessed_at_once_and_share_what_they_begin_with(
    small: Any, drafter: ModelDrafter
) -> None:
    one, other = task_of(small, STORY + " king"), task_of(small, STORY + " ship")
    (first,) = guess(drafter, one)
    small.batch.clear()
    drafted = guess(drafter, one, other)
    assert [draft.request.slot for draft in drafted] == [0, 1]
    assert first.tokens[0] == drafted[0].tokens[0]
    for draft in drafted:
        written = greedy(small, draft.request.task.tokens, len(draft.tokens))
        assert draft.tokens == written


def test_answers_that_begin_alike_and_are_read_together_are_guessed_at_once(
    small: Any, drafter: ModelDrafter
) -> None:
    drafted = guess(drafter, task_of(small, STORY + " king"), task_of(small, STORY + " ship"))
    assert [draft.request.slot for draft in drafted] == [0, 1]
    for draft in drafted:
        assert draft.tokens == greedy(small, draft.request.task.tokens, len(draft.tokens))


def test_nothing_is_guessed_where_it_would_take_longer(small: Any, drafter: ModelDrafter) -> None:
    task = task_of(small, STORY)
    assert not guess(drafter, task, seconds=busy)
    assert not guess(drafter, task, seconds=lambda rows: None)
    assert not guess(drafter, task, most=0)


def test_wrong_guesses_end_the_guessing_and_probes_that_come_true_begin_it_again(
    small: Any, drafter: ModelDrafter
) -> None:
    task = task_of(small, STORY)
    for _ in range(200):
        if not (found := guess(drafter, task, seconds=lambda rows: 30.0 + 10.0 * rows)):
            break
        drafter.compare(0, [found[0].tokens[0] + 1])
    assert not found
    right = greedy(small, task.tokens, 1)
    drafter = _forgetful(drafter)
    for _ in range(200):
        found = guess(drafter, task, seconds=lambda rows: 30.0 + 10.0 * rows)
        if found:
            break
        drafter.compare(0, right)
    assert found[0].tokens[0] == right[0]


def _forgetful(drafter: ModelDrafter) -> ModelDrafter:
    """The same with nothing in its sequences, for the test has used them."""
    for held in drafter._held:
        held.clear()
    drafter._model.cells.clear()
    return drafter


def test_probing_takes_a_fiftieth_of_the_time(small: Any, drafter: ModelDrafter) -> None:
    task = task_of(small, STORY)
    decoded = 0
    decode = small.decode

    def counted() -> int:
        nonlocal decoded
        decoded += 1
        return int(decode())

    small.decode = counted
    try:
        for _ in range(50):
            assert not guess(drafter, task, seconds=lambda rows: 0.001 * rows)
    finally:
        small.decode = decode
    assert 1 <= decoded < 10


def test_a_long_prompt_is_read_only_for_an_answer_that_grows(
    small: Any, drafter: ModelDrafter
) -> None:
    task = task_of(small, "12 " * 200)
    assert not guess(drafter, task)
    task.written = 10
    assert not guess(drafter, task), "a batch of 128 tokens is read"
    assert guess(drafter, task)


def test_where_there_is_no_room_it_goes_on_with_what_is_asked_for(
    small: Any, drafter: ModelDrafter
) -> None:
    long, other = task_of(small, "12 " * 200), task_of(small, "34 " * 150)
    long.written = other.written = 99
    while not guess(drafter, long):
        pass
    found: list[Draft] = []
    for _ in range(9):
        request = DraftRequest(other, 1, 4)
        found = found or drafter.guess([request], rows=1, seconds=slow)
    assert found[0].tokens == greedy(small, other.tokens, len(found[0].tokens))


@pytest.fixture(scope="module")
def large(tiny_native: Native) -> Any:
    """The model that checks, whose numbers do not depend on how many tokens it checks at once."""
    return tiny_native(context_length=512, max_outputs=64, batch_invariant=True)


def answers(large: Any, drafter: ModelDrafter | None) -> list[Task]:
    """A greedy answer and a drawn one, written in steps by an engine of their own."""
    large.cells.clear()
    engine = Engine(large, lambda frame: None, drafter=drafter)
    tasks = []
    for number, (text, temperature) in enumerate([(STORY, 0.0), ("The sea is", 0.8)]):
        tokens = large.vocabulary.tokenize(text, add_special=True, parse_special=True)
        sampler = Sampler({"temperature": temperature, "seed": 5}, large, tokens)
        tasks.append(Task(number, tokens, 30, sampler, TextAssembler(())))
        assert engine.submit(tasks[-1])
    while not engine._requests.is_empty:
        engine._admit()
        engine._step()
    return tasks


@pytest.mark.parametrize("every", [0, 3])
def test_answers_are_the_same_whether_all_guesses_are_right_or_some_wrong(
    every: int, large: Any, drafter: ModelDrafter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepTimes, "seconds", lambda self, rows: slow(rows))
    add_likeliest, count = ModelDrafter._add_likeliest, 0

    def add(self: ModelDrafter, draft: Draft) -> None:
        nonlocal count
        add_likeliest(self, draft)
        count += 1
        if every and count % every == 0:
            draft.tokens[-1] = 77

    monkeypatch.setattr(ModelDrafter, "_add_likeliest", add)
    plain, drafted = answers(large, None), answers(large, drafter)
    assert [task.tokens for task in drafted] == [task.tokens for task in plain]
    assert sum(task.accepted_drafts for task in drafted) > 5
    assert not any(task.accepted_drafts for task in plain)
