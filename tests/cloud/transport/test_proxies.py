"""Loopback servers are reached straight; what goes through a proxy says so when it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.transport import connections
from nbllm.cloud.transport.connections import is_loopback, route_to
from nbllm.core.errors import ApiConnectionError, ApiError, ApiTimeoutError, OverloadedError

USER, PASSWORD = "someone", "hunter2"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


async def provoke(model: Any, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await model.generate("Hi", max_retry_seconds=0, **options)
    return caught.value


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
@pytest.mark.parametrize("exceptions", [None, "", "other.example"])
async def test_a_loopback_server_is_asked_straight(
    raw_server: Any,
    make_model: Any,
    say: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    host: str,
    exceptions: str | None,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert request.path.startswith("/v1")
        await connection.stream(*say("Hello"))

    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    if exceptions is not None:
        monkeypatch.setenv("NO_PROXY", exceptions)
    async with raw_server(script) as server:
        assert (await make_model(f"http://{host}:{server.port}").generate("Hi")).text == "Hello"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://x", "http://", "http://:x"])
def test_a_proxy_that_cannot_be_used_does_not_matter_to_loopback(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setattr(connections, "find_spec", lambda name: None)
    assert route_to("m", "http://localhost:8000/v1").proxy is None
    with pytest.raises(ApiConnectionError, match="ALL_PROXY") as caught:
        route_to("m", "http://models.example/v1")
    assert not caught.value.retryable


def test_the_package_for_socks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://{USER}:{PASSWORD}@proxy.example:1080")
    monkeypatch.setattr(connections, "find_spec", lambda name: None)
    with pytest.raises(ApiConnectionError, match=r"pip install \"httpx\[socks\]\"") as caught:
        route_to("m", "https://models.example/v1")
    assert PASSWORD not in str(caught.value)


LOOPBACK = [
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.255.1.2", "127.1",
    "2130706433", "0x7f000001", "0177.0.0.1", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1",
    "0.0.0.0", "::",
]  # fmt: skip
ELSEWHERE = [
    "", "example.com", "localhost.example.com", "notlocalhost", "128.0.0.1", "10.0.0.1", "::2",
    "127.0.0.1.example.com", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1%eth0", "1", "xn--a",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_these_hosts_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_these_are_not(host: str) -> None:
    assert not is_loopback(host)


@given(st.text(max_size=30) | st.sampled_from(LOOPBACK).map(lambda host: f"x{host}"))
def test_no_host_breaks_it(host: str) -> None:
    is_loopback(host)


@pytest.mark.parametrize(
    ("url", "variables", "shown", "name"),
    [
        ("http://a.example", {"HTTP_PROXY": "http://p:1"}, "http://p:1", "HTTP_PROXY"),
        ("http://a.example", {"http_proxy": "p:1"}, "http://p:1", "http_proxy"),
        ("https://a.example", {"HTTPS_PROXY": "http://u:w@p:1/x"}, "http://p:1", "HTTPS_PROXY"),
        ("https://a.example", {"ALL_PROXY": "http://p:1"}, "http://p:1", "ALL_PROXY"),
        (
            "https://a.example",
            {"ALL_PROXY": "http://q:2", "HTTPS_PROXY": "http://p:1"},
            "http://p:1",
            "HTTPS_PROXY",
        ),
        ("https://a.example", {"HTTP_PROXY": "http://p:1"}, None, ""),
        ("http://a.example", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.example"}, None, ""),
        ("http://a.example", {"HTTP_PROXY": "http://p:1", "NO_PROXY": ".example"}, None, ""),
        ("http://a.example:8", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.example:8"}, None, ""),
        ("http://a.example", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "b, *"}, None, ""),
        ("http://a.example", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "b"}, "http://p:1", "HTTP_"),
        ("http://10.0.0.1", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.1"}, None, ""),
        ("http://a.example", {"HTTP_PROXY": ""}, None, ""),
    ],
)
def test_the_way_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    variables: dict[str, str],
    shown: str | None,
    name: str,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    proxy = route_to("m", url).proxy
    assert (proxy.shown if proxy else None) == shown
    assert proxy is None or name in proxy.setting
    assert proxy is None or "w@" not in f"{proxy!r} {proxy.told}"


async def failing(
    make_model: Any, monkeypatch: pytest.MonkeyPatch, port: int, **options: Any
) -> ApiError:
    monkeypatch.setenv("HTTP_PROXY", f"http://{USER}:{PASSWORD}@127.0.0.1:{port}")
    error = await provoke(make_model("http://models.example:8000"), **options)
    told = f"the proxy http://127.0.0.1:{port}, set by the environment variable HTTP_PROXY"
    assert str(error).count(told) == 1
    assert PASSWORD not in str(error)
    return error


async def test_a_proxy_that_is_not_there_is_named(
    make_model: Any, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    error = await failing(make_model, monkeypatch, unused_tcp_port)
    assert isinstance(error, ApiConnectionError)
    assert f"no connection to the proxy http://127.0.0.1:{unused_tcp_port}" in str(error)


@pytest.mark.parametrize("how", ["drop", "silence", "not http", 407, 502, 503, 504, "cut"])
async def test_whatever_fails_on_the_way_names_the_proxy(
    raw_server: Any, make_model: Any, say: Any, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        if isinstance(how, int):
            await connection.answer(how, b"no", content_type="text/plain")
        elif how == "drop":
            connection.drop()
        elif how == "silence":
            await connection.wait_closed()
        elif how == "cut":
            await connection.stream(say("Once")[0], end=False)
            connection.drop()
        else:
            await connection.raw(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with raw_server(script) as proxy:
        error = await failing(make_model, monkeypatch, proxy.port, first_token_timeout=0.3)
        assert proxy.received
    kinds = {"silence": ApiTimeoutError, 503: OverloadedError}
    assert isinstance(error, kinds.get(how, ApiError))


async def test_a_servers_own_refusal_does_not_blame_the_proxy(
    raw_server: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(400, {"error": {"message": "bad"}})

    async with raw_server(script) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert "proxy" not in str(await provoke(make_model("http://models.example:8000")))


async def test_errors_without_a_proxy_do_not_name_one(
    make_model: Any, unused_tcp_port: int
) -> None:
    error = await provoke(make_model(f"http://127.0.0.1:{unused_tcp_port}"))
    assert "proxy" not in str(error)
    assert "Is the server running" in str(error)


async def test_other_requests_name_it_once_too(
    raw_server: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, connection: Any) -> None:
        connection.drop()

    async with raw_server(script) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        model = make_model("http://models.example:8000")
        failures = await asyncio.gather(
            model.list_models(), model.describe(), return_exceptions=True
        )
        for failure in failures:
            assert str(failure).count("The request goes through the proxy") == 1
