"""What goes into a step, without a model."""

from __future__ import annotations

from typing import Any

from nbllm.local.llama.token_batch import TokenBatch
from nbllm.local.scheduling.prompt_lookup import PromptLookupDrafter
from nbllm.local.scheduling.step_times import StepTimes
from nbllm.local.scheduling.steps import Limits, Row, fill
from nbllm.local.scheduling.tasks import Slot, Task
from nbllm.local.token_text import TextAssembler

LIMITS = Limits(cells=4096, outputs=32)
Pair = tuple[Task, Slot]


def request(number: int, tokens: int, read: int, **fields: Any) -> Pair:
    """A request of so many tokens, ``read`` of which have cells; they come in their order."""
    nobody: Any = None
    task = Task(number, list(range(tokens)), 100, nobody, TextAssembler(), **fields)
    task.arrived += number * 1e-3
    slot = Slot(number, task.tokens[:read], task=task)
    task.slot = slot
    return task, slot


def lengths(rows: list[Row]) -> dict[int, int]:
    return {row.task.id: len(row.tokens) for row in rows}


def measured(token: float = 0.002, step: float = 0.010) -> StepTimes:
    times = StepTimes()
    times.record(0, 100, 100 * token)
    times.record(1, 0, step)
    times.record(4, 0, step)
    return times


def test_a_prompt_alone_fills_the_batch_but_for_its_last_token() -> None:
    batch = TokenBatch(512)
    assert lengths(fill(batch, [request(0, 2000, 0)], StepTimes(), LIMITS)) == {0: 512}
    assert lengths(fill(batch, [request(0, 100, 0)], StepTimes(), LIMITS)) == {0: 99}
    (row,) = fill(batch, [request(0, 100, 99)], StepTimes(), LIMITS)
    assert (row.index, list(row.tokens)) == (0, [99])


def test_a_prompt_beside_an_answer_gets_what_its_step_may_take_longer() -> None:
    pairs = [request(0, 50, 49), request(1, 2000, 0)]
    assert lengths(fill(TokenBatch(512), pairs, measured(0.0001), LIMITS)) == {0: 1, 1: 127}


def test_after_a_piece_that_was_read_in_advance_answers_go_alone() -> None:
    pairs, times = [request(0, 50, 49), request(1, 2000, 0)], measured(0.002)
    assert lengths(fill(TokenBatch(512), pairs, times, LIMITS)) == {0: 1, 1: 191}
    times.record(1, 191, 0.392)
    assert lengths(fill(TokenBatch(512), pairs, times, LIMITS)) == {0: 1}
    background = request(2, 50, 49, background=True)
    assert lengths(fill(TokenBatch(512), [*pairs, background], times, LIMITS)) == {0: 1, 2: 1}


def test_a_short_question_does_not_wait_for_a_long_prompts_piece_to_be_made_up_for() -> None:
    pairs, times = [request(0, 50, 49), request(1, 2000, 0)], measured(0.002)
    times.record(1, 191, 0.392)
    question = request(2, 31, 0)
    assert lengths(fill(TokenBatch(512), [*pairs, question], times, LIMITS)) == {0: 1, 2: 30}
    for _ in range(4):
        times.record(1, 191, 0.392)
    assert lengths(fill(TokenBatch(512), [*pairs, question], times, LIMITS)) == {0: 1}


def test_short_prompts_of_one_burst_are_read_at_once_and_later_ones_are_not() -> None:
    writing, *reading = [request(0, 50, 49), *(request(n, 101, 0) for n in (1, 2, 3))]
    assert (
        sum(lengths(fill(TokenBatch(512), [writing, *reading], measured(), LIMITS)).values()) == 301
    )
    reading[0][0].arrived += 1
    assert (
        sum(lengths(fill(TokenBatch(512), [writing, *reading], measured(), LIMITS)).values()) == 192
    )


def test_before_an_answers_step_was_measured_it_goes_alone() -> None:
    pairs = [request(0, 50, 49), request(1, 2000, 0)]
    assert lengths(fill(TokenBatch(512), pairs, StepTimes(), LIMITS)) == {0: 1}


def test_half_of_the_room_goes_to_the_first_and_the_rest_to_the_shortest() -> None:
    pairs = [request(0, 2000, 0), request(1, 1500, 0), request(2, 31, 0)]
    found = lengths(fill(TokenBatch(512), pairs, StepTimes(), LIMITS))
    assert found == {0: 256, 1: 226, 2: 30}


def test_prompts_of_one_length_are_read_one_after_the_other() -> None:
    pairs = [request(0, 401, 0), request(1, 401, 0)]
    assert lengths(fill(TokenBatch(512), pairs, StepTimes(), LIMITS)) == {0: 400, 1: 112}


def test_interactive_prompts_are_read_before_background_ones() -> None:
    pairs = [request(0, 601, 0, background=True), request(1, 401, 0)]
    assert lengths(fill(TokenBatch(512), pairs, StepTimes(), LIMITS)) == {0: 112, 1: 400}


def test_background_answers_take_turns_in_what_interactive_ones_leave() -> None:
    background = [request(number, 50, 49, background=True) for number in range(8)]
    asked = request(9, 50, 49)
    written = set[int]()
    for step in range(8):
        rows = fill(TokenBatch(512), [*background, asked], measured(), LIMITS)
        found = {row.task.id for row in rows}
        assert 9 in found
        assert 1 <= len(found - {9}) < 8
        written |= found
        for row in rows:
            row.task.last_token = step + 1
    assert written == {*range(8), 9}, "none is starved"


def test_a_prompt_that_another_request_reads_waits_for_it() -> None:
    leader, follower = request(0, 600, 0), request(1, 600, 0)
    follower[0].leader, follower[0].leader_length = leader[0], 599
    assert lengths(fill(TokenBatch(512), [leader, follower], StepTimes(), LIMITS)) == {0: 512}
    leader[0].slot = None
    assert lengths(fill(TokenBatch(512), [follower], StepTimes(), LIMITS)) == {1: 512}


def guessing(rate: float) -> Pair:
    """An answer that repeats itself, whose guesses came true at this rate."""
    pair = request(0, 12, 11, lookup=PromptLookupDrafter([rate] * 5))
    pair[0].tokens[:] = [1, 2, 3, 4, 5, 6] * 2
    pair[1].tokens[:] = pair[0].tokens[:11]
    return pair


def test_guesses_get_their_logits_and_stay_within_what_may_have_them() -> None:
    batch = TokenBatch(512)
    (row,) = fill(batch, [guessing(1.0)], measured(token=0.0001), Limits(4096, 8))
    assert row.guesses == 7
    assert list(row.tokens) == [6, 1, 2, 3, 4, 5, 6, 1]
    assert row.index == 0
    assert batch.size == 8
    (row,) = fill(batch, [guessing(0.01)], measured(token=0.01), Limits(4096, 8))
    assert row.guesses == 0


def test_nothing_is_guessed_beside_a_prompt_or_past_the_answers_end() -> None:
    pairs = [guessing(1.0), request(1, 500, 0)]
    rows = fill(TokenBatch(512), pairs, measured(token=0.0001), LIMITS)
    assert [row.guesses for row in rows] == [0, 0]
    last = guessing(1.0)
    last[0].max_tokens = last[0].written + 2
    (row,) = fill(TokenBatch(512), [last], measured(token=0.0001), LIMITS)
    assert row.guesses <= 1


def test_with_a_split_kv_cache_rows_follow_the_numbers_of_their_slots() -> None:
    batch = TokenBatch(512)
    pairs = [request(number, 50, 49) for number in (6, 0, 2)]
    rows = fill(batch, pairs, StepTimes(), LIMITS, split={1: 7, 3: 0, 4: 0, 5: 0})
    assert [row.slot.id for row in rows] == [0, 2, 6]
    assert [row.index for row in rows] == [0, 2, 3], "one row fills the gap of 1, none that of 3"
    assert batch.size == 4


def test_a_gap_stays_where_a_slot_in_it_has_no_room() -> None:
    batch = TokenBatch(512)
    pairs = [request(number, 50, 49) for number in (0, 3)]
    fill(batch, pairs, StepTimes(), LIMITS, split={1: 7})
    assert batch.size == 2


def test_prompts_of_a_split_kv_cache_are_read_in_the_order_of_their_slots() -> None:
    pairs = [request(2, 200, 0), request(1, 50, 49), request(0, 100, 0)]
    rows = fill(TokenBatch(512), pairs, measured(0.0001), LIMITS, split={})
    assert [row.slot.id for row in rows] == [0, 1, 2]


def test_answers_are_guessed_ahead_in_a_split_kv_cache_only_alone() -> None:
    pairs = [guessing(1.0), request(1, 50, 49)]
    assert lengths(fill(TokenBatch(512), pairs, measured(token=0.0001), LIMITS))[0] > 1
    assert lengths(fill(TokenBatch(512), pairs, measured(), LIMITS, split={}))[0] == 1
    (row,) = fill(TokenBatch(512), pairs[:1], measured(token=0.0001), LIMITS, split={})
    assert len(row.tokens) > 1
