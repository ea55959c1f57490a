"""A router in a config: read, written, and refused by entry and key where it cannot work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbllm import ModelManager
from nbllm.core.errors import ConfigError, InvalidOptionError
from nbllm.core.model_config import load_config, parse_entry, save_config
from nbllm.core.routing.router_settings import MemberPrice, RouterMember, RouterSettings
from nbllm.testing import FakeOpener, fake_info

PRICED = {"name": "b", "weight": 2, "price": {"input": 0.15, "output": 0.6}}


def entry(**values: Any) -> dict[str, Any]:
    return {"name": "r", "model_type": "router", "members": ["a", "b"], **values}


def test_an_entry_is_read_and_written_alike(tmp_path: Path) -> None:
    given = entry(
        members=["a", PRICED],
        strategy="cheapest",
        sticky=False,
        fallback=["rate_limit", "crash"],
        restart=True,
        max_attempts=3,
        cooldown_seconds=2.5,
        options={"temperature": 0.1, "max_retry_seconds": 20},
    )
    file = tmp_path / "models.json"
    file.write_text(json.dumps([given]))
    (info,) = load_config(file)
    assert info.router == RouterSettings(
        members=(RouterMember("a"), RouterMember("b", 2, MemberPrice(0.15, 0.6))),
        strategy="cheapest",
        sticky=False,
        fallback=("rate_limit", "crash"),
        restart=True,
        max_attempts=3,
        cooldown_seconds=2.5,
    )
    assert (info.local, info.options.temperature) == (False, 0.1)
    save_config(file, [info])
    assert json.loads(file.read_text()) == [{**given, "local": False}]
    assert load_config(file) == [info]


def test_members_alone_are_enough() -> None:
    info = parse_entry(entry())
    assert info.router == RouterSettings(members=(RouterMember("a"), RouterMember("b")))


@pytest.mark.parametrize(
    ("values", "key", "words"),
    [
        ({"members": None}, "members", "required"),
        ({"members": []}, "members", "at least two"),
        ({"members": ["a"]}, "members", "at least two members (got 1)"),
        ({"members": "a"}, "members", "must be a list"),
        ({"members": {"a": 1}}, "members", "must be a list"),
        ({"members": ["a", "r"]}, "members[1]", "must not contain itself"),
        ({"members": ["a", {"name": "r"}]}, "members[1]", "must not contain itself"),
        ({"members": ["a", "b", "a"]}, "members[2]", "members 0 and 2 are both 'a'"),
        ({"members": ["a", {"name": "a", "weight": 2}]}, "members[1]", "both 'a'"),
        ({"members": ["a", 7]}, "members[1]", "must be a model's name"),
        ({"members": ["a", None]}, "members[1]", "must be a model's name"),
        ({"members": ["a", ""]}, "members[1].name", "must be a model's name"),
        ({"members": ["a", {"weight": 2}]}, "members[1].name", "required"),
        ({"members": ["a", {"name": 3}]}, "members[1].name", "must be a model's name"),
        ({"members": ["a", {"name": "b", "wieght": 2}]}, "members[1].wieght", "mean 'weight'"),
        ({"members": ["a", {"name": "b", "weight": 0}]}, "members[1].weight", "above 0"),
        ({"members": ["a", {"name": "b", "weight": -1}]}, "members[1].weight", "(got -1)"),
        ({"members": ["a", {"name": "b", "weight": "2"}]}, "members[1].weight", "a number"),
        ({"members": ["a", {"name": "b", "weight": True}]}, "members[1].weight", "a number"),
        ({"members": ["a", {"name": "b", "weight": 1e30}]}, "members[1].weight", "at most"),
        ({"members": ["a", {"name": "b", "price": 1}]}, "members[1].price", '{"input": 0.15'),
        (
            {"members": ["a", {"name": "b", "price": {"input": 1}}]},
            "members[1].price.output",
            "req",
        ),
        (
            {"members": ["a", {"name": "b", "price": {"input": -1, "output": 1}}]},
            "members[1].price.input",
            "0 or more",
        ),
        ({"strategy": "least_busy"}, "strategy", "Did you mean 'least-busy'?"),
        ({"strategy": 3}, "strategy", "must be one of"),
        ({"strategy": ["weighted"]}, "strategy", "must be one of"),
        ({"sticky": "yes"}, "sticky", "true or false"),
        ({"restart": 1}, "restart", "true or false"),
        ({"fallback": "server"}, "fallback", "list"),
        ({"fallback": ["timeouts"]}, "fallback[0]", "Did you mean 'timeout'?"),
        ({"max_attempts": 0}, "max_attempts", "1 or more"),
        ({"max_attempts": 2.5}, "max_attempts", "an integer"),
        ({"cooldown_seconds": 0}, "cooldown_seconds", "above 0"),
        ({"base_url": "http://localhost/v1"}, "base_url", "must not be set for a router"),
        ({"load": {"context_length": 9}}, "load", "must not be set for a router"),
        ({"local": True}, "local", "must not be true for a router"),
        ({"name": None}, "name", "required"),
        ({"model_type": "openai"}, "model_type", 'must be "router"'),
        ({"memebrs": ["a"]}, "memebrs", "Did you mean 'members'?"),
        ({"router": {"members": ["a", "b"]}}, "router", 'Put members beside "model_type"'),
        ({"settings": {"strategy": "weighted"}}, "settings", 'Put strategy beside "model_type"'),
        ({"options": {"strategy": "weighted"}}, "options.strategy", 'beside "options"'),
        ({"members": None, "options": {"members": ["a"]}}, "options.members", 'beside "options"'),
        ({"models": ["a", "b"]}, "models", "Did you mean 'members'?"),
        (
            {"members": {"a": 2, "b": {}}},
            "members",
            'such as [{"name": "a", "weight": 2}, "b"]',
        ),
        ({"members": "a, b"}, "members", 'such as ["a", "b"]'),
        ({"members": ["a", ["b", 2]]}, "members[1]", 'write {"name": "b", "weight": 2}'),
        ({"members": [{"a": 2}, "b"]}, "members[0].name", 'write {"name": "a", "weight": 2}'),
        ({"members": [{"model": "a"}, "b"]}, "members[0].name", 'write "name" in place of "model"'),
        (
            {"members": [{"name": "a", "base_url": "http://x"}, "b"]},
            "members[0].base_url",
            "the entry of the model that it names",
        ),
        ({"members": ["a", {"name": "b", "weight": "2"}]}, "members[1].weight", "write 2 without"),
        (
            {"members": ["a", {"name": "b", "price": {"input": "$0.15", "output": 1}}]},
            "members[1].price.input",
            "write 0.15 without quotes",
        ),
        (
            {"members": ["a", {"name": "b", "price": {"prompt": 1, "completion": 2}}]},
            "members[1].price.prompt",
            '{"input": 0.15, "output": 0.6}',
        ),
        ({"weights": [2, 1]}, "weights", '"members": ["a", {"name": "b", "weight": 2}]'),
        ({"price": {"input": 1, "output": 2}}, "price", "Each member has its own"),
        ({"strategy": "round-robin"}, "strategy", "Did you mean 'weighted'?"),
        ({"strategy": "Fastest"}, "strategy", "Did you mean 'lowest-latency'?"),
        ({"strategy": "cost-based-routing"}, "strategy", "Did you mean 'cheapest'?"),
        ({"strategy": "failover"}, "strategy", "Did you mean 'in-order'?"),
        ({"strategy": "usage-based"}, "strategy", "Did you mean 'least-busy'?"),
        ({"sticky": "True"}, "sticky", "write true without quotes"),
        ({"max_attempts": "5"}, "max_attempts", "write 5 without quotes"),
        ({"cooldown": 5}, "cooldown", "Did you mean 'cooldown_seconds'?"),
        ({"num_retries": 5}, "num_retries", "Did you mean 'max_attempts'?"),
        ({"timeout": 5}, "timeout", "max_retry_seconds"),
        ({"fallback": True}, "fallback", "leave it out for the usual ones"),
        ({"fallback": ["b"]}, "fallback[0]", "list the kinds of failures"),
        ({"fallback": [429]}, "fallback[0]", "Did you mean 'rate_limit'?"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(
    values: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_entry(entry(**values))
    assert caught.value.key == key
    assert words in str(caught.value)
    assert caught.value.entry == ("r" if values.get("name", "r") else None)


def test_members_in_an_object_of_their_own_are_told_where_they_belong() -> None:
    with pytest.raises(ConfigError, match='Put members, sticky beside "model_type"'):
        parse_entry({"name": "r", "router": {"members": ["a", "b"], "sticky": True}})


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_weights_that_are_no_numbers_are_refused(weight: str, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(
        '{"name": "r", "model_type": "router", "members": '
        f'["a", {{"name": "b", "weight": {weight}}}]}}'
    )
    with pytest.raises(ConfigError, match=r"members.*weight|members\[1\]"):
        load_config(file)
    with pytest.raises(InvalidOptionError, match="weight"):
        RouterMember("b", float(weight))


async def opened(*infos: Any, **settings: Any) -> ConfigError:
    router = parse_entry(entry(**settings))
    async with ModelManager([*infos, router], open_model=FakeOpener()) as manager:
        with pytest.raises(ConfigError) as caught:
            await manager.load_model("r")
    return caught.value


async def test_a_member_that_nobody_knows_is_told_with_the_closest_names() -> None:
    error = await opened(fake_info("a"), fake_info("llama-small"), members=["a", "lama-small"])
    assert (error.entry, error.key) == ("r", "members[1]")
    assert "Did you mean 'llama-small'?" in str(error)


async def test_a_router_in_a_router_is_refused_and_so_is_a_circle() -> None:
    other = parse_entry({"name": "other", "model_type": "router", "members": ["a", "r"]})
    error = await opened(fake_info("a"), other, members=["a", "other"])
    assert error.key == "members[1]"
    assert "is a router itself; list its members here instead" in str(error)


async def test_two_names_of_one_model_are_no_two_members() -> None:
    error = await opened(fake_info("alpha"), members=["alpha", "alp"])
    assert error.key == "members[1]"
    assert "are the same model" in str(error)
