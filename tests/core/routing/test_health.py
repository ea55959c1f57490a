"""What failures mean, and how long a member is left alone after them."""

from __future__ import annotations

import random

import pytest

from nbllm.core import errors
from nbllm.core.routing.health import FAILURES, USUAL_FALLBACK, Health, kind_of_failure


def failed(health: Health, now: float, **how: float | None) -> Health:
    given = {"began": now, "cooldown": 1.0, "delay": None, **how}
    return health.failed("server", now=now, **given)  # type: ignore[arg-type]


def test_no_error_is_of_two_kinds() -> None:
    known = [error for kind in FAILURES for error in kind.errors]
    for error in known:
        assert [other for other in known if issubclass(error, other)] == [error]


def test_every_error_of_an_api_has_a_kind_unless_the_request_is_at_fault() -> None:
    def below(kind: type[Exception]) -> set[type[Exception]]:
        return {kind} | {each for child in kind.__subclasses__() for each in below(child)}

    named = {error for kind in FAILURES for error in kind.errors}
    faults = below(errors.BadRequestError) | {errors.ApiError}
    assert below(errors.ApiError) - faults <= named


def test_the_faults_of_an_entry_are_not_passed_over_unless_it_says_so() -> None:
    others = {kind.word for kind in FAILURES} - set(USUAL_FALLBACK)
    assert others == {"quota", "authentication", "not_found", "budget", "unsupported"}


def test_a_request_that_is_wrong_itself_is_nobodys_failure() -> None:
    assert kind_of_failure(errors.BadRequestError("m", "no")) is None
    assert kind_of_failure(errors.InvalidOptionError("top_p", "no")) is None


def test_each_further_failure_doubles_the_cooldown_up_to_five_minutes() -> None:
    health, now, waits = Health(), 0.0, []
    for _ in range(12):
        health = failed(health, now)
        waits.append(health.cooling_until - now)
        now = health.cooling_until
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_the_delay_of_a_server_is_obeyed_and_not_exceeded() -> None:
    health = failed(Health(), 10.0, delay=7.5)
    assert health.state(17.49) == "cooling"
    assert health.takes_request(17.5)
    assert failed(Health(), 10.0, delay=3_600.0).cooling_until == 3_610


def test_a_delay_of_nothing_is_none() -> None:
    assert failed(Health(), 10.0, delay=0.0).cooling_until == 11


def test_requests_that_fail_together_count_once_and_the_longest_delay_holds() -> None:
    health = failed(Health(), 10.0)
    for _ in range(16):
        health = failed(health, 10.5, began=9.0)
    assert (health.trouble, health.cooling_until) == (1.0, 11.0)
    assert failed(health, 10.5, began=9.0, delay=20.0).cooling_until == 30.5
    assert (
        failed(failed(Health(), 10.0, delay=60.0), 10.1, began=9.0, delay=1.0).cooling_until == 70
    )


def test_one_failure_is_forgiven_by_one_answer() -> None:
    health = failed(Health(), 0.0)
    assert health.state(1.0) == "probing"
    probing = health.chosen()
    assert not probing.takes_request(1.0)
    assert probing.answered().state(1.0) == "healthy"


def test_a_probe_that_was_stopped_leaves_the_place_to_the_next() -> None:
    probing = failed(Health(), 0.0).chosen()
    assert probing.left().takes_request(1.0)
    assert probing.left().state(1.0) == "probing"


def test_what_says_nothing_of_health_changes_nothing() -> None:
    assert failed(Health(), 0.0, cooldown=None) == Health()


@pytest.mark.parametrize("seed", range(5))
def test_a_member_that_fails_every_other_request_is_asked_ever_more_rarely(seed: int) -> None:
    chance, health, asked = random.Random(seed), Health(), 0
    for second in range(2_000):
        now = float(second)
        if not health.takes_request(now):
            continue
        asked += 1
        health = health.chosen()
        health = failed(health, now) if chance.random() < 0.5 else health.answered()
    assert asked <= 100  # 5 % of them


def test_a_member_that_was_dead_for_long_is_trusted_after_some_answers() -> None:
    health, now = Health(), 0.0
    while health.trouble < 10:
        health, now = failed(health, now), now + 300
    answers = 0
    while health.state(now + 300) != "healthy":
        health, answers = health.chosen().answered(), answers + 1
    assert answers <= 20
