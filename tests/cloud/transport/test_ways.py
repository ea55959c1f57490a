"""The ways to a server: through a proxy, over TLS with a certificate authority of one's own."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trustme

from nbllm.core.errors import ApiConnectionError
from nbllm.core.types import TextDelta


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


async def test_an_authority_of_ones_own_is_trusted_through_the_environment(
    raw_server: Any, make_model: Any, say: Any, tls: ssl.SSLContext, trusted: None
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    async with raw_server(script, tls=tls) as server:
        model = make_model(server.url)
        assert (await model.generate("Hi")).text == "Hello"
        assert (await model.generate("Hi")).text == "Hello"
        assert server.connections == 1
        await model.aclose()


async def test_an_unknown_authority_is_told_with_the_remedy(
    raw_server: Any, make_model: Any, tls: ssl.SSLContext
) -> None:
    async def script(request: Any, connection: Any) -> None:
        raise AssertionError("nothing may be sent to an unknown server")

    async with raw_server(script, tls=tls) as server:
        with pytest.raises(ApiConnectionError, match=r"not trusted.*SSL_CERT_FILE") as caught:
            await make_model(server.url).generate("Hi")
        assert not caught.value.retryable
        assert not server.received


async def test_leaving_a_stream_closes_a_tls_connection_too(
    raw_server: Any, make_model: Any, say: Any, tls: ssl.SSLContext, trusted: None
) -> None:
    closed = asyncio.Event()

    async def script(request: Any, connection: Any) -> None:
        await connection.stream(say("Once")[0], end=False)
        await connection.wait_closed()
        closed.set()

    async with raw_server(script, tls=tls) as server:
        async with aclosing(make_model(server.url).stream("Hi")) as stream:
            assert await anext(stream) == TextDelta("Once")
        await asyncio.wait_for(closed.wait(), 2)


async def test_a_proxy_from_the_environment_is_used(
    raw_server: Any, make_model: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    async with raw_server(script) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        model = make_model("http://models.example:8000")
        assert (await model.generate("Hi")).text == "Hello"
        (request,) = proxy.received
        assert request.path == "http://models.example:8000/v1/chat/completions"
        await model.aclose()


async def test_a_vendors_key_crosses_no_network_in_clear_text_unless_it_is_allowed(
    raw_server: Any, make_model: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor-0123456789")
    async with raw_server(script) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        for allowed in (False, True):
            model = make_model("http://models.example:8000", allowed=allowed)
            await model.generate("Hi")
            await model.aclose()
        keys = [request.headers.get("authorization") for request in proxy.received]
    assert keys == [None, "Bearer sk-vendor-0123456789"]


async def test_a_proxy_that_fails_is_named_as_the_one(
    raw_server: Any, make_model: Any, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert request.method == "CONNECT"
        await connection.answer(407)

    async with raw_server(script) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(ApiConnectionError, match=r"the proxy.*407.*HTTPS_PROXY"):
            await make_model("https://models.example").generate("Hi", max_retry_seconds=0)
