"""A hub on the loopback: its HTTP API, LFS redirects to another port, and all that can go wrong.

What it answers follows huggingface.co: ``/api/models/…/revision/…``, ``…/tree/…`` in pages with
``Link`` headers, ``…/resolve/…`` that redirects to a host of its own for the bytes, ranges, and
refusals with ``X-Error-Code``.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from bare_gguf import bare_gguf

COMMIT = "c" * 40
MIB = 2**20
_CHUNK = 2**16


@dataclass
class FakeRepository:
    """Files by path. ``listed`` are entries that are listed as they stand, whatever they claim."""

    files: dict[str, bytes] = field(default_factory=dict)
    listed: list[Any] = field(default_factory=list)
    gated: bool = False
    private: bool = False


@dataclass
class Request:
    """What a server was asked: the port's role ("hub" or "cdn"), the path, the headers."""

    role: str
    path: str
    headers: dict[str, str]


@dataclass
class FakeHub:
    """Two servers, and how they behave. All fields may be changed between requests.

    ``cuts`` is how many of the next responses with bytes break off in the middle; ``rate`` the
    bytes per second of each connection (0: no limit); ``sent`` counts bytes of bodies of the
    second server. ``raw`` answers a path of either server with (status, headers, body), ``scripts``
    with whatever a function does with the handler.
    """

    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    token: str | None = None
    cuts: int = 0
    rate: int = 0
    sent: int = 0
    ranges: bool = True
    says_length: bool = True
    total_told: int | None = None
    corrupt: bool = False
    page_size: int = 1000
    raw: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    scripts: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    redirect: str | None = None
    endless: set[str] = field(default_factory=set)
    hub_port: int = 0
    cdn_port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.hub_port}"

    def add(self, name: str, **files: bytes) -> FakeRepository:
        self.repositories[name] = FakeRepository(dict(files))
        return self.repositories[name]

    def blob(self, digest: str) -> bytes:
        for repository in self.repositories.values():
            for content in repository.files.values():
                if digest_of(content) == digest:
                    return content
        raise KeyError(digest)

    def requests_to(self, role: str) -> list[Request]:
        return [request for request in self.requests if request.role == role]


def made_model(size: int = 3 * MIB, seed: int = 0) -> bytes:
    """A GGUF of ``size`` bytes with a harmless header."""
    head = bare_gguf()
    return head + random.Random(seed).randbytes(size - len(head))


@cache
def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as the hub lists it."""
    digest = digest_of(content)
    lfs = {"oid": digest, "size": len(content), "pointerSize": 135}
    return {"type": "file", "oid": "a" * 40, "size": len(content), "lfs": lfs, "path": path}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that runs until the end of the block."""
    hub = FakeHub()
    servers = [_server(hub, "hub"), _server(hub, "cdn")]
    hub.hub_port, hub.cdn_port = (server.server_address[1] for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _server(hub: FakeHub, role: str) -> ThreadingHTTPServer:
    kind = type("Handler", (_Handler,), {"hub": hub, "role": role})
    server = _Server(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is what many tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    role: str

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(
            Request(self.role, path, {k.lower(): v for k, v in self.headers.items()})
        )
        if path in self.hub.scripts:
            self.hub.scripts[path](self)
        elif path in self.hub.endless:
            self._endless()
        elif path in self.hub.raw:
            status, headers, body = self.hub.raw[path]
            self._reply(status, body, **headers)
        elif self.role == "cdn":
            self._cdn(path)
        else:
            self._hub(path)

    # ------------------------------------------------------------ the hub

    def _hub(self, path: str) -> None:
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path)
        if found:
            return self._api(*found.groups())
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found:
            return self._resolve(*found.groups())
        return self._reply(404, b"<html>nothing here</html>")

    def _repository(self, name: str) -> FakeRepository | None:
        """The repository; where there is none for this client it was told so."""
        repository = self.hub.repositories.get(name)
        authorized = self.headers.get("authorization") == f"Bearer {self.hub.token}"
        if self.headers.get("authorization") and not authorized:
            self._refuse(401, "", "Invalid credentials")
        elif repository is None or (repository.private and not authorized):
            self._refuse(404 if authorized else 401, "RepoNotFound", "Repository not found")
        else:
            return repository
        return None

    def _api(self, name: str, what: str, revision: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return None
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if what == "revision":
            return self._json({"id": name, "sha": COMMIT, "gated": repository.gated})
        entries = [entry(path, content) for path, content in repository.files.items()]
        entries = [{"type": "directory", "oid": "b" * 40, "size": 0, "path": "sub"}, *entries]
        entries += repository.listed
        start = int((re.findall(r"cursor=(\d+)", self.path) or ["0"])[0])
        page = entries[start : start + self.hub.page_size]
        headers = {}
        if start + self.hub.page_size < len(entries):
            following = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=true"
            headers["Link"] = f'<{following}&cursor={start + self.hub.page_size}>; rel="next"'
        return self._json(page, **headers)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return None
        authorized = self.headers.get("authorization") == f"Bearer {self.hub.token}"
        if repository.gated and not authorized:
            return self._refuse(401, "GatedRepo", "Access to this model is restricted")
        if self.hub.refusals:
            status, headers = self.hub.refusals.pop(0)
            return self._reply(status, b"", **headers)
        content = repository.files.get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        digest = digest_of(content)
        where = self.hub.redirect or f"http://127.0.0.1:{self.hub.cdn_port}/{digest}?signature=x"
        return self._reply(
            302,
            b"Found",
            Location=where,
            **{"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content))},
        )

    # ------------------------------------------------------------ the bytes

    def _cdn(self, path: str) -> None:
        try:
            content = self.hub.blob(path[1:])
        except KeyError:
            return self._reply(404, b"")
        if self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        total = self.hub.total_told or len(content)
        headers = {}
        if wanted and self.hub.ranges:
            first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            status, body = 206, memoryview(content)[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        else:
            status, body = 200, memoryview(content)
        with self.hub.lock:
            is_cut = self.hub.cuts > 0 and len(body) > 1
            self.hub.cuts -= is_cut
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.hub.says_length:
            told = self.hub.total_told if status == 200 and self.hub.total_told else len(body)
            self.send_header("Content-Length", str(told))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self._send(body[: len(body) // 2] if is_cut else body)
        if is_cut or not self.hub.says_length:
            self.close_connection = True
        return None

    def _send(self, body: memoryview) -> None:
        rate = self.hub.rate  # a connection that was left does not speed up with a later one
        step = max(rate // 50, 1) if rate else _CHUNK
        began, sent = time.monotonic(), 0
        for at in range(0, len(body), step):
            block = body[at : at + step]
            self.wfile.write(block)
            sent += len(block)
            with self.hub.lock:
                self.hub.sent += len(block)
            if rate:
                time.sleep(max(began + sent / rate - time.monotonic(), 0))

    # ------------------------------------------------------------ replies

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while True:
            self.wfile.write(b" " * _CHUNK)

    def _json(self, value: object, **headers: str) -> None:
        self._reply(200, json.dumps(value).encode(), **headers)

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._reply(status, json.dumps({"error": message}).encode(), **headers)

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
