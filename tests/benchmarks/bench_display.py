r"""What a streamed answer costs in a real kernel: its time, its messages, its bytes.

Run it with ``python tests/benchmarks/bench_display.py [--rounds N] [--peer-python PATH ...]`` on
a machine that does nothing else. A process of its own serves Chat Completions on the loopback; a
cloud model with that address is asked by ``%%llm`` in a kernel, which is read as a notebook would.

- fast: 2,000 chunks (9.9 KB) that wait ready
- paced: 8,000 chunks at 400 a second (20 s), and the time to the first text
- stop: the same, interrupted; the time until the kernel is idle

The kernel's time is the CPU time of its process, less that of an empty cell. Each interpreter that
``--peer-python`` names is asked which of the peers it has installed; those run beside. Two virtual
environments hold all of them, since they want different versions of the same packages::

    pip install ipykernel ipywidgets llm==0.36 llm-jupyter==0.2.0 cellmage==0.9.7 \
        langchain langchain-openai    # the last two are what Cellmage needs and does not say
    pip install ipykernel langchain-openai jupyter-ai-magics==2.31.7
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

SERVER = """
import asyncio, json, sys, time

def delta(text=None, reason=None):
    choice = {"index": 0, "finish_reason": reason, "delta": {"content": text} if text else {}}
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    data = b"data: " + json.dumps({**base, "choices": [choice]}).encode() + b"\\n\\n"
    return b"%x\\r\\n%b\\r\\n" % (len(data), data)

def whole(text):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    base = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    data = json.dumps({**base, "choices": [choice]}).encode()
    head = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d"
    return head % len(data) + b"\\r\\n\\r\\n" + data

WORDS = ["word"] + [" word"] * 11 + [".\\n\\n"]
TEXTS = [WORDS[n % len(WORDS)] for n in range(8_000)]
HEAD = (b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n"
        b"transfer-encoding: chunked\\r\\n\\r\\n")
END = delta(reason="stop") + b"e\\r\\ndata: [DONE]\\n\\n\\r\\n0\\r\\n\\r\\n"

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            body = await reader.readexactly(length)
            if not body:
                writer.write(b"HTTP/1.1 404 Not Found\\r\\ncontent-length: 0\\r\\n\\r\\n")
                await writer.drain()
                continue
            print(json.dumps({"first": time.time()}), flush=True)
            count, pace = (8_000, 400) if b"paced" in body else (2_000, 0)
            if not json.loads(body).get("stream"):
                await asyncio.sleep(count / pace if pace else 0)
                writer.write(whole("".join(TEXTS[:count])))
                await writer.drain()
                continue
            writer.write(HEAD)
            if pace:
                began = time.monotonic()
                for n, text in enumerate(TEXTS[:count]):
                    await asyncio.sleep(max(began + n / pace - time.monotonic(), 0))
                    writer.write(delta(text))
                    await writer.drain()
            else:
                writer.write(b"".join(map(delta, TEXTS[:count])))
            writer.write(END)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
SILENCE_SECONDS = 30
CPU = "import time as _time; print(_time.process_time())"


@dataclass(frozen=True)
class Tool:
    """A magic to measure: how it is set up for the server at {url}, and how it is asked."""

    package: str
    setup: str
    cell: str
    environment: Mapping[str, str] = field(default_factory=dict)


NBLLM = Tool(
    "nbllm",
    "%load_ext nbllm\n"
    "import json, pathlib\n"
    "pathlib.Path('bench.json').write_text(json.dumps({{'name': 'bench', 'model_type': 'openai',"
    " 'model': 'm', 'local': False, 'base_url': '{url}'}}))\n"
    "%llm_load bench --config bench.json",
    "%%llm bench\n{prompt}",
)
PEERS = (
    Tool(
        "cellmage",
        "%load_ext cellmage",
        "%%llm -m m\n{prompt}",
        {"CELLMAGE_API_KEY": "k", "CELLMAGE_API_BASE": "{url}"},
    ),
    Tool(
        "jupyter_ai_magics",
        "%load_ext jupyter_ai_magics",
        "%%ai openai-chat-custom:m\n{prompt}",
        {"OPENAI_API_BASE": "{url}", "OPENAI_BASE_URL": "{url}"},
    ),
    Tool(
        "llm_jupyter",
        "import pathlib, llm\n"
        "(llm.user_dir() / 'extra-openai-models.yaml').write_text('- model_id: bench\\n"
        "  model_name: m\\n  api_base: {url}\\n')\n"
        "%load_ext llm_jupyter.magic",
        "%llm -p -m bench {prompt}",
    ),
)


@dataclass
class Cost:
    """What one cell took and sent. Times are seconds."""

    status: str = ""
    cpu: float = 0.0
    wall: float = 0.0
    messages: int = 0
    size: int = 0
    first_text: float | None = None
    stop: float | None = None
    text: str = ""
    traceback_lines: int = 0


class Server:
    """The process that serves answers; it tells when it began to send the last one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self._line()}/v1"

    def sent_first(self) -> float:
        """When the first chunk of the answer was sent, in seconds of the system's clock."""
        return float(json.loads(self._line())["first"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Kernel:
    """A kernel of any interpreter, whose messages are counted as they come over the wire."""

    def __init__(self, python: str, tool: Tool, server: Server, folder: str) -> None:
        self.tool, self._server = tool, server
        self._manager = KernelManager()
        launch = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self._manager._kernel_spec = KernelSpec(argv=launch, language="python")
        environment = {k: v.format(url=server.url) for k, v in tool.environment.items()}
        keys = {"OPENAI_API_KEY": "k", "LLM_USER_PATH": folder, "IPYTHONDIR": folder}
        self._manager.start_kernel(env={**os.environ, **keys, **environment}, cwd=folder)
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)
        ready = self.run(tool.setup.format(url=server.url))
        if ready.status != "ok":
            raise RuntimeError(f"{tool.package} cannot be set up: {ready.text}")

    def ask(self, prompt: str, *, stop_after: float | None = None) -> Cost:
        """One answer, its CPU time without that of the cells that take the time."""
        cell = self.tool.cell.format(prompt=prompt)
        before = self._cpu()
        empty = self._cpu() - before
        before = self._cpu()
        cost = self.run(cell, stop_after=stop_after)
        cost.cpu = self._cpu() - before - empty
        sent = self._server.sent_first()
        cost.first_text = None if cost.first_text is None else cost.first_text - sent
        return cost

    def run(self, code: str, *, stop_after: float | None = None) -> Cost:
        """One cell; interrupted so many seconds after its first text, where that is given."""
        request = self._client.execute(code)
        began, cost = time.monotonic(), Cost()
        stopped: float | None = None
        while True:
            message, size = self._receive()
            if message["parent_header"].get("msg_id") != request:
                continue
            cost.messages, cost.size = cost.messages + 1, cost.size + size
            content = message["content"]
            if content.get("execution_state") == "idle":
                break
            data = content.get("data", {})
            is_answer = data.get("text/html", "").startswith("<p>")
            text = data["text/plain"] if is_answer else content.get("text", "")
            cost.text = text if "data" in content and text else cost.text + str(text)
            if message["msg_type"] == "error":
                cost.traceback_lines = len("\n".join(content["traceback"]).splitlines())
                cost.text = cost.text or str(content["evalue"])
            if "word" in text:
                cost.first_text = cost.first_text or time.time()
            shown_for = time.time() - cost.first_text if cost.first_text else 0.0
            if stop_after is not None and stopped is None and shown_for >= stop_after:
                stopped = time.monotonic()
                self._manager.interrupt_kernel()
        now = time.monotonic()
        cost.wall, cost.stop = now - began, None if stopped is None else now - stopped
        cost.status = self._reply(request)["status"]
        return cost

    def close(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def _cpu(self) -> float:
        return float(self.run(CPU).text)

    def _receive(self) -> tuple[dict[str, Any], int]:
        channel = self._client.iopub_channel
        if not channel.socket.poll(SILENCE_SECONDS * 1000):
            raise RuntimeError(f"{self.tool.package}: the kernel says nothing")
        frames = channel.socket.recv_multipart()
        _, parts = self._client.session.feed_identities(frames)
        return self._client.session.deserialize(parts), sum(map(len, frames))

    def _reply(self, request: str) -> dict[str, Any]:
        while True:
            reply = self._client.get_shell_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = reply["content"]
                return content


def installed(python: str) -> list[Tool]:
    """The peers that an interpreter has."""
    names = [tool.package for tool in PEERS]
    code = f"from importlib.util import find_spec as f; print([n for n in {names!r} if f(n)])"
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return [tool for tool in PEERS if repr(tool.package) in shown]


def measure(kernel: Kernel, rounds: int, *, is_paced: bool) -> None:
    """Print what the tool takes, as medians over the rounds."""
    name = kernel.tool.package
    kernel.ask("fast")  # imports, connections, the first widget
    costs = [kernel.ask("fast") for _ in range(rounds)]
    if any(cost.status != "ok" for cost in costs):
        print(f"{name:18} fails: {costs[0].text[:90]}")
        return
    micro = statistics.median(cost.cpu for cost in costs) / 2_000 * 1e6
    rate = 2_000 / statistics.median(cost.wall for cost in costs)
    messages = statistics.median(cost.messages for cost in costs)
    size = statistics.median(cost.size for cost in costs) / 1024
    print(
        f"{name:18} fast   {micro:7.1f} µs/chunk  {rate:7,.0f} chunks/s"
        f"  {messages:6,.0f} messages  {size:8,.1f} KiB"
    )
    if not is_paced:
        return
    cost = kernel.ask("paced")
    whole = "whole" if cost.text.count("word") >= 8_000 * 12 // 13 else "not whole"
    first = "-" if cost.first_text is None else f"{cost.first_text * 1e3:,.0f} ms"
    print(
        f"{name:18} paced  {cost.size / 1024:9,.1f} KiB  {cost.messages:6,} messages"
        f"  {cost.cpu:5.2f} s CPU of {cost.wall:4.1f} s  first text after {first}  text {whole}"
    )
    cost = kernel.ask("paced", stop_after=2.0)
    if cost.stop is None:
        print(f"{name:18} stop   shows nothing that could be stopped")
        return
    print(
        f"{name:18} stop   {cost.stop * 1e3:7.1f} ms to idle  {cost.traceback_lines} lines of error"
        f"  {len(cost.text):,} characters kept"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer-python", action="append", default=[], metavar="PATH")
    parser.add_argument("--fast-only", action="store_true", help="leave out what takes 20 s each")
    args = parser.parse_args()
    tools = [(sys.executable, NBLLM)]
    for python in args.peer_python:
        tools += [(python, tool) for tool in installed(python)]
    for python, tool in tools:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            server = Server()
            stack.callback(server.close)
            try:
                kernel = stack.enter_context(closing(Kernel(python, tool, server, folder)))
                measure(kernel, args.rounds, is_paced=not args.fast_only)
            except RuntimeError as error:
                print(error)
    missing = {tool.package for tool in PEERS} - {tool.package for _, tool in tools}
    if missing:
        print(f"not installed beside: {', '.join(sorted(missing))}; see --peer-python")


if __name__ == "__main__":
    main()
