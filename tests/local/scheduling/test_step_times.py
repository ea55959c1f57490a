from __future__ import annotations

import pytest

from nbllm.local.scheduling.step_times import StepTimes


def test_nothing_is_known_before_anything_was_measured() -> None:
    times = StepTimes()
    assert times.seconds(1) is None
    assert times.prompt_room(1, 500) == 0, "the quiet step is measured first"


def test_between_two_measured_numbers_of_rows_lies_a_line() -> None:
    times = StepTimes()
    times.record(1, 0, 0.010)
    times.record(5, 0, 0.018)
    assert times.seconds(1) == pytest.approx(0.010)
    assert times.seconds(3) == pytest.approx(0.014)
    assert times.seconds(5) == pytest.approx(0.018)


def test_below_the_smallest_number_the_time_is_taken_for_its() -> None:
    times = StepTimes()
    times.record(4, 0, 0.020)
    assert times.seconds(2) == pytest.approx(0.020)


def test_beyond_the_largest_a_row_takes_what_a_token_of_a_prompt_does() -> None:
    times = StepTimes()
    times.record(0, 500, 1.0)
    times.record(1, 0, 0.010)
    assert times.seconds(11) == pytest.approx(0.010 + 10 * 0.002)


def test_a_prompt_joins_answers_as_far_as_their_steps_stay_within_2_8_times_their_length() -> None:
    times = StepTimes()
    times.record(0, 500, 0.05)  # 0.1 ms a token
    times.record(1, 0, 0.010)
    assert times.prompt_room(1, 500) == 127, "with the answer two whole tiles"
    assert times.prompt_room(1, 3) == 3
    times.record(1, 127, 0.024)
    assert times.prompt_room(1, 500) == 127, "nothing was read in advance"


def run(times: StepTimes, token: float, steps: int, growth: float = 0.0) -> tuple[float, int]:
    """The mean length of so many steps beside a long prompt, and what was read of it.

    Without the prompt a step takes 10 ms, and with ``growth`` more for each token that was read.
    """
    seconds, read = 0.0, 0
    for _ in range(steps):
        room = times.prompt_room(1, 500)
        taken = 0.010 + growth * read + token * room
        times.record(1, room, taken)
        seconds, read = seconds + taken, read + room
    return seconds / steps, read


def test_where_few_fit_large_pieces_are_read_in_advance_and_made_up_for() -> None:
    times = StepTimes()
    times.record(0, 500, 2.5)  # 5 ms a token
    times.record(1, 0, 0.010)
    assert times.prompt_room(1, 500) == 63
    mean, read = run(times, 0.005, 400)
    assert mean <= 0.029
    assert read == pytest.approx(400 * 0.018 / 0.005, rel=0.1), "what the answers leave"


def test_answers_that_get_slower_by_what_is_read_keep_their_measure_from_before() -> None:
    times = StepTimes()
    for _ in range(20):
        times.record(1, 0, 0.010)
    mean, read = run(times, 0.005, 1000, growth=0.000_002)
    assert mean <= 0.029
    assert read > 1000
    mean, read = run(times, 0.005, 1000, growth=0.000_02)
    assert read > 500, "it is read all the same where they are slower still"


def test_the_room_for_prompts_learns_from_the_steps_that_it_made() -> None:
    times = StepTimes()
    times.record(0, 500, 1.0)
    times.record(1, 0, 0.010)
    mean, _ = run(times, 0.005, 400)  # beside an answer a token takes 5 ms in truth
    assert mean <= 0.029
    run(times, 0.005, 400)
    assert times.prompt_room(1, 500) in (0, 63)


def test_the_slowest_machine_still_reads_a_token_now_and_then() -> None:
    times = StepTimes()
    times.record(1, 0, 0.010)
    times.record(1, 1, 5.0)
    assert times.prompt_room(1, 500) == 0
    for _ in range(630):
        times.record(1, 0, 0.010)
    assert times.prompt_room(1, 500) == 1


def test_what_was_measured_long_ago_is_forgotten() -> None:
    times = StepTimes()
    times.record(8, 0, 1.0)
    for _ in range(300):
        times.record(1, 0, 0.010)
    assert times.seconds(8) == pytest.approx(0.010 + 7 * 0.005)
    times.record(8, 0, 0.030)
    assert times.seconds(8) == pytest.approx(0.030)


def test_a_slower_step_moves_the_average_a_little() -> None:
    times = StepTimes()
    times.record(1, 0, 0.010)
    times.record(1, 0, 0.110)
    assert times.seconds(1) == pytest.approx(0.030)
