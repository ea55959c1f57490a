"""What a kept answer costs, and whether the file of answers holds under many processes.

python tests/benchmarks/bench_cache.py [PROCESSES OPERATIONS]

Hits are whole requests through ``generate``, from memory and from a file. Then so many processes
(8) put and get so many answers each (2,000) in one file, and two of them are killed meanwhile:
every answer that a process was told is kept must be there, unchanged. Last, 20 questions as a
notebook asks them, twice, against a server on the loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nbllm import ModelManager
from nbllm.core.caching.answer_stores import SqliteStore
from nbllm.core.caching.cache import ResultCache
from nbllm.core.types import ModelInfo

ANSWER = "A kept answer of some length. " * 30
HITS = 300
WORK = """
import hashlib, sys
from pathlib import Path
from nbllm.core.caching.answer_stores import CachedAnswer, SqliteStore
store, name, count = SqliteStore(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for n in range(count):
    key = f"{name}-{n}"
    store.put(key, CachedAnswer(hashlib.sha256(key.encode()).hexdigest() * 8, float(n)))
    print(n, flush=True)
    store.get(f"{name}-{n // 2}")
assert not store.notes, store.notes
"""


class Server(BaseHTTPRequestHandler):
    """Answers chat requests of OpenAI's protocol, and counts them."""

    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).asked += 1
        chunks = [
            {"choices": [{"index": 0, "delta": {"content": ANSWER}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


async def hits(manager: ModelManager) -> float:
    """The median time of a hit, in milliseconds."""
    model, _ = await manager.load_model("m")
    times = []
    for _ in range(HITS + 1):
        began = time.perf_counter()
        await model.generate("Say it.", temperature=0)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[1:])


async def run_all(manager: ModelManager) -> float:
    """The time of 20 questions one after the other, in seconds."""
    model, _ = await manager.load_model("m")
    began = time.perf_counter()
    for number in range(20):
        await model.generate(f"Question {number}?", temperature=0)
    return time.perf_counter() - began


def many_processes(file: Path, processes: int, operations: int) -> tuple[int, int, int]:
    """How many answers were told to be kept; how many of these are missing, and are wrong."""
    import hashlib

    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(file), str(n), str(operations)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    time.sleep(1 + random.random())
    for run in runs[:2]:
        run.kill()
    kept = {n: run.communicate()[0].split() for n, run in enumerate(runs)}
    assert all(run.returncode == 0 for run in runs[2:]), "a process that was not killed failed"
    store = SqliteStore(file)
    missing = wrong = 0
    for name, numbers in kept.items():
        for number in numbers:
            key = f"{name}-{number}"
            found = store.get(key)
            missing += found is None
            expected = hashlib.sha256(key.encode()).hexdigest() * 8
            wrong += found is not None and found.text != expected
    assert not store.notes, store.notes
    return sum(map(len, kept.values())), missing, wrong


async def main() -> None:
    processes, operations = map(int, sys.argv[1:] or ("8", "2000"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    info = ModelInfo(
        name="m",
        model_type="openai-compatible",
        local=False,
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
    )
    with tempfile.TemporaryDirectory() as folder:
        for words, cache in (
            ("memory", ResultCache()),
            ("SQLite", ResultCache(SqliteStore(Path(folder) / "hits.sqlite"))),
        ):
            async with ModelManager([info], cache=cache) as manager:
                print(f"a hit from {words}: {await hits(manager):.2f} ms")
        print("Run All of 20 questions:")
        for number in (1, 2):
            asked = Server.asked
            async with ModelManager([info], cache=Path(folder) / "all.sqlite") as manager:
                seconds = await run_all(manager)
            print(f"  run {number}: {seconds:.3f} s, {Server.asked - asked} requests")
        told, missing, wrong = many_processes(Path(folder) / "many.sqlite", processes, operations)
        print(
            f"{processes} processes of {operations:,} operations, 2 killed: {told:,} told to be "
            f"kept, {missing} missing, {wrong} wrong"
        )
    server.shutdown()


if __name__ == "__main__":
    os.environ.pop("OPENAI_API_KEY", None)
    asyncio.run(main())
