"""Tokens in equal intervals, at bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.token_pace import FIRST_INTERVAL_SECONDS, MAX_INTERVALS, TokenPace


def test_tokens_are_counted_in_the_interval_in_which_they_came() -> None:
    pace = TokenPace()
    for tokens, seconds in [(1, 0.0), (2, 0.1), (3, 0.3), (4, 1.0)]:
        pace.add(tokens, seconds)
    assert pace.counts == (3, 3, 0, 0, 4)
    assert (pace.total, pace.interval_seconds) == (10, 0.25)


def test_long_answers_get_longer_intervals() -> None:
    pace = TokenPace()
    for second in range(100):
        pace.add(10, second)
    assert pace.interval_seconds == 2.0
    assert pace.counts == (20,) * 50


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1e6)), min_size=1))
def test_no_token_is_lost_and_the_memory_is_bounded(steps: list[tuple[int, float]]) -> None:
    pace, seconds = TokenPace(), 0.0
    for tokens, more in steps:
        seconds += more
        pace.add(tokens, seconds)
    assert sum(pace.counts) == pace.total == sum(tokens for tokens, _ in steps)
    assert len(pace.counts) <= MAX_INTERVALS
    assert len(pace.counts) * pace.interval_seconds >= min(seconds, FIRST_INTERVAL_SECONDS)
