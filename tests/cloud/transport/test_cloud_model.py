from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from nbllm.cloud.cloud_model import CloudModel, open_model
from nbllm.core.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    BadRequestError,
    InterruptedStreamError,
    InvalidOptionError,
    ModelClosedError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedError,
)
from nbllm.core.layers.retry import RetryPolicy
from nbllm.core.openers import LoadControl
from nbllm.core.types import (
    Completed,
    Event,
    FinishReason,
    ModelInfo,
    RetryScheduled,
    TextDelta,
)

Say = Callable[..., list[str]]


async def events_of(model: CloudModel, prompt: str = "Hi", **options: Any) -> list[Event]:
    async with aclosing(model.stream(prompt, **options)) as stream:
        return [event async for event in stream]


async def read_into(events: list[Event], stream: AsyncIterator[Event]) -> None:
    async for event in stream:
        events.append(event)  # noqa: PERF401 - what came before a failure counts


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# ---------------------------------------------------------------- answers


async def test_an_answer_streams_and_completes(raw_server: Any, make_model: Any, say: Say) -> None:
    async def script(request: Any, connection: Any) -> None:
        assert request.path == "/v1/chat/completions"
        await connection.stream(*say("Hel", "lo", " 🙂"))

    async with raw_server(script) as server:
        events = await events_of(make_model(server.url), max_tokens=5)
    assert text_of(events) == "Hello 🙂"
    last = events[-1]
    assert isinstance(last, Completed)
    result = last.result
    assert (result.text, result.finish_reason) == ("Hello 🙂", FinishReason.STOP)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (7, 3)
    assert result.device == "127.0.0.1"
    assert result.usage.cost_usd is None
    timings = result.timings
    assert timings.first_token_seconds is not None
    assert timings.decode_seconds is not None
    assert timings.total_seconds is not None
    assert 0 < timings.first_token_seconds <= timings.total_seconds < 5
    body = server.received[0].json
    assert body["stream"] is True
    assert not {"connect_timeout", "stall_timeout"} & set(body)


async def test_the_first_token_is_delivered_before_the_second_is_made(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    seen = asyncio.Event()

    async def script(request: Any, connection: Any) -> None:
        first, *rest = say("one", "two")
        await connection.stream(first, end=False)
        await seen.wait()
        for event in rest:
            await connection.send(f"data: {event}\n\n".encode())
        await connection.end()

    async with raw_server(script) as server, aclosing(make_model(server.url).stream("Hi")) as s:
        assert await anext(s) == TextDelta("one")
        seen.set()
        assert await anext(s) == TextDelta("two")


async def test_bytes_may_trickle_one_by_one(raw_server: Any, make_model: Any, say: Say) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.begin()
        body = ": keep-alive\r\n\r\n" + "".join(f"data: {e}\r\n\r\n" for e in say("Hé", "🙂\u2028"))
        for byte in body.encode():
            await connection.send(bytes([byte]))
        await connection.end()

    async with raw_server(script) as server:
        result = await make_model(server.url).generate("Hi")
    assert result.text == "Hé🙂\u2028"


async def test_a_server_that_does_not_stream_is_read_whole(
    raw_server: Any, make_model: Any
) -> None:
    message = {"role": "assistant", "content": "Hello"}

    async def script(request: Any, connection: Any) -> None:
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        await connection.answer(200, {"choices": choices})

    async with raw_server(script) as server:
        events = await events_of(make_model(server.url))
    assert text_of(events) == "Hello"
    assert isinstance(events[-1], Completed)


async def test_connections_are_used_again(raw_server: Any, make_model: Any, say: Say) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        model = make_model(server.url)
        for _ in range(5):
            await model.generate("Hi")
        assert (len(server.received), server.connections) == (5, 1)


async def test_a_server_that_keeps_the_connection_open_does_not_hold_up_the_answer(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"), end=False)
        await connection.wait_closed()

    async with raw_server(script) as server:
        result = await asyncio.wait_for(make_model(server.url).generate("Hi"), 5)
    assert result.text == "Hello"


# ---------------------------------------------------------------- failures and retries

STATUSES = [
    (400, BadRequestError, False),
    (401, AuthenticationError, False),
    (402, QuotaError, False),
    (403, PermissionDeniedError, False),
    (404, NotFoundError, False),
    (408, ServerError, True),
    (409, ServerError, True),
    (413, BadRequestError, False),
    (422, BadRequestError, False),
    (429, RateLimitError, True),
    (500, ServerError, True),
    (502, ServerError, True),
    (503, OverloadedError, True),
    (529, OverloadedError, True),
]


@pytest.mark.parametrize(("status", "kind", "retried"), STATUSES)
@pytest.mark.parametrize("model_type", ["openai", "anthropic", "gemini"])
async def test_each_status_has_its_error(
    raw_server: Any,
    make_model: Any,
    model_type: str,
    status: int,
    kind: type[ApiError],
    retried: bool,
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(status, {"error": {"message": "No, thank you."}})

    policy = RetryPolicy(first_delay=0.001, max_attempts=3)
    async with raw_server(script) as server:
        model = make_model(server.url, model_type, policy=policy)
        with pytest.raises(kind) as caught:
            await model.generate("Hi", max_tokens=5)
    assert caught.value.status == status
    assert "No, thank you" in str(caught.value)
    assert len(server.received) == (3 if retried else 1)


async def test_waits_are_shown_and_a_later_attempt_succeeds(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    failures: list[tuple[int, dict[str, str]]] = [
        (503, {}),
        (429, {"retry_after_ms": "30"}),
    ]

    async def script(request: Any, connection: Any) -> None:
        if failures:
            status, headers = failures.pop(0)
            await connection.answer(status, {"error": {"message": "busy"}}, **headers)
        else:
            await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        events = await events_of(make_model(server.url))
    first, second, *rest = events
    assert isinstance(first, RetryScheduled)
    assert isinstance(second, RetryScheduled)
    assert (first.attempt, second.attempt) == (1, 2)
    assert 0 < first.delay_seconds <= 0.01
    assert 0.03 <= second.delay_seconds <= 0.033
    assert "busy" in first.reason
    assert text_of(rest) == "Hello"


async def test_a_delay_beyond_the_limit_is_told_and_not_waited_for(
    raw_server: Any, make_model: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(429, {"error": {"message": "later"}}, retry_after="3600")

    async with raw_server(script) as server:
        with pytest.raises(RateLimitError) as caught:
            await make_model(server.url).generate("Hi")
        assert caught.value.retry_after_seconds == 3600
        assert len(server.received) == 1


async def test_retries_can_be_switched_off(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(500, {"error": {"message": "broken"}})

    async with raw_server(script) as server:
        with pytest.raises(ServerError):
            await make_model(server.url).generate("Hi", max_retry_seconds=0)
        assert len(server.received) == 1


async def test_a_spent_quota_is_not_asked_again(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        error = {"message": "You exceeded your quota", "code": "insufficient_quota"}
        await connection.answer(429, {"error": error}, retry_after="0")

    async with raw_server(script) as server:
        with pytest.raises(QuotaError):
            await make_model(server.url).generate("Hi")
        assert len(server.received) == 1


@pytest.mark.parametrize("how", ["drop", "close"])
async def test_a_connection_that_breaks_before_the_answer_is_tried_again(
    raw_server: Any, make_model: Any, say: Say, how: str
) -> None:
    attempts = 0

    async def script(request: Any, connection: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            connection.drop() if how == "drop" else connection.writer.close()
        else:
            await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        retry, *events = await events_of(make_model(server.url))
    assert isinstance(retry, RetryScheduled)
    assert text_of(events) == "Hello"


async def test_a_stream_that_breaks_before_its_first_token_is_tried_again(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    attempts = 0

    async def script(request: Any, connection: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await connection.begin()
            await connection.send(b": keep-alive\n\n")
            connection.drop()
        else:
            await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        retry, *events = await events_of(make_model(server.url))
    assert isinstance(retry, RetryScheduled)
    assert text_of(events) == "Hello"


@pytest.mark.parametrize("how", ["drop", "end", "cut line"])
async def test_nothing_is_sent_again_after_the_first_token(
    raw_server: Any, make_model: Any, say: Say, how: str
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(say("Once upon")[0], end=False)
        await asyncio.sleep(0.05)  # a broken connection also loses what was not yet read
        if how == "drop":
            connection.drop()
        elif how == "cut line":
            await connection.send(b'data: {"choices": [{"del')
        if how != "drop":
            await connection.end()

    async with raw_server(script) as server:
        events: list[Event] = []
        with pytest.raises(InterruptedStreamError) as caught:
            await read_into(events, make_model(server.url).stream("Hi"))
        assert text_of(events) == "Once upon" == caught.value.partial_text
        assert len(server.received) == 1


async def test_a_break_after_the_end_marker_does_no_harm(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello")[:-1], end=False)
        await asyncio.sleep(0.05)
        connection.drop()

    async with raw_server(script) as server:
        assert (await make_model(server.url).generate("Hi")).text == "Hello"


async def test_an_error_inside_the_stream_comes_after_the_text_before_it(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        error = json.dumps({"error": {"message": "out of memory", "type": "server_error"}})
        await connection.begin()
        await connection.send(f"data: {say('Half')[0]}\n\ndata: {error}\n\n".encode())
        await connection.end()

    async with raw_server(script) as server:
        events: list[Event] = []
        with pytest.raises(ApiError, match="out of memory") as caught:
            await read_into(events, make_model(server.url).stream("Hi"))
        assert text_of(events) == "Half" == caught.value.partial_text
        assert len(server.received) == 1


async def test_an_overload_inside_the_stream_before_any_text_is_tried_again(
    raw_server: Any, make_model: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        await connection.begin()
        await connection.send(f"event: error\ndata: {json.dumps(error)}\n\n".encode())
        await connection.end()

    async with raw_server(script) as server:
        model = make_model(server.url, "anthropic", policy=RetryPolicy(0.5, 3, 0.01))
        with pytest.raises(OverloadedError):
            await model.generate("Hi", max_tokens=5)
        assert len(server.received) == 3


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Sign in to the hotel's network</html>", "text/html"),
        (b"data: {not json}\n\n", "text/event-stream"),
        (b'["not", "an", "object"]', "application/json"),
    ],
)
async def test_what_is_no_answer_is_a_protocol_error(
    raw_server: Any, make_model: Any, body: bytes, content_type: str
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.begin(content_type)
        await connection.send(body)
        await connection.end()

    async with raw_server(script) as server:
        with pytest.raises(ProtocolError):
            await make_model(server.url).generate("Hi")
        assert len(server.received) == 1


async def test_what_is_not_even_http_is_a_protocol_error(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with raw_server(script) as server:
        with pytest.raises(ProtocolError, match=r"127\.0\.0\.1"):
            await make_model(server.url).generate("Hi")


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed(raw_server: Any, make_model: Any, status: int) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(status, b"", location="https://elsewhere.example/v1")

    async with raw_server(script) as server:
        with pytest.raises(ProtocolError, match=r"elsewhere\.example.*base_url"):
            await make_model(server.url).generate("Hi")
        assert len(server.received) == 1


async def test_an_absent_server_is_named_with_a_remedy(
    make_model: Any, unused_tcp_port: int
) -> None:
    model = make_model(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ApiConnectionError, match=rf"127\.0\.0\.1:{unused_tcp_port}.*running"):
        await model.generate("Hi")


async def test_https_to_a_plain_server_says_so(make_model: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ApiConnectionError, match=r"TLS handshake.*http or https"):
        await make_model(f"https://127.0.0.1:{port}").generate("Hi")
    server.close()


@pytest.mark.parametrize(
    "base_url",
    ["localhost:8000/v1", "ftp://host/v1", "http:///v1", "http://h:99999", "http://[::1"],
)
def test_an_address_that_is_none_is_refused_at_load(base_url: str) -> None:
    info = ModelInfo(name="m", model_type="openai", local=False, base_url=base_url)
    with pytest.raises(InvalidOptionError, match="base_url"):
        open_model(info, LoadControl())


async def test_what_is_no_json_is_refused_before_it_is_sent(
    raw_server: Any, make_model: Any
) -> None:
    async def script(request: Any, connection: Any) -> None:
        raise AssertionError("nothing may be sent")

    async with raw_server(script) as server:
        for value in (object(), float("nan")):
            with pytest.raises(InvalidOptionError, match="extra"):
                await make_model(server.url).generate("Hi", extra={"x": value})
        assert not server.received


# ---------------------------------------------------------------- deadlines


async def test_the_first_token_has_a_deadline(raw_server: Any, make_model: Any) -> None:
    closed = asyncio.Event()

    async def script(request: Any, connection: Any) -> None:
        await connection.begin()
        for _ in range(20):
            await connection.send(b": keep-alive\n\n")  # signs of life are no tokens
            await asyncio.sleep(0.02)
            if connection.reader.at_eof():
                closed.set()
                return

    async with raw_server(script) as server:
        with pytest.raises(ApiTimeoutError, match=r"within 0\.1 s.*first_token_timeout"):
            await make_model(server.url).generate(
                "Hi", first_token_timeout=0.1, max_retry_seconds=0
            )
        await asyncio.wait_for(closed.wait(), 5)


async def test_an_answer_that_never_begins_has_the_same_deadline(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        if len(server.received) == 1:
            await connection.wait_closed()
        else:
            await connection.stream(*say("Hello"))

    async with raw_server(script) as server:
        retry, *events = await events_of(make_model(server.url), first_token_timeout=0.2)
    assert isinstance(retry, RetryScheduled)
    assert text_of(events) == "Hello"


async def test_silence_after_the_first_token_has_a_deadline(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(say("Once")[0], end=False)
        await connection.wait_closed()

    async with raw_server(script) as server:
        with pytest.raises(ApiTimeoutError, match="stall_timeout") as caught:
            await make_model(server.url).generate("Hi", stall_timeout=0.1)
        assert caught.value.partial_text == "Once"
        assert len(server.received) == 1


async def test_keep_alive_comments_are_no_silence(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        first, *rest = say("Once", " upon")
        await connection.stream(first, end=False)
        for _ in range(6):
            await asyncio.sleep(0.05)
            await connection.send(b": keep-alive\n\n")
        for event in rest:
            await connection.send(f"data: {event}\n\n".encode())
        await connection.end()

    async with raw_server(script) as server:
        result = await make_model(server.url).generate("Hi", stall_timeout=0.25)
    assert result.text == "Once upon"


async def test_connecting_has_a_deadline(make_model: Any) -> None:
    # A listening socket whose queue is full takes no more connections and refuses none.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            with pytest.raises(ApiTimeoutError, match=r"within 0\.1 s \(connect_timeout\)"):
                await make_model(f"http://127.0.0.1:{port}").generate(
                    "Hi", connect_timeout=0.1, max_retry_seconds=0
                )


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("when", ["waiting for the first token", "after it"])
async def test_cancelling_closes_the_connection_at_once(
    raw_server: Any, make_model: Any, say: Say, when: str
) -> None:
    async def seconds() -> float:
        began, closed = asyncio.Event(), asyncio.Event()

        async def script(request: Any, connection: Any) -> None:
            if when == "after it":
                await connection.stream(say("Once")[0], end=False)
            began.set()
            await connection.wait_closed()
            closed.set()

        async with raw_server(script) as server:
            reading = asyncio.ensure_future(read_into([], make_model(server.url).stream("Hi")))
            await began.wait()
            await asyncio.sleep(0.05)
            started = time.monotonic()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.wait_for(closed.wait(), 5)
            return time.monotonic() - started

    assert min([await seconds() for _ in range(3)]) < 0.5


async def test_leaving_a_stream_closes_its_connection(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    closed = asyncio.Event()

    async def script(request: Any, connection: Any) -> None:
        await connection.stream(say("Once")[0], end=False)
        await connection.wait_closed()
        closed.set()

    async with raw_server(script) as server:
        model = make_model(server.url)
        async with aclosing(model.stream("Hi")) as stream:
            await anext(stream)
        await asyncio.wait_for(closed.wait(), 5)
        closed.clear()
        async for _ in model.stream("Hi"):
            break  # nobody closes it but the garbage collector
        gc.collect()
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_wait_between_attempts_can_be_cancelled(raw_server: Any, make_model: Any) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(503, {"error": {"message": "busy"}}, retry_after="30")

    async with raw_server(script) as server:
        stream = make_model(server.url).stream("Hi")
        assert isinstance(await anext(stream), RetryScheduled)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(server.received) == 1


async def test_closing_the_model_ends_its_streams_with_what_had_arrived(
    raw_server: Any, make_model: Any, say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(say("Once")[0], end=False)
        await connection.wait_closed()

    async with raw_server(script) as server:
        model = make_model(server.url)
        stream = model.stream("Hi")
        await anext(stream)
        rest = asyncio.ensure_future(read_into([], stream))
        await asyncio.sleep(0.05)
        await model.aclose()
        await model.aclose()
        with pytest.raises(ModelClosedError, match="load it again") as caught:
            await asyncio.wait_for(rest, 5)
        assert caught.value.partial_text == "Once"
        assert not model.usable
        with pytest.raises(ModelClosedError):
            await model.generate("Hi")
        assert len(server.received) == 1


# ---------------------------------------------------------------- many at once, many loops


async def test_two_hundred_streams_at_once(raw_server: Any, make_model: Any, say: Say) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.begin()
        for event in say(*"abcdef"):
            await connection.send(f"data: {event}\n\n".encode())
            await asyncio.sleep(0.01)
        await connection.end()

    async with raw_server(script) as server:
        model = make_model(server.url)
        results = await asyncio.gather(*(model.generate(f"{n}") for n in range(200)))
        assert [result.text for result in results] == ["abcdef"] * 200
        assert {request.json["messages"][0]["content"] for request in server.received} == {
            str(n) for n in range(200)
        }
        await until(lambda: server.connected <= 10)  # kept for later requests
        await model.aclose()
        await until(lambda: server.connected == 0)


def test_two_loops_use_a_model_at_once(threaded_server: Callable[[Any], str], say: Say) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    url = threaded_server(script)
    info = ModelInfo(name="m", model_type="openai", local=False, base_url=url)
    model = open_model(info, LoadControl())
    texts: list[str] = []

    async def ask_often() -> None:
        texts.extend([(await model.generate("Hi")).text for _ in range(10)])

    threads = [threading.Thread(target=asyncio.run, args=(ask_often(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == ["Hello"] * 20
    assert not model._pool._open  # asyncio.run closed them at its end
    asyncio.run(model.aclose())


async def test_a_model_can_be_closed_from_another_loop(
    threaded_server: Callable[[Any], str], say: Say
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.stream(*say("Hello"))

    info = ModelInfo(name="m", model_type="openai", local=False, base_url=threaded_server(script))
    model = open_model(info, LoadControl())
    await model.generate("Hi")
    (client, _), *others = model._pool._open.values()
    assert not others
    await asyncio.to_thread(asyncio.run, model.aclose())
    assert client.is_closed
    assert not model._pool._open


def test_the_client_of_a_loop_that_was_just_closed_is_forgotten(
    threaded_server: Callable[[Any], str],
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(200, {"data": []}, connection="close")

    info = ModelInfo(name="m", model_type="openai", local=False, base_url=threaded_server(script))
    model = open_model(info, LoadControl())
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(model.list_models())
        loop.close()
    assert len(model._pool._open) == 1
    asyncio.run(model.aclose())


async def test_adapters_and_raw_texts_are_refused_before_anything_is_sent(make_model: Any) -> None:
    with pytest.raises(UnsupportedError, match="only local models support adapters"):
        await events_of(make_model("http://127.0.0.1:1"), adapters={"poet": 1.0})
    with pytest.raises(UnsupportedError, match="only local models support raw"):
        await events_of(make_model("http://127.0.0.1:1"), raw=True)
