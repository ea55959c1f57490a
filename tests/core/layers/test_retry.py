from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.errors import (
    ApiConnectionError,
    ApiError,
    AuthenticationError,
    ContextLengthError,
    ModelError,
    OverloadedError,
    QuotaError,
    RateLimitError,
)
from nbllm.core.layers.retry import RetryPolicy

POLICY = RetryPolicy()


def busy(delay: float | None = None) -> ApiError:
    return RateLimitError("m", "busy", retryable=True, retry_after_seconds=delay)


def test_backoff_doubles_up_to_its_longest() -> None:
    delays = [
        RetryPolicy(max_attempts=8).delay(busy(), attempt=n, elapsed=0, chance=0.999_999)
        for n in range(1, 8)
    ]
    assert delays == pytest.approx([0.5, 1, 2, 4, 8, 8, 8], rel=1e-3)


def test_jitter_spreads_the_delays() -> None:
    low, high = (POLICY.delay(busy(), attempt=3, elapsed=0, chance=c) for c in (0.0, 0.99))
    assert low == 1.0
    assert high == pytest.approx(1.99)


@given(st.floats(0, 50, exclude_min=True), st.floats(0, 1, exclude_max=True))
def test_a_servers_delay_is_never_undercut(asked: float, chance: float) -> None:
    delay = POLICY.delay(busy(asked), attempt=1, elapsed=0, chance=chance)
    assert delay is not None
    assert asked <= delay <= asked * 1.1


def test_a_delay_beyond_the_cap_is_not_waited_for() -> None:
    assert POLICY.delay(busy(61), attempt=1, elapsed=0, chance=0) is None
    assert POLICY.delay(busy(40), attempt=1, elapsed=0, chance=0) == 40
    assert POLICY.delay(busy(40), attempt=2, elapsed=40, chance=0) is None


def test_zero_seconds_mean_no_retry_unless_at_once() -> None:
    never = RetryPolicy(max_seconds=0)
    assert never.delay(busy(), attempt=1, elapsed=0.01, chance=0) is None


def test_a_delay_of_zero_does_not_hammer_the_server() -> None:
    assert POLICY.delay(busy(0), attempt=2, elapsed=0, chance=0) == 0.5


def test_attempts_are_counted() -> None:
    assert POLICY.delay(busy(), attempt=4, elapsed=0, chance=0) is not None
    assert POLICY.delay(busy(), attempt=5, elapsed=0, chance=0) is None


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("m", "no"),
        QuotaError("m", "no money", retryable=True, retry_after_seconds=1),
        OverloadedError("m", "gone", retryable=True, partial_text="Once upon"),
        ApiConnectionError("m", "no such host"),
        ContextLengthError("m", "too long"),
        ModelError("m", "anything"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_never_sent_again(error: ModelError) -> None:
    assert POLICY.delay(error, attempt=1, elapsed=0, chance=0) is None
