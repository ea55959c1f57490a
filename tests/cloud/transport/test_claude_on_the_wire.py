"""Claude behind a real connection: what it refused is not sent again, its cache is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.core.errors import BadRequestError


def answer() -> list[str]:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 2000,
        "cache_read_input_tokens": 5000,
        "output_tokens": 3,
    }
    events = [
        {"type": "message_start", "message": {"content": [], "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    return list(map(json.dumps, events))


def refused(message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


async def test_a_refused_option_is_left_out_from_then_on(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        for name in ("temperature", "top_p"):
            if name in request.json:
                await connection.answer(400, refused(f"`{name}` is deprecated for this model."))
                return
        await connection.stream(*answer())

    async with raw_server(script) as server:
        model = make_model(server.url, "anthropic", model="claude-new")
        first = await model.generate("Hi", temperature=0.5, top_p=0.9)
        second = await model.generate("Hi", temperature=0.5)
        third = await model.generate("Hi")
    asked = [{"temperature", "top_p"} & each.json.keys() for each in server.received]
    assert asked == [{"temperature", "top_p"}, {"top_p"}, set(), set(), set()]
    assert first.text == second.text == "Hi"
    assert first.notes == ("temperature and top_p not sent: the model chooses its own sampling",)
    assert second.notes == ("temperature not sent: the model chooses its own sampling",)
    assert third.notes == ()


async def test_a_refusal_that_goes_on_is_told(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(400, refused("`temperature` is deprecated for this model."))

    async with raw_server(script) as server:
        model = make_model(server.url, "anthropic", model="claude-new")
        with pytest.raises(BadRequestError, match="deprecated"):
            await model.generate("Hi", temperature=0.5)
    assert len(server.received) == 2


async def test_the_cache_is_asked_for_and_its_use_is_counted(
    raw_server: Any, make_model: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*answer())

    async with raw_server(script) as server:
        model = make_model(server.url, "anthropic", model="claude-opus-5")
        result = await model.generate("Hi", system="Be brief.")
        await model.generate("Hi", system="Be brief.", prompt_caching=False)
    marked, plain = (json.dumps(each.json) for each in server.received)
    assert marked.count('"cache_control": {"type": "ephemeral"}') == 2
    assert "cache_control" not in plain
    usage = result.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (
        7010,
        5000,
        2000,
    )
