from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbllm.cloud.cloud_model import CloudModel, open_model
from nbllm.cloud.prices import PRICES_VARIABLE
from nbllm.cloud.transport.connections import route_to
from nbllm.core.errors import (
    ApiConnectionError,
    AuthenticationError,
    BadRequestError,
    InvalidOptionError,
    NotFoundError,
    UnsupportedError,
)
from nbllm.core.naming.providers import vendor_model
from nbllm.core.openers import LoadControl
from nbllm.core.types import ImagePart, Message, ModelInfo, TextPart


def load(model_type: str, base_url: str | None = None, **values: Any) -> CloudModel:
    info = ModelInfo(
        **{"name": "mine", "model_type": model_type, "local": False, "base_url": base_url, **values}
    )
    return open_model(info, LoadControl())


# ---------------------------------------------------------------- embeddings


async def test_large_batches_are_split_and_come_back_in_order(
    raw_server: Any, make_model: Any
) -> None:
    under_way = most = 0

    async def script(request: Any, connection: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        texts = request.json["input"]
        await asyncio.sleep(0.05 if texts[0] == "0" else 0)  # the first batch answers last
        data = [
            {"index": n, "embedding": base64.b64encode(struct.pack("<2f", float(t), 1)).decode()}
            for n, t in enumerate(texts)
        ]
        under_way -= 1
        await connection.answer(200, {"data": data[::-1], "usage": {"prompt_tokens": len(texts)}})

    async with raw_server(script) as server:
        found = await make_model(server.url).embed([str(n) for n in range(12_000)], normalize=False)
    assert found.vectors.dtype == np.float32
    assert found.vectors[:, 0].tolist() == list(range(12_000))
    assert found.usage.prompt_tokens == 12_000
    assert len(server.received) == 6
    assert 1 < most <= 4


async def test_one_text_gives_one_vector(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert request.json["input"] == ["a"]
        await connection.answer(200, {"data": [{"index": 0, "embedding": [1.5, 2.5]}]})

    async with raw_server(script) as server:
        found = await make_model(server.url).embed("a", normalize=False)
    assert found.vectors.tolist() == [[1.5, 2.5]]


async def test_the_first_failed_batch_stops_the_others(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        if request.json["input"][0] == "0":
            await connection.answer(400, {"error": {"message": "no such dimension"}})
        else:
            await connection.wait_closed()

    async with raw_server(script) as server:
        with pytest.raises(BadRequestError, match="no such dimension"):
            await make_model(server.url).embed([str(n) for n in range(12_000)], normalize=False)
        assert len(server.received) <= 4


async def test_a_busy_embedder_is_asked_again(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        if len(server.received) == 1:
            await connection.answer(503, {"error": {"message": "busy"}})
        else:
            await connection.answer(200, {"data": [{"index": 0, "embedding": [1.0]}]})

    async with raw_server(script) as server:
        assert (await make_model(server.url).embed("a")).vectors.tolist() == [[1.0]]


async def test_a_vendor_without_embeddings_says_what_to_use(make_model: Any) -> None:
    with pytest.raises(UnsupportedError):
        await make_model("http://127.0.0.1:9", "anthropic").embed("a")


# ---------------------------------------------------------------- counting


async def test_the_vendor_counts_exactly(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert request.path == "/v1/messages/count_tokens"
        await connection.answer(200, {"input_tokens": 17})

    async with raw_server(script) as server:
        count = await make_model(server.url, "anthropic").count_tokens("Hi", system="Be kind.")
    assert (count.tokens, count.exact) == (17, True)


async def test_a_server_without_a_counter_gets_a_labelled_estimate(
    raw_server: Any, make_model: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(404, {"error": {"message": "no such route"}})

    async with raw_server(script) as server:
        for vendor in ("anthropic", "openai"):
            count = await make_model(server.url, vendor).count_tokens("Hello there")
            assert not count.exact
            assert "estimate" in str(count)


async def test_a_text_alone_is_estimated_without_a_request(make_model: Any) -> None:
    model = make_model("http://127.0.0.1:9", "anthropic")
    count = await model.count_tokens("Hello there", template=False)
    assert (count, count.exact) == (3, False)
    for wrong in ({"prompt": [Message("user", "Hi")]}, {"prompt": "Hi", "system": "Be kind."}):
        with pytest.raises(InvalidOptionError, match="template"):
            await model.count_tokens(**wrong, template=False)


async def test_estimates_are_of_the_right_size(make_model: Any) -> None:
    model = make_model("http://127.0.0.1:9")

    async def estimate(*content: Any) -> int:
        return (await model.count_tokens([Message("user", content)])).tokens

    english = await estimate(TextPart("The quick brown fox jumps over the lazy dog. " * 100))
    assert 800 <= english <= 1_500  # it is 1,000 for the vocabulary of GPT-4o
    chinese = await estimate(TextPart("敏捷的棕色狐狸跳过懒狗。" * 100))
    assert 700 <= chinese <= 1_500
    assert await estimate(TextPart("a"), ImagePart(data=b"x")) > 500


# ---------------------------------------------------------------- what a server serves


def models_of(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [{"object": "model", **entry} for entry in entries]}


SERVERS = [
    ("vllm", {"id": "Qwen/Qwen3-8B", "max_model_len": 40_960}, 40_960),
    ("llama-server", {"id": "qwen3.gguf", "meta": {"n_ctx_train": 32_768}}, 32_768),
    ("lm-studio", {"id": "qwen3-8b", "max_context_length": 4_096}, 4_096),
    ("openai-compatible", {"id": "anything"}, None),
]


@pytest.mark.parametrize(("model_type", "entry", "length"), SERVERS)
def test_a_server_tells_its_model_and_context_when_it_is_loaded(
    threaded_server: Callable[[Any], str],
    model_type: str,
    entry: dict[str, Any],
    length: int | None,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert "authorization" not in request.headers
        await connection.answer(200, models_of(entry))

    model = load(model_type, threaded_server(script))
    assert (model.info.name, model.info.model) == ("mine", entry["id"])
    assert model.info.context_length == length


def test_what_the_config_says_stays(threaded_server: Callable[[Any], str]) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(
            200, models_of({"id": "a", "max_model_len": 8}, {"id": "b", "max_model_len": 9})
        )

    model = load("vllm", threaded_server(script), model="b", context_length=7)
    assert (model.info.model, model.info.context_length) == ("b", 7)


async def test_a_server_that_is_down_at_load_is_asked_with_the_first_request(
    raw_server: Any, unused_tcp_port: int, say: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        if request.method == "GET":
            await connection.answer(200, models_of({"id": "real", "max_model_len": 512}))
        else:
            assert request.json["model"] == "real"
            await connection.stream(*say("Hello"))

    model = await asyncio.to_thread(load, "vllm", f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ApiConnectionError, match="Is the server running"):
        await model.generate("Hi", max_retry_seconds=0)
    async with raw_server(script) as server:
        model._transport._route = route_to("mine", f"{server.url}/v1")
        assert (await model.generate("Hi")).text == "Hello"
        assert model.info.context_length == 512
        await model.aclose()


async def test_a_server_of_several_models_names_them(raw_server: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(200, models_of({"id": "a"}, {"id": "b"}))

    async with raw_server(script) as server:
        model = await asyncio.to_thread(load, "openai-compatible", server.url)
        with pytest.raises(NotFoundError, match="It has a, b"):
            await model.generate("Hi", max_retry_seconds=0)
        await model.aclose()


async def test_a_server_without_a_list_is_asked_by_the_name(raw_server: Any, say: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        if request.method == "GET":
            await connection.answer(404, {"detail": "Not Found"})
        else:
            assert request.json["model"] == "mine"
            await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        model = await asyncio.to_thread(load, "openai-compatible", server.url)
        assert (await model.generate("Hi")).text == "Hello"
        assert (await model.generate("Hi")).text == "Hello"
        assert [r.method for r in server.received].count("GET") == 2  # at load and once more
        await model.aclose()


async def test_models_are_listed_page_by_page(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        if "pageToken=next" in request.path:
            await connection.answer(200, {"models": [{"name": "models/two"}]})
        else:
            page = {"models": [{"name": "models/one"}], "nextPageToken": "next"}
            await connection.answer(200, page)

    async with raw_server(script) as server:
        listed = await make_model(server.url, "gemini").list_models()
    assert [info.name.removeprefix("models/") for info in listed] == ["one", "two"]


# ---------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("gpt-4o", "OPENAI_API_KEY"),
        ("claude-sonnet-5-5", "ANTHROPIC_API_KEY"),
        ("gemini-2.5-flash", "GEMINI_API_KEY"),
    ],
)
def test_without_a_key_a_vendors_model_says_how_to_set_it(
    name: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    info = vendor_model(name)
    assert info is not None
    with pytest.raises(AuthenticationError, match=f'os.environ\\["{variable}"\\] = getpass'):
        open_model(info, LoadControl())


def test_with_a_key_a_vendors_model_opens_though_nobody_can_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "AIza-0123456789")
    info = vendor_model("gemini/gemini-2.5-flash")
    assert info is not None
    model = open_model(info, LoadControl())
    assert model.info is info
    assert model.unready is not None  # the network is blocked here
    assert "generativelanguage.googleapis.com" in model.unready


def test_a_server_of_no_kind_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InvalidOptionError, match="base_url"):
        load("openai-compatible")


def test_a_type_that_is_neither_vendor_nor_server_names_those_there_are() -> None:
    with pytest.raises(InvalidOptionError, match=r"anthropic.*openai-compatible"):
        load("mistral", "http://localhost:8000")


async def test_an_answer_costs_what_the_users_table_says(
    raw_server: Any, make_model: Any, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        seller = server.url.removeprefix("http://")
        file = tmp_path / "prices.json"
        file.write_text(json.dumps({"models": {seller: {"m": {"input": 1e6, "output": 5e5}}}}))
        monkeypatch.setenv(PRICES_VARIABLE, str(file))
        result = await make_model(server.url).generate("Hi")
    assert result.usage.cost_usd == pytest.approx(7 + 0.5)
