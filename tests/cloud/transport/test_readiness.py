"""A model is called ready once its server has answered, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nbllm.cloud.cloud_model import CloudModel, open_model
from nbllm.cloud.transport.connections import route_to
from nbllm.core.errors import ApiConnectionError, AuthenticationError, ProtocolError
from nbllm.core.openers import LoadControl
from nbllm.core.types import ModelInfo
from nbllm.notebook.status_messages import ready_words


def load(model_type: str, base_url: str | None, **values: Any) -> CloudModel:
    info = ModelInfo(name="m", model_type=model_type, local=False, base_url=base_url, **values)
    return open_model(info, LoadControl())


KINDS = ["openai", "anthropic", "gemini", "vllm", "openai-compatible"]


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"data": [{"id": "m"}], "models": [{"name": "m"}]}),
        (404, {"detail": "Not Found"}),
        (403, {"error": {"message": "Missing scopes: api.model.read"}}),
        (405, b"Method Not Allowed"),
        (429, {"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}),
        (500, b""),
        (200, {"status": "ok"}),
        (200, b"<html></html>"),
    ],
)
def test_whoever_answers_is_there(
    threaded_server: Callable[[Any], str], model_type: str, status: int, body: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert request.method == "GET"
        await connection.answer(status, body)

    model = load(model_type, threaded_server(script))
    assert model.unready is None
    assert ready_words(model.info, 0.1, model.unready).startswith("m ready on the server 127.0.0.1")
    asyncio.run(model.aclose())


@pytest.mark.parametrize("model_type", KINDS)
def test_a_refused_key_is_told_at_once(
    threaded_server: Callable[[Any], str], model_type: str
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(401, {"error": {"message": "Invalid API key"}})

    with pytest.raises(AuthenticationError, match="Invalid API key"):
        load(model_type, threaded_server(script))


@pytest.mark.parametrize("model_type", KINDS)
def test_where_nobody_answers_nothing_is_called_ready(
    unused_tcp_port: int, model_type: str
) -> None:
    model = load(model_type, f"http://127.0.0.1:{unused_tcp_port}")
    told = ready_words(model.info, 0.1, model.unready)
    assert told.startswith("m loaded, but not ready yet: no connection to http://127.0.0.1")
    assert "Is the server running" in told
    with pytest.raises(ApiConnectionError):
        asyncio.run(model.generate("Hi", max_retry_seconds=0))
    asyncio.run(model.aclose())


async def test_it_is_ready_once_it_has_answered(
    raw_server: Any, unused_tcp_port: int, say: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    model = load("openai", f"http://127.0.0.1:{unused_tcp_port}/v1")
    assert model.unready is not None
    async with raw_server(script) as server:
        model._transport._route = route_to("m", f"{server.url}/v1")
        await model.generate("Hi")
    assert model.unready is None
    await model.aclose()


def test_a_load_that_nobody_waits_for_asks_nobody(threaded_server: Callable[[Any], str]) -> None:
    async def script(request: Any, connection: Any) -> None:
        raise AssertionError("nobody is to be asked")

    control = LoadControl()
    control.cancelled.set()
    info = ModelInfo(name="m", model_type="openai", local=False, base_url=threaded_server(script))
    assert open_model(info, control).unready is None


def test_the_usual_address_is_asked(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{unused_tcp_port}")
    model = load("ollama", None)
    assert model.unready is not None
    assert f"http://127.0.0.1:{unused_tcp_port}" in model.unready
    assert model.device == "127.0.0.1"


async def test_fewer_vectors_than_texts_are_an_error(raw_server: Any, make_model: Any) -> None:
    answers: list[Any] = []

    async def script(request: Any, connection: Any) -> None:
        await connection.answer(200, answers[-1])

    async with raw_server(script) as server:
        model = make_model(server.url)
        for vectors, problem in ((1, "1 embeddings"), (3, "3 embeddings"), (0, "no embeddings")):
            answers.append({"data": [{"index": n, "embedding": [1.0]} for n in range(vectors)]})
            with pytest.raises(ProtocolError, match=problem):
                await model.embed(["a", "b"])
        assert (await model.embed([])).vectors.shape[0] == 0
