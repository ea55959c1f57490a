"""Routers of servers, on the wire: each attempt is one request, and nothing repeats on its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from nbllm import ModelInfo, ModelManager
from nbllm.core import errors
from nbllm.core.routing.router_settings import RouterMember, RouterSettings

BUSY = {"error": {"message": "slow down", "type": "requests"}}
BROKEN = {"error": {"message": "it broke", "type": "server_error"}}


def router_of(url: str, names: str, **settings: Any) -> ModelManager:
    """A manager with servers of these names at one address, and their router."""
    infos = [
        ModelInfo(
            name=name, model_type="openai-compatible", local=False, base_url=f"{url}/{name}/v1"
        )
        for name in names
    ]
    router = RouterSettings(members=tuple(map(RouterMember, names)), **settings)
    entry = ModelInfo(name="r", model_type="router", local=False, router=router)
    return ModelManager([*infos, entry])


class Script:
    """Answers for each member as it is told; ``asked`` counts the requests for answers."""

    def __init__(self, say: Callable[..., list[str]], **how: Any) -> None:
        self.asked: Counter[str] = Counter()
        self._say, self.how = say, how

    async def __call__(self, request: Any, connection: Any) -> None:
        name = request.path.split("/")[1]
        if request.method == "GET":
            await connection.answer(404)
            return
        self.asked[name] += 1
        answer = self.how.get(name)
        if answer is None:
            await connection.stream(*self._say("I am ", name))
        elif answer == "break off":
            await connection.stream(*self._say("I am ", "not")[:2], end=False)
            connection.drop()
        elif answer == "break before":
            connection.drop()
        else:
            await connection.answer(*answer[:2], **(answer[2] if len(answer) > 2 else {}))


async def test_a_failing_member_gets_one_request_and_not_its_own_retries(
    raw_server: Any, say: Callable[..., list[str]]
) -> None:
    script = Script(say, a=(500, BROKEN), b="break before")
    async with raw_server(script) as server, router_of(server.url, "abc") as manager:
        router, _ = await manager.load_model("r")
        result = await router.generate("Hi")
    assert (result.text, script.asked) == ("I am c", {"a": 1, "b": 1, "c": 1})
    assert result.route is not None
    assert [each.failure for each in result.route.tries] == ["server", "connection", None]


async def test_all_members_together_get_as_many_requests_as_one_budget_allows(
    raw_server: Any, say: Callable[..., list[str]]
) -> None:
    script = Script(say, a=(500, BROKEN), b=(503, BROKEN))
    async with raw_server(script) as server:
        manager = router_of(server.url, "ab", max_attempts=5, cooldown_seconds=0.01)
        async with manager:
            router, _ = await manager.load_model("r")
            with pytest.raises(errors.RouterError) as caught:
                await router.generate("Hi")
    assert script.asked.total() == 5
    assert "it broke" in caught.value.reasons["a"]


async def test_the_delay_in_a_response_is_waited_for_where_nobody_else_is_there(
    raw_server: Any, say: Callable[..., list[str]]
) -> None:
    script = Script(say, a=(429, BUSY, {"retry_after": "1"}), b=(401, BROKEN))
    async with (
        raw_server(script) as server,
        router_of(server.url, "ab", fallback=("rate_limit", "authentication")) as manager,
    ):
        router, _ = await manager.load_model("r")
        began = time.monotonic()
        with pytest.raises(errors.RouterError):
            await router.generate("Hi", max_retry_seconds=0.5)
        assert time.monotonic() - began < 0.5  # no wait is begun that cannot help
        script.how["a"] = None
        result = await router.generate("Hi", max_retry_seconds=5)
        assert time.monotonic() - began >= 0.99
    assert (result.text, script.asked) == ("I am a", {"a": 2, "b": 1})


@pytest.mark.parametrize("restart", [False, True])
async def test_a_stream_that_broke_off_is_raised_or_begun_anew(
    raw_server: Any, say: Callable[..., list[str]], restart: bool
) -> None:
    script = Script(say, a="break off")
    async with (
        raw_server(script) as server,
        router_of(server.url, "ab", restart=restart) as manager,
    ):
        router, _ = await manager.load_model("r")
        if restart:
            result = await router.generate("Hi")
            assert (result.text, result.model) == ("I am b", "b")
            assert "a broke off, so b began anew" in result.notes
        else:
            with pytest.raises(errors.ApiError) as caught:
                await router.generate("Hi")
            assert caught.value.partial_text.startswith("I am")
            assert script.asked == {"a": 1}
