"""A server that echoes, and Dask processes, for tests and benchmarks of batches on a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nbllm.core.types import ModelInfo

START_SECONDS = 60


class EchoServer(ThreadingHTTPServer):
    """OpenAI's chat protocol on the loopback: answers with the prompt in capitals.

    ``asked`` are the prompts as they came, ``keys`` the keys. Each takes ``seconds``; ``gate`` is
    what prompts that begin with "wait" wait for.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds, self.asked, self.keys = seconds, list[str](), set[str]()
        self.refused_key: str | None = None
        self.gate = threading.Event()

    def entry(self, name: str = "echo", **fields: Any) -> ModelInfo:
        address = f"http://127.0.0.1:{self.server_port}/v1"
        return ModelInfo(
            name=name,
            model_type="openai-compatible",
            local=False,
            base_url=address,
            model="m",
            **fields,
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EchoServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        key = self.headers.get("Authorization", "")
        self.server.keys.add(key)
        if self.server.refused_key is not None and self.server.refused_key in key:
            return self._send(401, "application/json", b'{"error": {"message": "a bad key"}}')
        self.server.asked.append(text)
        time.sleep(self.server.seconds)
        if text.startswith("wait"):
            self.server.gate.wait(START_SECONDS)
        return self._send(200, "text/event-stream", _stream(text.upper()))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # who asked was killed


def _stream(text: str) -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]
    lines = [f"data: {json.dumps({'id': 'x', 'model': 'm', **chunk})}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


@contextmanager
def echo_server(seconds: float = 0.0) -> Iterator[EchoServer]:
    with EchoServer(seconds) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()


@contextmanager
def processes(
    file: Path, *, workers: int, preload: str = ""
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A scheduler and workers, each a process that a test may kill; the scheduler is the first.

    The workers run the code ``preload`` as they begin.
    """
    place = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", *place]
    worker = ["worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", *place]
    worker += ["--local-directory", str(file.parent), *(["--preload", preload] if preload else [])]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.extend(map(_started, (scheduler, *[worker] * workers)))
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def _started(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dask", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
