"""Servers that lie, break off, trickle or never end: told in one line, in bounded time."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from fake_hub import COMMIT, MIB, FakeHub, digest_of, entry, made_model

from nbllm.core.errors import DownloadError
from nbllm.core.model_manager import ModelManager
from nbllm.hub import planning, servers, transfer

MODEL = made_model(MIB)
ABOUT = "/api/models/org/tiny/revision/main"
TREE = f"/api/models/org/tiny/tree/{COMMIT}"
FILE = f"/org/tiny/resolve/{COMMIT}/tiny.gguf"


@pytest.fixture
def tiny(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.setattr(servers, "_JSON_PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(transfer, "_LONGEST_PAUSE", 0.02)
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    return hub


def broken(handler: Any) -> None:
    """Some bytes of an answer, and the end of the connection."""
    span = handler.headers.get("range", "").removeprefix("bytes=")
    handler.send_response(206 if span else 200)
    handler.send_header("Content-Range", f"bytes {span}/{len(MODEL)}")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(MODEL[int(span.partition("-")[0]) :][:1] if span else b"[")
    handler.close_connection = True


def closed(handler: Any) -> None:
    handler.close_connection = True


def trickled(head: str, each: bytes) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        span = handler.headers.get("range", "").removeprefix("bytes=")
        handler.wfile.write(head.format(span=span).encode())
        for _ in range(200):
            handler.wfile.write(each)
            time.sleep(0.02)

    return answer


def once(hub: FakeHub, path: str, script: Callable[[Any], None]) -> None:
    """The first request for the path goes wrong, and no other."""

    def answer(handler: Any) -> None:
        del hub.scripts[path]
        script(handler)

    hub.scripts[path] = answer


@pytest.mark.parametrize("script", [broken, closed])
async def test_each_request_may_break_off_once(
    tiny: FakeHub, manager: ModelManager, script: Callable[[Any], None]
) -> None:
    for path in (ABOUT, TREE, FILE, f"/{digest_of(MODEL)}"):
        once(tiny, path, script)
    info = await asyncio.wait_for(manager.pull_model("org/tiny"), 20)
    assert info.path is not None
    assert info.path.read_bytes() == MODEL


@pytest.mark.parametrize("path", [ABOUT, TREE, FILE])
async def test_a_request_that_breaks_off_each_time_is_told(
    tiny: FakeHub, manager: ModelManager, path: str
) -> None:
    tiny.scripts[path] = closed
    with pytest.raises(DownloadError, match=r"the connection to 127\.0\.0\.1 keeps breaking"):
        await asyncio.wait_for(manager.pull_model("org/tiny"), 20)


async def test_a_listing_that_is_not_ready_is_asked_for_again(
    tiny: FakeHub, manager: ModelManager
) -> None:
    once(tiny, ABOUT, lambda handler: handler._reply(503, b""))
    await manager.plan_pull("org/tiny")
    tiny.raw[ABOUT] = (503, {}, b"")
    with pytest.raises(DownloadError, match="HTTP 503"):
        await manager.plan_pull("org/tiny")


async def test_headers_that_trickle_are_given_up(
    tiny: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_HEAD_SECONDS", 0.2)
    tiny.scripts["/x.gguf"] = trickled("HTTP/1.1 200 OK\r\n", b"X: 1\r\n")
    began = time.monotonic()
    with pytest.raises(DownloadError, match="stopped sending"):
        await manager.plan_pull(f"{tiny.endpoint}/x.gguf")
    assert time.monotonic() - began < 3


async def test_a_body_that_trickles_is_given_up(
    tiny: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_SLOW_SECONDS", 0.1)
    monkeypatch.setattr(transfer, "_MOST_FAILURES", 2)
    head = f"HTTP/1.1 206 x\r\nContent-Range: bytes {{span}}/{len(MODEL)}\r\n\r\n"
    tiny.scripts[f"/{digest_of(MODEL)}"] = trickled(head, b"G")
    with pytest.raises(DownloadError, match="stopped sending"):
        await asyncio.wait_for(manager.pull_model("org/tiny"), 20)


async def test_a_listing_in_a_circle(tiny: FakeHub, manager: ModelManager) -> None:
    link = {"Link": f'<{tiny.endpoint}{TREE}?recursive=true>; rel="next"'}
    tiny.raw[TREE] = (200, link, json.dumps([entry("tiny.gguf", MODEL)]).encode())
    with pytest.raises(DownloadError, match="its listing has no end"):
        await manager.plan_pull("org/tiny")


async def test_a_listing_of_too_many_files(
    tiny: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_MOST_ENTRIES", 5)
    tiny.page_size = 2
    tiny.repositories["org/tiny"].listed = [{"type": "file", "path": f"{n}.txt"} for n in range(9)]
    with pytest.raises(DownloadError, match="has more than 5 files, too many to choose from"):
        await manager.plan_pull("org/tiny")


@pytest.mark.parametrize("link", ["<http://[>", "<>", "<//:0>", "<javascript:x>", "</\x7f>"])
async def test_a_next_page_that_is_no_address(
    tiny: FakeHub, manager: ModelManager, link: str
) -> None:
    page = json.dumps([entry("tiny.gguf", MODEL)]).encode()
    tiny.raw[TREE] = (200, {"Link": f'{link}; rel="next"'}, page)
    try:
        await manager.plan_pull("org/tiny")
    except DownloadError as error:
        assert "its listing" in str(error)  # noqa: PT017 - it may be refused or passed over


async def test_a_compressed_listing_is_not_unpacked(tiny: FakeHub, manager: ModelManager) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 16 * MIB))
    tiny.raw[ABOUT] = (200, {"Content-Encoding": "gzip, gzip"}, bomb)
    with pytest.raises(DownloadError, match="compressed listing, which was not asked for"):
        await manager.plan_pull("org/tiny")


@pytest.mark.parametrize(
    "told",
    [
        {"Content_Range": f"bytes 0-{len(MODEL) - 1}/*"},
        {"Content_Range": "bytes */5"},
        {"Content_Range": f"bytes 5-{len(MODEL) - 1}/{len(MODEL)}"},
        {"Content_Range": f"bytes 9-3/{len(MODEL)}"},
        {"Content_Range": f"bytes 0-{len(MODEL) - 1}/{len(MODEL)}", "Content_Encoding": "gzip"},
        {"Content_Type": "multipart/byteranges; boundary=x"},
        {},
    ],
)
async def test_a_range_that_is_not_what_was_asked_for(
    tiny: FakeHub, manager: ModelManager, told: dict[str, str]
) -> None:
    tiny.raw[f"/{digest_of(MODEL)}"] = (206, told, MODEL)
    with pytest.raises(DownloadError, match=r"a request for a range wrongly|another range"):
        await asyncio.wait_for(manager.pull_model("org/tiny"), 20)


async def test_a_file_that_is_replaced_meanwhile_is_not_mixed(
    tiny: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a server that keeps no If-Range, and has no checksum to tell it by."""
    tags = iter(['"one"', *['"two"'] * 100])

    def ranged(handler: Any) -> None:
        first, last = map(int, handler.headers["range"].removeprefix("bytes=").split("-"))
        body = MODEL[first : last + 1]
        span = f"bytes {first}-{first + len(body) - 1}/{len(MODEL)}"
        handler._reply(206, body, Content_Range=span, ETag=next(tags))

    tiny.scripts["/x.gguf"] = ranged
    with pytest.raises(DownloadError, match=r"x\.gguf was replaced on 127\.0\.0\.1 during the"):
        await manager.pull_model(f"{tiny.endpoint}/x.gguf")


@contextmanager
def other_host(seen: list[str]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("authorization", ""))
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("path", [ABOUT, TREE, FILE])
async def test_a_token_follows_no_redirect_to_another_host(
    tiny: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    tiny.token = "hf_secret"
    seen: list[str] = []
    with other_host(seen) as port:
        tiny.raw[path] = (302, {"Location": f"http://127.0.0.1:{port}/x"}, b"")
        with pytest.raises(DownloadError) as caught:
            await asyncio.wait_for(manager.pull_model("org/tiny"), 20)
    assert set(seen) == {""}
    assert "hf_secret" not in str(caught.value)
    assert any("authorization" in request.headers for request in tiny.requests)
