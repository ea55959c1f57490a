"""A key is planted, every error path is provoked, and everything that came out is searched."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nbllm.core.errors import ApiError, ModelError
from nbllm.core.model_config import load_config, save_config
from nbllm.core.types import RetryScheduled

CANARY = "sk-proj-Zq8vT2mNxW5yLr0KdJh4CANARYwxyz"
VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
}
VENDORS = pytest.mark.parametrize("vendor", list(VARIABLES))


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, CANARY)
    caplog.set_level(logging.DEBUG)


@pytest.fixture
def nothing_shows_it(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., None]:
    """Searches what it is given, the logs, the output and the files for any part of the key."""

    def search(*texts: str) -> None:
        output = capfd.readouterr()
        files = [path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
        records = [str(vars(record)) for record in caplog.records]
        for text in [*texts, output.out, output.err, caplog.text, *records, *files]:
            for start in range(len("sk-proj-"), len(CANARY) - 5):
                assert CANARY[start : start + 6] not in text
            assert "wxyz" not in text

    return search


def everything_about(error: BaseException) -> Iterator[str]:
    """All that a person could get to see of an error and of those behind it, locals included."""
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is not None:
            yield f"{current!s} {current!r} {vars(current)!r}"
            shown = traceback.TracebackException.from_exception(current, capture_locals=True)
            yield "".join(shown.format())
            waiting += [current.__cause__, current.__context__]


async def provoke(model: Any, **options: Any) -> BaseException:
    try:
        await model.generate("Hi", max_tokens=5, **options)
    except ApiError as error:
        return error
    raise AssertionError("nothing failed")


def sent_key(request: Any) -> str:
    """The key as the server got it: proof that there was something to hide."""
    names = ("authorization", "x-api-key", "x-goog-api-key")
    (value,) = (request.headers[name] for name in names if name in request.headers)
    assert value.removeprefix("Bearer ") == CANARY
    assert CANARY not in request.path
    return CANARY


QUOTES = {
    "whole": lambda key: f"Incorrect API key provided: {key}",
    "masked": lambda key: f"Incorrect API key provided: {key[:8]}********{key[-4:]}.",
    "elided": lambda key: f"key {key[:10]}...{key[-4:]} was revoked",
    "tail": lambda key: f"no access for the key ending in {key[-4:]}",
    "header": lambda key: f"bad header Authorization: Bearer {key}",
}


@VENDORS
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 302])
@pytest.mark.parametrize("quote", list(QUOTES))
async def test_servers_that_quote_the_key(
    raw_server: Any,
    make_model: Any,
    nothing_shows_it: Callable[..., None],
    vendor: str,
    status: int,
    quote: str,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        said = QUOTES[quote](sent_key(request))
        error = {"message": said, "code": said, "type": said, "status": said}
        echoes = {"x_request_id": said, "x_echo": said, "location": f"http://x/?{said}"}
        await connection.answer(status, {"error": error}, **echoes)

    async with raw_server(script) as server:
        error = await provoke(make_model(server.url, vendor), max_retry_seconds=0)
    nothing_shows_it(*everything_about(error))


@VENDORS
@pytest.mark.parametrize("body", ["plain text", "html", "not json", "broken json"])
async def test_servers_that_quote_it_outside_the_protocol(
    raw_server: Any,
    make_model: Any,
    nothing_shows_it: Callable[..., None],
    vendor: str,
    body: str,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        key = sent_key(request)
        said = {
            "plain text": f"who is {key}?",
            "html": f"<html><title>401</title><p>{key}</p></html>",
            "not json": f"data: {key}\n\n",
            "broken json": f'data: {{"error": "{key}\n\n',
        }[body]
        if body in ("plain text", "html"):
            await connection.answer(500, said.encode(), content_type="text/html")
        else:
            await connection.begin()
            await connection.send(said.encode())
            await connection.end()

    async with raw_server(script) as server:
        error = await provoke(make_model(server.url, vendor), max_retry_seconds=0)
    nothing_shows_it(*everything_about(error))


@VENDORS
async def test_errors_inside_a_stream_that_quote_it(
    raw_server: Any, make_model: Any, nothing_shows_it: Callable[..., None], vendor: str
) -> None:
    async def script(request: Any, connection: Any) -> None:
        error = {"message": f"revoked: {sent_key(request)}", "type": "authentication_error"}
        await connection.begin()
        event = json.dumps({"type": "error", "error": error})
        await connection.send(f"event: error\ndata: {event}\n\n".encode())
        await connection.end()

    async with raw_server(script) as server:
        error = await provoke(make_model(server.url, vendor), max_retry_seconds=0)
    nothing_shows_it(*everything_about(error))


@VENDORS
@pytest.mark.parametrize("how", ["drop", "silence", "not http", "absent"])
async def test_connections_that_fail(
    raw_server: Any,
    make_model: Any,
    nothing_shows_it: Callable[..., None],
    vendor: str,
    how: str,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        key = sent_key(request)
        if how == "drop":
            connection.drop()
        elif how == "silence":
            await connection.wait_closed()
        else:
            await connection.raw(f"NOT-HTTP {key}\r\n\r\n".encode())

    async with raw_server(script) as server:
        model = make_model(server.url, vendor)
        if how == "absent":
            server._server.close()
        error = await provoke(model, max_retry_seconds=0, first_token_timeout=0.1)
    nothing_shows_it(*everything_about(error))


@VENDORS
async def test_other_requests_that_fail(
    raw_server: Any, make_model: Any, nothing_shows_it: Callable[..., None], vendor: str
) -> None:
    async def script(request: Any, connection: Any) -> None:
        said = QUOTES["whole"](sent_key(request))
        await connection.answer(403, {"error": {"message": said}})

    texts: list[str] = []
    async with raw_server(script) as server:
        model = make_model(server.url, vendor)
        outcomes = await asyncio.gather(
            model.list_models(),
            model.embed(["a"]),
            model.count_tokens("a"),
            return_exceptions=True,
        )
    for outcome in outcomes:
        if isinstance(outcome, ModelError):
            texts += everything_about(outcome)
    assert texts
    nothing_shows_it(*texts)


async def test_a_cancelled_request(
    raw_server: Any, make_model: Any, nothing_shows_it: Callable[..., None]
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.wait_closed()

    async with raw_server(script) as server:
        task = asyncio.ensure_future(make_model(server.url, "anthropic").generate("Hi"))
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            nothing_shows_it(*everything_about(error))


async def test_waits_results_and_the_model_itself(
    raw_server: Any,
    make_model: Any,
    say: Callable[..., list[str]],
    nothing_shows_it: Callable[..., None],
    tmp_path: Path,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        if len(server.received) == 1:
            said = QUOTES["masked"](sent_key(request))
            await connection.answer(503, {"error": {"message": said}}, x_echo=CANARY)
        else:
            await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        model = make_model(server.url)
        retry, *rest = [event async for event in model.stream("Hi")]
        result = rest[-1].result
        file = tmp_path / "models.json"
        save_config(file, [model.info])
        assert load_config(file)[0].name == "m"
        assert isinstance(retry, RetryScheduled)
        assert result.text == "Hello"
        inside = [repr(vars(part)) for part in (model, model._transport, model._key)]
        nothing_shows_it(
            repr(retry), repr(rest), str(result), result._repr_html_(), repr(model),
            repr(model.info), pd.DataFrame([asdict(result)]).to_html(), *inside,
        )  # fmt: skip


async def test_libraries_log_nothing_of_it_while_the_model_lives(
    raw_server: Any, make_model: Any, say: Callable[..., list[str]], caplog: Any,
    nothing_shows_it: Callable[..., None],
) -> None:  # fmt: skip
    async def script(request: Any, connection: Any) -> None:
        await connection.begin(f"text/event-stream\r\nx-echo: {sent_key(request)}")
        for event in say("Hello"):
            await connection.send(f"data: {event}\n\n".encode())
        await connection.end()

    async with raw_server(script) as server:
        model = make_model(server.url)
        await model.generate("Hi")
        assert "x-echo" in caplog.text  # httpcore logs the headers of answers
        assert "POST" in caplog.text
        await model.aclose()
    nothing_shows_it()
    assert not logging.getLogger("httpcore.http11").filters
