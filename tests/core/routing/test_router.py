"""Routers with fakes: who is asked, what follows a failure, and what the result tells of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from nbllm import ModelManager
from nbllm.core import errors
from nbllm.core.openers import LoadControl
from nbllm.core.routing.router import Router
from nbllm.core.routing.router_settings import RouterMember, RouterSettings
from nbllm.core.types import (
    Completed,
    FinishReason,
    GenerationOptions,
    Message,
    ModelInfo,
    RetryScheduled,
    RouteChosen,
    TextDelta,
)
from nbllm.testing import FakeModel, fake_info

BUSY = errors.RateLimitError("a", "slow down", retryable=True, retry_after_seconds=30.0)


class Stage:
    """A manager with the members a, b and c, and routers of them."""

    def __init__(self) -> None:
        self.how: dict[str, dict[str, Any]] = {name: {} for name in "abc"}
        self.infos = {name: fake_info(name) for name in "abc"}
        self.load_errors: dict[str, Exception] = {}
        self.models: dict[str, FakeModel] = {}
        self.manager: ModelManager

    def open(self, info: ModelInfo, control: LoadControl) -> FakeModel:
        if info.name in self.load_errors:
            raise self.load_errors[info.name]
        given = {"text": f"I am {info.name} of them.", **self.how[info.name]}
        self.models[info.name] = FakeModel(info, **given)
        return self.models[info.name]

    async def router(self, *, options: GenerationOptions | None = None, **settings: Any) -> Router:
        members = settings.pop("members", tuple(map(RouterMember, "abc")))
        router = ModelInfo(
            name="r",
            model_type="router",
            local=False,
            options=options or GenerationOptions(),
            router=RouterSettings(members=members, **settings),
        )
        infos = [*self.infos.values(), router]
        self.manager = ModelManager(infos, open_model=self.open)
        model, _ = await self.manager.load_model("r")
        assert isinstance(model, Router)
        return model

    def heal(self, name: str) -> None:
        self.models[name]._error = None

    def fail(self, name: str, error: Exception) -> None:
        self.models[name]._error = error

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(model.requests) for name, model in self.models.items()}


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.manager.aclose()


async def test_the_first_member_answers_and_the_result_says_so(stage: Stage) -> None:
    router = await stage.router()
    result = await router.generate("Hi")
    assert (result.text, result.model) == ("I am a of them.", "a")
    assert result.route is not None
    assert (result.route.router, result.route.member, result.route.failures) == ("r", "a", ())
    assert str(result.route) == "via r (first in order)"
    assert list(stage.models) == ["a"]  # the others are loaded when they are needed


async def test_one_record_tells_of_one_answer_and_names_the_member(stage: Stage) -> None:
    stage.how["a"]["error"] = BUSY
    router = await stage.router()
    await router.generate("Hi")
    (record,) = stage.manager.history
    assert (record.model, record.error) == ("b", None)
    assert record.route is not None
    assert [each.member for each in record.route.tries] == ["a", "b"]
    assert stage.manager.activity.running() == []
    assert set(stage.manager.activity.tokens_by_device()) == {stage.models["b"].device}


async def test_the_router_stays_the_model_used_last(stage: Stage) -> None:
    router = await stage.router()
    await router.generate("Hi")
    assert stage.manager.get_model() is router


async def test_defaults_of_a_member_stand_behind_the_routers_and_the_callers(stage: Stage) -> None:
    own = GenerationOptions(temperature=0.1, top_p=0.5, max_tokens=2)
    stage.infos["a"] = fake_info("a", options=own)
    router = await stage.router(options=GenerationOptions(top_p=0.7, max_tokens=4))
    await router.generate("Hi", max_tokens=3)
    asked = stage.models["a"].requests[0]
    assert asked.model.name == "a"
    options = asked.options
    assert (options.temperature, options.top_p, options.max_tokens) == (0.1, 0.7, 3)


FALLBACKS = {
    "rate_limit": errors.RateLimitError("a", "no", retryable=True),
    "overload": errors.EngineBusyError("a", "no"),
    "timeout": errors.ApiTimeoutError("a", "no", retryable=True),
    "server": errors.ServerError("a", "no", retryable=True),
    "connection": errors.ApiConnectionError("a", "no", retryable=True),
    "context_length": errors.ContextLengthError("a", "no"),
    "crash": errors.EngineCrashedError("a", "no"),
    "quota": errors.QuotaError("a", "no"),
    "authentication": errors.AuthenticationError("a", "no"),
    "not_found": errors.NotFoundError("a", "no"),
    "budget": errors.BudgetError("a", "no", budget="a"),
    "unsupported": errors.UnsupportedError("a", "no"),
}


@pytest.mark.parametrize("kind", FALLBACKS)
async def test_another_member_is_asked_after_a_failure_that_is_listed(
    stage: Stage, kind: str
) -> None:
    stage.how["a"]["error"] = FALLBACKS[kind]
    stage.infos["b"] = fake_info("b", context_length=10**6)
    router = await stage.router(fallback=(kind,))
    result = await router.generate("Hi")
    assert result.text == "I am b of them."
    assert result.route is not None
    (failure,) = result.route.failures
    assert (failure.member, failure.failure) == ("a", kind)
    assert "no" in failure.problem
    assert str(result.route) == f"via r (a: {kind.replace('_', ' ')})"


@pytest.mark.parametrize("kind", ["context_length", "crash", "quota", "unsupported"])
async def test_what_is_not_listed_is_raised_as_it_is(stage: Stage, kind: str) -> None:
    stage.how["a"]["error"] = FALLBACKS[kind]
    router = await stage.router(fallback=("rate_limit",))
    with pytest.raises(type(FALLBACKS[kind])) as caught:
        await router.generate("Hi")
    assert caught.value is FALLBACKS[kind]
    assert list(stage.models) == ["a"]


async def test_the_fault_of_a_request_is_raised_at_once_and_cools_nobody(stage: Stage) -> None:
    stage.how["a"]["error"] = errors.BadRequestError("a", "no such option")
    router = await stage.router()
    with pytest.raises(errors.BadRequestError):
        await router.generate("Hi")
    assert stage.asked == {"a": 1}
    assert {each.health for each in router.members} == {"healthy"}


async def test_a_member_that_does_not_fit_is_passed_over(stage: Stage) -> None:
    problem = errors.DoesNotFitError("a", "too large", needed_bytes=2, available_bytes=1)
    stage.load_errors["a"] = problem
    router = await stage.router()
    result = await router.generate("Hi")
    assert result.route is not None
    assert [each.failure for each in result.route.tries] == ["does_not_fit", None]
    assert [each.health for each in router.members] == ["cooling", "healthy", "healthy"]


async def test_a_member_that_was_unloaded_is_loaded_again(stage: Stage) -> None:
    router = await stage.router()
    await router.generate("Hi")
    await stage.manager.unload_model("a")
    result = await router.generate("Hi again")
    assert result.route is not None
    assert (result.model, result.route.failures) == ("a", ())


async def test_a_longer_context_is_looked_for_and_the_error_raised_where_there_is_none(
    stage: Stage,
) -> None:
    for name, length in zip("abc", (4_096, 2_048, 8_192), strict=True):
        stage.infos[name] = fake_info(name, context_length=length)
    stage.how["a"]["error"] = errors.ContextLengthError("a", "too long", context_length=4_096)
    router = await stage.router()
    assert (await router.generate("Hi")).model == "c"
    assert set(stage.models) == {"a", "c"}  # b is shorter still
    too_long = errors.ContextLengthError("c", "too long", context_length=8_192)
    stage.fail("c", too_long)
    with pytest.raises(errors.ContextLengthError) as caught:
        await router.generate("Hi")
    assert caught.value is too_long


async def test_the_delay_of_a_server_is_obeyed_and_the_first_choice_returned_to(
    stage: Stage,
) -> None:
    stage.how["a"]["error"] = errors.RateLimitError(
        "a", "slow down", retryable=True, retry_after_seconds=0.2
    )
    router = await stage.router()
    began = time.monotonic()
    await router.generate("Hi")
    while time.monotonic() - began < 0.15:
        assert (await router.generate("Hi")).model == "b"
        await asyncio.sleep(0.01)
    assert stage.asked["a"] == 1
    stage.heal("a")
    await asyncio.sleep(0.1)
    assert (await router.generate("Hi")).model == "a"


async def test_all_cooling_waits_for_the_earliest_and_tells_it(stage: Stage) -> None:
    router = await stage.router(members=(RouterMember("a"), RouterMember("b")))
    await router.generate("Hi")
    await stage.manager.load_model("b")
    for name, seconds in (("a", 5.0), ("b", 0.15)):
        problem = f"slow down, {name}"
        delay = {"retryable": True, "retry_after_seconds": seconds}
        stage.fail(name, errors.RateLimitError(name, problem, **delay))
    began, seen = time.monotonic(), []
    async with aclosing(router.stream("Hi", max_retry_seconds=2)) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event, RetryScheduled):
                stage.heal("b")
    assert 0.14 < time.monotonic() - began < 1.5
    result = seen[-1].result  # type: ignore[union-attr]
    assert (result.model, result.route.waited_seconds) == ("b", pytest.approx(0.15, abs=0.05))
    assert result.timings.first_token_seconds > 0.14  # as the reader saw it
    (wait,) = [event for event in seen if isinstance(event, RetryScheduled)]
    assert 0.1 < wait.delay_seconds <= 0.15


async def test_where_no_wait_is_short_enough_each_members_reason_is_told_at_once(
    stage: Stage,
) -> None:
    stage.how["a"]["error"] = BUSY
    stage.how["b"]["error"] = errors.ServerError("b", "it broke", retryable=True)
    router = await stage.router(members=(RouterMember("a"), RouterMember("b")), cooldown_seconds=9)
    began = time.monotonic()
    with pytest.raises(errors.RouterError) as caught:
        await router.generate("Hi", max_retry_seconds=3)
    assert time.monotonic() - began < 1
    error = caught.value
    assert set(error.reasons) == {"a", "b"}
    assert "slow down" in error.reasons["a"]
    assert "it broke" in error.reasons["b"]
    assert error.retry_after_seconds == pytest.approx(9, abs=1)
    with pytest.raises(errors.RouterError, match="rate limit"):  # from what is remembered
        await router.generate("Hi", max_retry_seconds=0)
    assert stage.asked == {"a": 1, "b": 1}


async def test_one_budget_of_attempts_holds_for_all_members_together(stage: Stage) -> None:
    for name in "abc":
        stage.how[name]["error"] = errors.ServerError(name, "it broke", retryable=True)
    router = await stage.router(max_attempts=4, cooldown_seconds=0.001)
    with pytest.raises(errors.RouterError, match=r"4 attempts \(max_attempts\)"):
        await router.generate("Hi")
    assert sum(stage.asked.values()) == 4


async def test_a_failure_that_is_not_listed_but_passes_is_tried_again_at_the_same_member(
    stage: Stage,
) -> None:
    stage.how["a"]["error"] = errors.ServerError("a", "it broke", retryable=True)
    router = await stage.router(fallback=(), max_attempts=3, cooldown_seconds=0.01)
    with pytest.raises(errors.RouterError):
        await router.generate("Hi")
    assert stage.asked == {"a": 3}


async def test_after_the_first_token_nobody_else_is_asked(stage: Stage) -> None:
    broken = errors.InterruptedStreamError("a", "it broke", retryable=True)
    stage.how["a"].update(error=broken, fail_after=2)
    router = await stage.router()
    with pytest.raises(errors.InterruptedStreamError) as caught:
        await router.generate("Hi")
    assert caught.value.partial_text == "I am"
    assert list(stage.models) == ["a"]


async def test_an_answer_that_broke_off_begins_anew_where_the_entry_says_so(stage: Stage) -> None:
    broken = errors.InterruptedStreamError("a", "it broke", retryable=True)
    stage.how["a"].update(error=broken, fail_after=2)
    router = await stage.router(restart=True)
    seen = [event async for event in router.stream("Hi")]
    result = seen[-1].result  # type: ignore[union-attr]
    assert (result.text, result.model, result.route.restarted) == ("I am b of them.", "b", True)
    assert "a broke off, so b began anew" in result.notes
    routes = [event for event in seen if isinstance(event, RouteChosen) and not event.device]
    assert [(each.route.member, each.restarts) for each in routes] == [("a", False), ("b", True)]
    assert len(stage.models["b"].requests[0].messages) == 1  # nothing is invented to go on from


async def test_whoever_watches_sees_the_new_answer_alone(stage: Stage) -> None:
    from nbllm.core.generation import Generation, NewText

    broken = errors.InterruptedStreamError("a", "it broke", retryable=True)
    stage.how["a"].update(error=broken, fail_after=2)
    router = await stage.router(restart=True)
    generation = Generation()
    new, shown = NewText(generation), ""
    async for _ in router.stream("Hi", generation=generation):
        shown += new.take()
    assert generation.text == "I am b of them."
    assert shown.startswith("I am")
    assert shown.endswith("I am b of them.")
    assert "b begins anew" in shown


async def test_a_stopped_request_leaves_no_trace_in_the_counts(stage: Stage) -> None:
    stage.how["a"]["token_seconds"] = 0.01
    router = await stage.router()
    for _ in range(5):
        async with aclosing(router.stream("Hi")) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
    tasks = [asyncio.ensure_future(router.generate("Hi")) for _ in range(5)]
    await asyncio.sleep(0.005)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [each.running for each in router.members] == [0, 0, 0]
    assert {each.health for each in router.members} == {"healthy"}


async def test_many_at_once_are_spread_over_the_least_busy(stage: Stage) -> None:
    for name in "abc":
        stage.how[name]["token_seconds"] = 0.002
    router = await stage.router(strategy="least-busy")
    results = await asyncio.gather(*(router.generate(f"Hi {i}") for i in range(30)))
    assert Counter(result.model for result in results) == {"a": 10, "b": 10, "c": 10}
    assert [each.running for each in router.members] == [0, 0, 0]


@pytest.mark.parametrize("strategy", ["least-busy", "weighted", "lowest-latency"])
async def test_the_turns_of_a_conversation_stay_with_one_member(
    stage: Stage, strategy: str
) -> None:
    router = await stage.router(strategy=strategy)
    homes = []
    for number in range(6):
        turns, members = [Message("user", f"Conversation {number}")], set()
        for turn in range(4):
            result = await router.generate(turns)
            members.add(result.model)
            turns += [result.message, Message("user", f"Turn {turn}")]
        homes.append(members)
    assert all(len(members) == 1 for members in homes)
    if strategy != "lowest-latency":
        assert len(set.union(*homes)) == 3


async def test_prompts_with_the_same_examples_are_spread_all_the_same(stage: Stage) -> None:
    router = await stage.router(strategy="least-busy")
    examples = [Message("user", "1 + 1"), Message("assistant", "2")]
    answers = [
        await router.generate([*examples, Message("user", f"{number} + 1")]) for number in range(6)
    ]
    assert Counter(each.model for each in answers) == {"a": 2, "b": 2, "c": 2}


async def test_a_conversation_goes_home_when_its_member_is_well_again(stage: Stage) -> None:
    router = await stage.router(strategy="weighted", cooldown_seconds=0.05)
    first = await router.generate("Hi")
    turns = [Message("user", "Hi"), first.message, Message("user", "And now?")]
    stage.fail(first.model, errors.ServerError(first.model, "it broke", retryable=True))
    away = await router.generate(turns)
    assert away.model != first.model
    stage.heal(first.model)
    await asyncio.sleep(0.06)
    later = [*turns, away.message, Message("user", "And later?")]
    assert (await router.generate(later)).model == first.model


async def test_a_kept_answer_is_the_members_and_not_the_routers(stage: Stage) -> None:
    router = await stage.router(members=(RouterMember("a"), RouterMember("b")))
    stage.manager.cache.mode = "on"
    await router.generate("Hi", temperature=0)
    latency = router.members[0].latency
    again = await router.generate("Hi", temperature=0)
    assert again.route is not None
    assert again.model == "a"
    assert stage.asked == {"a": 1}
    assert router.members[0].latency == latency  # a kept answer tells nothing of speed
    stage.fail("a", BUSY)
    assert (await router.generate("Other", temperature=0)).model == "b"
    kept = await stage.models["a"].generate("Hi", temperature=0)
    assert kept.text == "I am a of them."


async def test_an_unloaded_router_ends_its_answers_and_leaves_the_members(stage: Stage) -> None:
    stage.how["a"].update(token_seconds=0.02)
    router = await stage.router()
    task = asyncio.ensure_future(router.generate("Hi"))
    await asyncio.sleep(0.06)
    await stage.manager.unload_model("r")
    with pytest.raises(errors.ModelClosedError):
        await task
    assert [info.name for info in stage.manager.list_loaded_models()] == ["a"]


async def test_a_schema_is_kept_across_a_fallback(stage: Stage) -> None:
    stage.how["a"]["error"] = BUSY
    stage.how["b"]["text"] = '{"n": 3}'
    router = await stage.router()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert (await router.generate("Hi", schema=schema)).value == {"n": 3}


async def test_the_status_of_a_router_tells_how_its_members_do(stage: Stage) -> None:
    stage.how["a"]["error"] = BUSY
    router = await stage.router()
    await router.generate("Hi")
    (status,) = [each for each in stage.manager.list_statuses() if each.info.name == "r"]
    words = [str(each) for each in status.members]
    assert words == ["a rests for 30 s (rate limit)", "b ready", "c ready"]
    others = [each for each in stage.manager.list_statuses() if each.info.name != "r"]
    assert [each.members for each in others] == [(), ()]


async def test_labels_are_asked_for_in_words_once_where_a_member_tells_no_probabilities(
    stage: Stage,
) -> None:
    stage.how["a"]["text"] = '{"urgent": "yes"}'
    router = await stage.router()
    result = await router.decide("Help!", {"urgent": bool})
    assert result.value == {"urgent": True}
    (asked,) = stage.models["a"].requests
    assert "".join(message.text for message in asked.messages).count("urgent") == 1


async def test_tokens_are_estimated_and_vectors_refused_with_the_way_out(stage: Stage) -> None:
    router = await stage.router()
    count = await router.count_tokens("Four words are here.")
    assert (count.exact, 4 <= count <= 12) == (False, True)
    for asked in (router.embed(["text"]), router.tokenize("text")):
        with pytest.raises(errors.UnsupportedError, match="such as a"):
            await asked


async def test_a_stopped_answer_names_the_member_that_wrote_it(stage: Stage) -> None:
    from nbllm.core.generation import Generation

    stage.how["a"]["token_seconds"] = 0.01
    router = await stage.router()
    generation = Generation()
    seen = []
    async for event in router.stream("Hi", generation=generation):
        seen.append(event)
        if isinstance(event, TextDelta):
            generation.cancel()
    assert isinstance(seen[-1], Completed)
    result = seen[-1].result
    assert (result.model, result.finish_reason) == ("a", FinishReason.CANCELLED)
