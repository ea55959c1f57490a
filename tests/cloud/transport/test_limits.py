"""Servers that answer without an end, too slowly, or in a form that unpacks to gigabytes."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from nbllm.cloud import addresses
from nbllm.cloud.transport import http_transport, responses
from nbllm.core.errors import ApiError, ApiTimeoutError, ProtocolError, ServerError

JSON = "application/json"
KINDS = ("openai", "anthropic", "gemini")


async def provoke(asked: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await asked
    return caught.value


def endless(content_type: str, piece: bytes, status: int = 200, **headers: str) -> Any:
    """A script that sends ``piece`` again and again until the client has had enough."""

    async def script(request: Any, connection: Any) -> None:
        lines = {"content-type": content_type, **headers}
        shown = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        await connection.raw(f"HTTP/1.1 {status} X\r\n{shown}\r\n".encode())
        while True:
            await connection.raw(piece)

    return script


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits, 64 times smaller."""
    monkeypatch.setattr(responses, "ANSWER_LIMIT", responses.ANSWER_LIMIT // 64)
    monkeypatch.setattr(responses, "STREAM_LIMIT", responses.STREAM_LIMIT // 64)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_endless_json_answer_ends_at_the_limit(
    raw_server: Any, make_model: Any, small: None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", "sk-0123456789")
    async with raw_server(endless(JSON, b"[" * 2**16)) as server:
        error = await provoke(make_model(server.url, kind).generate("Hi"))
    assert isinstance(error, ProtocolError)
    assert "aborted after 1 MiB" in str(error)


@pytest.mark.parametrize("ask", ["embed", "list_models", "count_tokens"])
async def test_so_do_all_other_answers(raw_server: Any, make_model: Any, ask: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("GEMINI_API_KEY", "sk-0123456789")
    async with raw_server(endless(JSON, b" " * 2**16)) as server:
        model = make_model(server.url, "gemini")
        asked = {"embed": lambda: model.embed(["a"]), "list_models": model.list_models}
        error = await provoke(asked.get(ask, lambda: model.count_tokens("a"))())
    assert isinstance(error, ProtocolError)
    assert "aborted after" in str(error)


@pytest.mark.parametrize(
    ("piece", "told"),
    [
        (b": still here\n\n", "aborted after 4 MiB"),
        (b"data: " * 2**14, "aborted after 4 MiB"),
        (b"x: y\n" * 2**12, "aborted after 4 MiB"),
        (b"\n" * 2**14, "aborted after 4 MiB"),
        (b"\r" * 2**14, "aborted after 4 MiB"),
    ],
)
async def test_an_endless_stream_without_an_answer_ends_at_the_limit(
    raw_server: Any, make_model: Any, small: None, piece: bytes, told: str
) -> None:
    async with raw_server(endless("text/event-stream", piece * 16)) as server:
        error = await provoke(make_model(server.url).generate("Hi"))
    assert isinstance(error, ProtocolError)
    assert told in str(error)


async def test_an_endless_answer_ends_at_the_limit_and_keeps_its_text(
    raw_server: Any, make_model: Any, say: Callable[..., list[str]], small: None
) -> None:
    event = f"data: {say('x' * 4096)[0]}\n\n".encode()
    async with raw_server(endless("text/event-stream", event)) as server:
        error = await provoke(make_model(server.url).generate("Hi"))
    assert isinstance(error, ProtocolError)
    assert error.partial_text.startswith("xxxx")


async def test_a_text_without_an_end_ends_at_its_own_limit(
    raw_server: Any,
    make_model: Any,
    say: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses, "_MOST_TEXT", 2**20)
    event = f"data: {say('key sk... ' * 4096)[0]}\n\n".encode()
    async with raw_server(endless("text/event-stream", event)) as server:
        begun = time.process_time()
        error = await provoke(make_model(server.url).generate("Hi"))
        assert time.process_time() - begun < 10
    assert isinstance(error, ProtocolError)
    assert "aborted after 1,048,576 characters" in str(error)
    assert len(error.partial_text) == 2**20


async def test_an_endless_error_is_read_from_its_beginning(
    raw_server: Any, make_model: Any
) -> None:
    async with raw_server(endless("text/plain", b"the disk is full. " * 99, 500)) as server:
        error = await provoke(make_model(server.url).generate("Hi", max_retry_seconds=0))
    assert isinstance(error, ServerError)
    assert "the disk is full" in str(error)
    assert len(str(error)) < 5000


async def test_a_trickling_error_is_not_waited_for(
    raw_server: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transport, "_ERROR_SECONDS", 0.3)

    async def script(request: Any, connection: Any) -> None:
        await connection.raw(b"HTTP/1.1 500 X\r\ncontent-length: 9999\r\n\r\n")
        while True:
            await connection.raw(b".")
            await asyncio.sleep(0.02)

    async with raw_server(script) as server:
        error = await provoke(make_model(server.url).generate("Hi", max_retry_seconds=0))
    assert isinstance(error, ServerError)
    assert error.status == 500


@pytest.mark.parametrize("content_type", [JSON, "text/event-stream"])
@pytest.mark.parametrize("first", [b"", b"HTTP"])
async def test_a_server_that_trickles_is_ended_by_the_first_tokens_deadline(
    raw_server: Any, make_model: Any, content_type: str, first: bytes
) -> None:
    async def script(request: Any, connection: Any) -> None:
        if not first:
            await connection.begin(content_type)
        while True:
            await (connection.raw(b"a") if first else connection.send(b":"))
            await asyncio.sleep(0.02)

    async with raw_server(script) as server:
        begun = time.monotonic()
        error = await provoke(
            make_model(server.url).generate("Hi", first_token_timeout=0.5, max_retry_seconds=0)
        )
        assert time.monotonic() - begun < 5
    assert isinstance(error, ApiTimeoutError)


async def test_signs_of_life_do_not_keep_a_stream_for_ever(
    raw_server: Any, make_model: Any, say: Callable[..., list[str]]
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(say("Once")[0], end=False)
        while True:
            await connection.send(b": ping\n\n")
            await asyncio.sleep(0.02)

    async with raw_server(script) as server:
        error = await provoke(make_model(server.url).generate("Hi", first_token_timeout=0.5))
    assert isinstance(error, ApiTimeoutError)
    assert error.partial_text == "Once"
    assert "first_token_timeout" in str(error)
    assert not error.retryable


async def test_pages_without_an_end_are_bound_in_time(
    raw_server: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-0123456789")
    monkeypatch.setattr(addresses, "_MOST_PAGES", 10**9)

    async def script(request: Any, connection: Any) -> None:
        await connection.answer(200, {"data": [{"id": "m"}], "has_more": True, "last_id": "m"})

    async with raw_server(script) as server:
        model = make_model(server.url, "anthropic", options=_options(first_token_timeout=0.5))
        assert isinstance(await provoke(model.list_models()), ApiTimeoutError)


def _options(**values: Any) -> Any:
    from nbllm.core.types import GenerationOptions

    return GenerationOptions(**values)


@cache
def bomb(packed: str) -> bytes:
    """64 KiB and less that unpack to 256 MiB."""
    pack = zlib.compressobj(9, wbits=31 if packed == "gzip" else 15)
    return b"".join(pack.compress(b" " * 2**20) for _ in range(256)) + pack.flush()


@pytest.mark.parametrize("packed", ["gzip", "deflate", "x-gzip"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_bomb_is_not_unpacked_beyond_the_limit(
    raw_server: Any, make_model: Any, small: None, packed: str, status: int
) -> None:
    resource = pytest.importorskip("resource")
    data = bomb("deflate" if packed == "deflate" else "gzip")

    async def script(request: Any, connection: Any) -> None:
        await connection.answer(status, data, content_encoding=packed)

    async with raw_server(script) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error = await provoke(make_model(server.url).generate("Hi", max_retry_seconds=0))
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert isinstance(error, ProtocolError if status == 200 else ServerError)
    assert grown_kib < 64 * 1024


@pytest.mark.parametrize(
    "packing", ["br", "zstd", "gzip, gzip", "deflate, br", "compress", "x" * 999]
)
async def test_a_packing_that_nobody_asked_for_is_not_unpacked(
    raw_server: Any, make_model: Any, packing: str
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(200, b"\x1f\x8b", content_encoding=packing)

    async with raw_server(script) as server:
        error = await provoke(make_model(server.url).generate("Hi"))
    assert isinstance(error, ProtocolError)
    assert "not requested" in str(error)


@pytest.mark.parametrize("packing", ["gzip", "GZIP", "identity", "identity, gzip", "deflate"])
async def test_what_is_packed_as_asked_is_read(
    raw_server: Any, make_model: Any, packing: str
) -> None:
    rows = [{"index": 0, "embedding": [0.5] * 3000}]
    body = json.dumps({"data": rows}).encode()

    async def script(request: Any, connection: Any) -> None:
        assert request.headers["accept-encoding"] == "gzip"
        pack = {"deflate": zlib.compress, "identity": bytes}.get(packing, gzip.compress)
        await connection.answer(200, pack(body), content_encoding=packing)

    async with raw_server(script) as server:
        embeddings = await make_model(server.url).embed(["a"])
    assert len(embeddings.vectors[0]) == 3000


@pytest.mark.parametrize("damage", [b"no gzip", gzip.compress(b"{}", mtime=0)[:-9] + b"\xff" * 9])
async def test_damaged_packing_is_a_typed_error(
    raw_server: Any, make_model: Any, damage: bytes
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(200, damage, content_encoding="gzip")

    async with raw_server(script) as server:
        assert isinstance(await provoke(make_model(server.url).generate("Hi")), ProtocolError)
