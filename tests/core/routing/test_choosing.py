"""The choice of a router's member: a pure function, tried without models and without time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from nbllm.core.routing.choosing import (
    Chosen,
    Latency,
    MemberState,
    NoMember,
    Request,
    WaitUntil,
    choose,
    credits_after,
)
from nbllm.core.routing.health import Health
from nbllm.core.routing.members import Members
from nbllm.core.routing.router_settings import MemberPrice, RouterMember, RouterSettings, Strategy

STRATEGIES: tuple[Strategy, ...] = (
    "in-order",
    "least-busy",
    "lowest-latency",
    "weighted",
    "cheapest",
)


def states(
    *changes: dict[str, object], weights: tuple[float, ...] = (1, 1, 1)
) -> list[MemberState]:
    members = [RouterMember(name, weight) for name, weight in zip("abc", weights, strict=False)]
    given = [*changes, *[{}] * (len(members) - len(changes))]
    return [
        MemberState(member=each, **change)  # type: ignore[arg-type]
        for each, change in zip(members, given, strict=True)
    ]


def settings(strategy: Strategy, **more: object) -> RouterSettings:
    members = tuple(map(RouterMember, "abc"))
    return RouterSettings(members=members, strategy=strategy, **more)  # type: ignore[arg-type]


def name_of(members: list[MemberState], strategy: Strategy, request: Request = Request()) -> str:  # noqa: B008
    chosen = choose(members, settings(strategy), request, now=100.0)
    assert isinstance(chosen, Chosen)
    return chosen.name


def share(
    members: list[MemberState],
    strategy: Strategy,
    requests: int,
    had: Mapping[str, float] | None = None,
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for number in range(requests):
        request = Request(number=number, credits=had or {})
        name = name_of(members, strategy, request)
        counts[name] += 1
        had = credits_after(members, settings(strategy), name, request, 100.0)
    return counts


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_states_give_equal_choices_and_nothing_is_changed(strategy: Strategy) -> None:
    members = states({"running": 2}, {"running": 1})
    before = list(members)
    assert len({name_of(members, strategy) for _ in range(20)}) == 1
    assert members == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_any_measurement_every_strategy_begins_with_the_first(strategy: Strategy) -> None:
    assert name_of(states(), strategy) == "a"


def test_least_busy_takes_the_one_with_the_fewest_requests_for_its_weight() -> None:
    assert name_of(states({"running": 3}, {"running": 1}, {"running": 2}), "least-busy") == "b"
    heavy = states({"running": 3}, {"running": 2}, {"running": 2}, weights=(4, 1, 1))
    assert name_of(heavy, "least-busy") == "a"


def test_least_busy_counts_requests_that_others_sent_too() -> None:
    members = states({"running": 1}, {"running": 0}, {"running": 1})
    assert name_of(members, "least-busy", Request(running={"b": 5})) == "a"


def test_least_busy_spreads_requests_that_come_one_after_another() -> None:
    assert share(states(), "least-busy", 300) == {"a": 100, "b": 100, "c": 100}


def test_weighted_gives_each_its_share_exactly() -> None:
    assert share(states(weights=(3, 2, 1)), "weighted", 600) == {"a": 300, "b": 200, "c": 100}


def test_weighted_returns_to_its_shares_after_a_cooldown_without_a_flood() -> None:
    members = states({"health": Health(cooling_until=1_000.0)})
    had: Mapping[str, float] = {}
    for number in range(60):
        request = Request(number=number, credits=had)
        name = name_of(members, "weighted", request)
        had = credits_after(members, settings("weighted"), name, request, 100.0)
    members[0] = replace(members[0], health=Health())
    assert max(share(members, "weighted", 30, had).values()) <= 11


def test_lowest_latency_prefers_the_fast_and_tries_what_was_never_measured() -> None:
    fast, slow = Latency(0.1, 1, 100), Latency(0.5, 1, 100)
    assert (
        name_of(states({"latency": slow}, {"latency": fast}, {"latency": slow}), "lowest-latency")
        == "b"
    )
    assert name_of(states({"latency": fast}, {"latency": fast}), "lowest-latency") == "c"


def test_a_busy_fast_member_is_not_buried() -> None:
    fast, slow = Latency(0.1, 1, 100), Latency(0.15, 1, 100)
    members = states(
        {"latency": fast, "running": 2}, {"latency": slow}, {"latency": slow, "running": 1}
    )
    assert name_of(members, "lowest-latency") == "b"


def members_of(names: str) -> Members:
    listed = RouterSettings(members=tuple(map(RouterMember, names)), strategy="lowest-latency")
    return Members(listed, [MemberState(member=each) for each in listed.members])


def asked_in_turn(members: Members, seconds: Mapping[str, float], requests: int) -> list[str]:
    """The members that get requests, one after the other, each of which answers so soon."""
    chosen = []
    for _ in range(requests):
        decision = members.choose(Request, None)
        assert isinstance(decision, Chosen)
        members.answered(decision.name, seconds[decision.name])
        members.leave(decision.name, untold=False)
        chosen.append(decision.name)
    return chosen


@pytest.mark.parametrize("slow_for", [*range(20, 46), 200])
@pytest.mark.parametrize("times", [2, 5, 50])
def test_lowest_latency_leaves_a_slow_member_and_is_back_within_20_requests(
    slow_for: int, times: float
) -> None:
    usual = {"a": 0.010, "b": 0.012, "c": 0.013}
    members = members_of("abc")
    assert asked_in_turn(members, usual, 60).count("a") >= 45
    slow = asked_in_turn(members, {**usual, "a": times * 0.010}, slow_for)
    most = max(slow[n : n + 20].count("a") for n in range(1, slow_for))
    assert most <= 2
    after = asked_in_turn(members, usual, 60)
    assert after[16:].count("a") >= 36
    assert after.index("a") <= 16


@pytest.mark.parametrize(("names", "share"), [("ab", 0.1), ("abcde", 0.26), ("abcdefghijkl", 0.26)])
def test_probes_of_slow_members_stay_a_bounded_share(names: str, share: float) -> None:
    seconds = dict.fromkeys(names, 0.1) | {"a": 0.01}
    members = members_of(names)
    asked_in_turn(members, seconds, 50)
    asked = Counter(asked_in_turn(members, seconds, 400))
    assert 400 - asked["a"] <= 400 * share
    assert all(asked[name] for name in names)


def test_one_request_measures_a_member_again_and_the_others_do_not_wait_for_it() -> None:
    members = members_of("ab")
    asked_in_turn(members, {"a": 0.01, "b": 0.1}, 12)
    chosen = [members.choose(Request, None) for _ in range(8)]
    assert chosen.count(Chosen("b", "to measure it again", is_probe=True)) == 1


def test_a_member_that_never_answers_keeps_no_other_from_being_measured_again() -> None:
    members = members_of("abc")
    asked_in_turn(members, {"a": 0.01, "b": 0.1}, 2)
    hangs = members.choose(Request, None)
    assert hangs == Chosen("c", "lowest latency")
    assert asked_in_turn(members, {"a": 0.01, "b": 0.1}, 20).count("b") == 1


def test_a_member_that_others_use_is_measured_all_the_same() -> None:
    members = states(*({"latency": Latency(0.1, 1, 100)} for _ in "ab"))
    busy = Request(running={"c": 3})
    assert name_of(members, "lowest-latency", busy) == "c"


def test_a_member_that_has_not_answered_yet_gets_no_second_request() -> None:
    members = members_of("abc")
    asked_in_turn(members, {"a": 0.01, "b": 0.01, "c": 0.01}, 2)
    names = [getattr(members.choose(Request, None), "name", "") for _ in range(10)]
    assert names.count("c") == 1


def test_cheapest_takes_the_cheapest_that_fits_and_the_unknown_last() -> None:
    dear, cheap = MemberPrice(3, 15), MemberPrice(0.1, 0.4)
    members = states({"price": None}, {"price": dear}, {"price": cheap, "context_length": 1_000})
    assert name_of(members, "cheapest", Request(prompt_tokens=500)) == "c"
    assert name_of(members, "cheapest", Request(prompt_tokens=5_000)) == "b"
    assert name_of(members, "cheapest", Request(prompt_tokens=900, answer_tokens=200)) == "b"
    free = [replace(members[0], price=MemberPrice(0, 0)), *members[1:]]
    assert name_of(free, "cheapest", Request(prompt_tokens=500)) == "a"


def test_the_price_of_what_is_read_and_of_what_is_written_both_count() -> None:
    reads, writes = MemberPrice(1, 100), MemberPrice(10, 10)
    members = states({"price": reads}, {"price": writes}, {"price": MemberPrice(1e3, 1e3)})
    assert name_of(members, "cheapest", Request(prompt_tokens=10_000, answer_tokens=10)) == "a"
    assert name_of(members, "cheapest", Request(prompt_tokens=100, answer_tokens=1_000)) == "b"


@pytest.mark.parametrize("strategy", ["least-busy", "lowest-latency", "weighted"])
def test_a_conversation_stays_where_it_is_unless_that_cools(strategy: Strategy) -> None:
    members = states({"running": 0}, {"running": 1}, {"running": 9})
    assert name_of(members, strategy, Request(homes=("c", "b"))) == "c"
    members[2] = replace(members[2], health=Health(cooling_until=200.0))
    assert name_of(members, strategy, Request(homes=("c", "b"))) == "b"
    plain = choose(members, settings(strategy, sticky=False), Request(homes=("b",)), 100.0)
    assert plain == choose(members, settings(strategy), Request(), 100.0)


@pytest.mark.parametrize("strategy", ["in-order", "cheapest"])
def test_a_first_choice_is_returned_to_whoever_answered_meanwhile(strategy: Strategy) -> None:
    assert name_of(states(), strategy, Request(homes=("b",))) == "a"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_cools_is_not_asked_and_all_cooling_waits_for_the_earliest(strategy: Strategy) -> None:
    def cooling(until: float) -> dict[str, object]:
        return {"health": Health(trouble=1, cooling_until=until)}

    assert name_of(states(cooling(101), {}, cooling(101)), strategy) == "b"
    all_cool = states(cooling(130), cooling(110), cooling(120))
    assert choose(all_cool, settings(strategy), Request(), 100.0) == WaitUntil(110, has_probe=False)
    assert isinstance(choose(all_cool, settings(strategy), Request(), 110.0), Chosen)


def test_one_request_at_a_time_tries_a_member_on_probation() -> None:
    on_trial = Health(trouble=2, cooling_until=90)
    members = states({"health": on_trial.chosen()}, {"health": Health(cooling_until=150.0)})
    assert name_of(members, "in-order") == "c"
    two = members[:2]
    assert choose(two, settings("in-order"), Request(), 100.0) == WaitUntil(150, has_probe=True)
    only = choose(members[:1], settings("in-order"), Request(), 100.0)
    assert only == WaitUntil(math.inf, has_probe=True)


def test_excluded_members_and_too_short_contexts_are_out() -> None:
    members = states({"context_length": 4_096}, {"context_length": 8_192}, {})
    assert name_of(members, "in-order", Request(longer_than=4_096)) == "b"
    assert name_of(members, "in-order", Request(longer_than=8_192)) == "c"
    short = Request(longer_than=8_192, excluded=frozenset("c"))
    assert choose(members, settings("in-order"), short, 100.0) == NoMember()
    assert name_of(members, "in-order", Request(only="b")) == "b"
