"""How long the first request to a cloud takes in a fresh process, and which imports are in it.

Run it with ``python tests/benchmarks/bench_first_cloud_request.py [ROUNDS]``. A process that has
imported nbllm, as a kernel has, loads a model and asks it; a server on the loopback answers. What
counts is the time until the request is on the wire (http), or until the second connection is begun
(https, where nobody here speaks TLS: the first one asks whether the model is ready).

The best of several rounds is told, in wall time and in the process's own CPU time: on a machine
that does something else too, only the latter means anything. At most 200 ms. The bytecode is
cached, as it is for whoever starts a kernel a second time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

SERVER = """
import asyncio, json, time

HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
LIST = json.dumps({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]}).encode()
ANSWER = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).encode()

async def serve(reader, writer):
    print(json.dumps({"connected": time.time()}), flush=True)
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            if length:
                print(json.dumps({"asked": time.time()}), flush=True)
            await reader.readexactly(length)
            body = ANSWER if length else LIST
            writer.write(HEAD % len(body) + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def refuse(reader, writer):
    print(json.dumps({"connected": time.time()}), flush=True)
    writer.close()

async def main():
    for handler in (serve, refuse):
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.start_serving()
    await asyncio.Event().wait()

asyncio.run(main())
"""

FRESH = """
import asyncio, json, sys, time
import nbllm.core.model_manager
from nbllm import ModelInfo, ModelManager

async def main(url):
    began, cpu = time.time(), time.process_time()
    info = ModelInfo(name="gpt-4o", model_type="openai", local=False, base_url=url)
    async with ModelManager([info]) as manager:
        model, _ = await manager.load_model("gpt-4o")
        try:
            await model.generate("fresh", max_retry_seconds=0, first_token_timeout=1)
        except Exception:
            pass
        print(json.dumps({"began": began, "cpu": time.process_time() - cpu}))

asyncio.run(main(sys.argv[1]))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh process whose bytecode is cached, whatever the environment says of that."""
    folder = os.path.join(tempfile.gettempdir(), "nbllm-bench-bytecode")  # noqa: PTH118
    environment = os.environ | {"PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)


def first_request(server: subprocess.Popen[str], url: str, mark: str, turn: int) -> list[float]:
    """Milliseconds of wall time until the ``turn``-th ``mark``, and of CPU time in all."""
    told = json.loads(python("-c", FRESH, url).stdout)
    assert server.stdout is not None
    marks: list[float] = []
    while len(marks) < turn:
        seen = json.loads(server.stdout.readline())
        marks += [seen[mark]] if mark in seen else []
    return [(marks[-1] - told["began"]) * 1_000, told["cpu"] * 1_000]


def heaviest_imports() -> list[str]:
    """The packages whose import costs most, in milliseconds, by Python's own count."""
    code = "import nbllm.core.model_manager, sys; sys.stderr.write('-\\n'); " + (
        "import nbllm.cloud.cloud_model"
    )
    told = python("-X", "importtime", "-c", code).stderr
    costs: dict[str, int] = {}
    for line in told.partition("\n-\n")[2].splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        package = name.strip().partition(".")[0]
        costs[package] = costs.get(package, 0) + int(own)
    heaviest = sorted(costs.items(), key=lambda item: -item[1])[:10]
    return [f"{name} {cost / 1_000:.0f}" for name, cost in heaviest]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        ports = [server.stdout.readline().strip() for _ in range(2)]
        for scheme, port, mark, turn in (
            ("http", ports[0], "asked", 1),
            ("https", ports[1], "connected", 2),
        ):
            url = f"{scheme}://127.0.0.1:{port}/v1"
            taken = [first_request(server, url, mark, turn) for _ in range(rounds)]
            wall, cpu = (min(values) for values in zip(*taken, strict=True))
            print(f"first {scheme} request: {wall:.0f} ms, CPU {cpu:.0f} ms (at most 200)")
        server.terminate()
    print(f"imports in ms: {', '.join(heaviest_imports())}")


if __name__ == "__main__":
    main()
