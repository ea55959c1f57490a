"""A raw HTTP server that does exactly what a test tells it to, and models that ask it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from nbllm.cloud.addresses import base_url_of
from nbllm.cloud.cloud_model import CloudModel
from nbllm.cloud.key_sources import key_source, key_variables
from nbllm.cloud.prices import load_prices
from nbllm.cloud.vendors import adapter_for
from nbllm.core.api_keys import PERMISSIONS_VARIABLE
from nbllm.core.layers.retry import RetryPolicy
from nbllm.core.types import ModelInfo


@dataclass(frozen=True)
class Received:
    """A request as it arrived; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """What a test's script answers with; every ``send`` is one HTTP chunk of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        """A whole answer, JSON unless ``body`` is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"content-type": "application/json", "content-length": str(len(data))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        await self.raw(_head(status, lines) + data)

    async def stream(self, *events: str, end: bool = True) -> None:
        """A stream of server-sent events, each ``data``, in a chunk of its own."""
        await self.begin()
        for event in events:
            await self.send(f"data: {event}\n\n".encode())
        if end:
            await self.end()

    async def begin(self, content_type: str = "text/event-stream") -> None:
        lines = {"content-type": content_type, "transfer-encoding": "chunked"}
        await self.raw(_head(200, lines))

    async def send(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def drop(self) -> None:
        """Break the connection without a goodbye."""
        self.writer.transport.abort()

    async def wait_closed(self) -> None:
        """Until the client has closed its side."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(2**16):
                pass


Script = Callable[[Received, Connection], Awaitable[None]]


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class RawServer:
    """Runs a script for each request; knows what it received and who is still connected."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = script, tls
        self.received: list[Received] = []
        self.connections = 0
        self.connected = 0

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, backlog=1024, limit=2**22, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.connected += 1
        try:
            # A cancelled handler is reported by asyncio's streams as an error.
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
            ):
                while not reader.at_eof():
                    request = await _read_request(reader)
                    self.received.append(request)
                    await self.script(request, Connection(reader, writer))
        finally:
            self.connected -= 1
            self._tasks.discard(task)
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Received:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(method, path, headers, body)


@pytest.fixture
def raw_server() -> type[RawServer]:
    """``async with raw_server(script) as server``."""
    return RawServer


@pytest.fixture
def threaded_server() -> Iterator[Callable[[Script], str]]:
    """Runs a raw server in a thread with a loop of its own, for as long as the test lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers: list[RawServer] = []

    def start(script: Script) -> str:
        server = RawServer(script)
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        servers.append(server)
        return server.url

    yield start
    for server in servers:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


ModelMaker = Callable[..., CloudModel]


@pytest.fixture
async def make_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelMaker]:
    """Models with retries that do not keep a test waiting; closed at its end.

    Their keys may go to the test's server, unless ``allowed=False`` takes this back.
    """
    monkeypatch.chdir(tmp_path)
    models: list[CloudModel] = []

    def make(
        url: str, model_type: str = "openai", *, allowed: bool = True, **values: Any
    ) -> CloudModel:
        path = "/v1" if model_type == "openai" else ""
        policy = values.pop("policy", RetryPolicy(first_delay=0.01))
        info = ModelInfo(
            name="m", model_type=model_type, local=False, base_url=url + path, **values
        )
        adapter = adapter_for(info)
        variables = key_variables(info, adapter.default_key_env) if allowed else ()
        pairs = ",".join(f"{variable}@{url}" for variable in variables)
        monkeypatch.setenv(PERMISSIONS_VARIABLE, pairs)
        base_url = base_url_of(info, adapter.default_base_url)
        key = key_source(info, adapter.default_key_env, base_url)
        models.append(CloudModel(info, adapter, key=key, prices=load_prices(), policy=policy))
        return models[-1]

    yield make
    for model in models:
        await model.aclose()


def chat_events(*texts: str) -> list[str]:
    """The events of a chat completion that says ``texts``, its end included."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
    deltas = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": len(texts)}
    return [
        *(json.dumps({**chunk, "choices": [choice]}) for choice in [*deltas, last]),
        json.dumps({**chunk, "choices": [], "usage": usage}),
        "[DONE]",
    ]


@pytest.fixture
def say() -> Callable[..., list[str]]:
    """``say("Hel", "lo")``: the events of a chat completion."""
    return chat_events
