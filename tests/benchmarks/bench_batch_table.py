"""Runs over a large table against a server on the loopback, and what a kill costs.

Run it with ``python tests/benchmarks/bench_batch_table.py [PART …]`` on a machine that does nothing
else; without a part, all of them. ``BENCH_ROWS`` is 100,000 where nothing else is said.

- table: the rows beside bare httpx; memory and journal
- peer: a thousand rows by nbllm and by bespokelabs-curator, where that is installed
- kill: 20 runs that are killed at random moments, each gone on from
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from nbllm.batches.journal import Journal
from nbllm.cloud.cloud_model import open_model
from nbllm.core.openers import LoadControl
from nbllm.core.types import ModelInfo

ROWS = int(os.environ.get("BENCH_ROWS", "100000"))

SERVER = """
import asyncio, json
def frame(value):
    line = b"data: " + json.dumps(value).encode() + b"\\n\\n"
    return b"%x\\r\\n%b\\r\\n" % (len(line), line)
base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
end = {"prompt_tokens": 9, "completion_tokens": 3}
def answer(text):
    delta = {"index": 0, "finish_reason": None, "delta": {"content": text}}
    return b"".join((
        frame({**base, "choices": [delta]}),
        frame({**base, "choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]}),
        frame({**base, "choices": [], "usage": end}),
        b"e\\r\\ndata: [DONE]\\n\\n\\r\\n0\\r\\n\\r\\n",
    ))
def whole(text):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {**end, "total_tokens": 12}
    body = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
    line = json.dumps(body).encode()
    kind = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\n"
    return kind + b"content-length: %d\\r\\n\\r\\n" % len(line) + line
HEAD = (b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n"
        b"transfer-encoding: chunked\\r\\n\\r\\n")
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            if not length:
                writer.write(b"HTTP/1.1 404 Not Found\\r\\ncontent-length: 0\\r\\n\\r\\n")
                continue
            body = json.loads(await reader.readexactly(length))
            asked = body["messages"]  # a peer sends none to learn its limits
            text = f"The answer to {asked[-1]['content'] if asked else ''} " + "is this. " * 10
            writer.write(HEAD + answer(text) if body.get("stream") else whole(text))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


# ---------------------------------------------------------------- a large table


async def by_httpx(url: str, width: int, count: int) -> float:
    gate, began = asyncio.Semaphore(width), time.perf_counter()
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=width)) as client:

        async def ask(number: int) -> None:
            message = {"role": "user", "content": f"row {number}"}
            body = {"model": "m", "stream": True, "messages": [message]}
            async with (
                gate,
                client.stream("POST", f"{url}/chat/completions", json=body) as response,
            ):
                async for _ in response.aiter_bytes():
                    pass

        for start in range(0, count, 1_000):
            await asyncio.gather(*(ask(n) for n in range(start, min(start + 1_000, count))))
    return time.perf_counter() - began


def table(url: str) -> None:
    asyncio.run(_table(url))


def opened(url: str) -> Any:
    info = ModelInfo(name="m", model_type="openai", local=False, base_url=url)
    return open_model(info, LoadControl())


async def _table(url: str) -> None:
    model, process, width = opened(url), psutil.Process(), 64
    with tempfile.TemporaryDirectory() as folder:
        journal, results, seen = Path(folder) / "run.jsonl", 0, []
        began, done = time.perf_counter(), 0
        batch = model.map(
            (f"row {number}" for number in range(ROWS)), concurrency=width, journal=journal
        )
        async for row in batch:
            done += 1
            results += len(row.text.encode())
            if done % max(1, ROWS // 10) == 0:
                seen.append(process.memory_info().rss / 2**20 - results / 2**20)
        seconds, size = time.perf_counter() - began, journal.stat().st_size
    await model.aclose()
    count = min(ROWS, 20_000)  # it holds nothing, so that more rows would tell no more
    bare_seconds = await by_httpx(url, width, count)
    rate, bare_rate = ROWS / seconds, count / bare_seconds
    print(f"{ROWS:,} rows: {rate:,.0f} rows/s; bare httpx {bare_rate:,.0f} rows/s")
    print(f"ratio {rate / bare_rate:.2f} (at least 0.8)")
    print(f"memory beyond the results: {max(seen) - min(seen):+.0f} MiB (at most 50)")
    # A plain file of the results has, beside the texts, the tokens, commas and the line's end.
    plain = results + ROWS * len("9,3,\n")
    told = f"{size / ROWS:,.0f} bytes a row for {results / ROWS:,.0f} of text"
    print(f"journal: {told}; {size / plain:.2f} times a plain file of the results (at most 1.1)")


# ---------------------------------------------------------------- a peer

PEER = """
import sys, time
import tiktoken
class Words:  # its own tables are downloaded at the first use
    def encode(self, text, **_):
        return text.split()
tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *_: Words()
from bespokelabs import curator
url, count, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10}
limits |= {"max_concurrent_requests": width, "base_url": url, "api_key": "none"}
model = curator.LLM(model_name="m", backend="openai", backend_params=limits)
began = time.perf_counter()
answers = model([f"row {number}" for number in range(count)])
print("seconds", time.perf_counter() - began, len(getattr(answers, "dataset", answers)))
"""


def peer(url: str) -> None:
    """The peer in a process of its own; its packages are in the folder ``BENCH_PEERS``."""
    count, width = min(ROWS, 1_000), 64

    async def ours(folder: str) -> float:
        model, began = opened(url), time.perf_counter()
        prompts = [f"row {number}" for number in range(count)]
        rows = await model.map(prompts, concurrency=width, journal=Path(folder) / "run.jsonl")
        assert not any(row.error for row in rows)
        await model.aclose()
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        seconds = asyncio.run(ours(folder))
        print(f"nbllm:   {count / seconds:6,.0f} rows/s", flush=True)
        quiet = {"TELEMETRY_ENABLED": "0", "CURATOR_DISABLE_CACHE": "1", "HF_HUB_OFFLINE": "1"}
        found = {"PYTHONPATH": os.environ.get("BENCH_PEERS", ""), "CURATOR_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", PEER, url, str(count), str(width)],
            capture_output=True,
            text=True,
            env={**os.environ, **quiet, **found},
            cwd=folder,
            check=False,
        )
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("seconds")]
    if told:
        print(f"curator: {count / float(told[0][1]):6,.0f} rows/s")
    else:
        print(f"curator did not end: {done.stderr.strip()[-800:] or done.stdout[-800:]}")


# ---------------------------------------------------------------- killed

KILLED = """
import asyncio, sys
from nbllm.batches.journal import Journal
from nbllm.cloud.cloud_model import open_model
from nbllm.core.openers import LoadControl
from nbllm.core.types import ModelInfo
info = ModelInfo(name="m", model_type="openai", local=False, base_url=sys.argv[1])
async def main():
    model = open_model(info, LoadControl())
    print("begun", flush=True)
    rows = await model.map(map(str, range(500)), concurrency=8, journal=sys.argv[2], temperature=0)
    print(sum(row.resumed for row in rows), sum(bool(row.error) for row in rows), flush=True)
asyncio.run(main())
"""


def kill(url: str) -> None:
    source, lost, asked_twice, times = random.Random(7), 0, 0, 20 if ROWS >= 10_000 else 3
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / "run.jsonl"
            command = [sys.executable, "-c", KILLED, url, str(journal)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
                assert run.stdout is not None
                run.stdout.readline()
                time.sleep(source.uniform(0.05, 1.5))
                run.kill()
            before = finished(journal)
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            resumed, errors = map(int, out.splitlines()[-1].split())
            lost += len(before) - resumed
            asked_twice += len(before & finished(journal, resumed))
            assert errors == 0, out
    print(f"{times} kills: {lost} finished rows lost, {asked_twice} asked twice (both 0)")


def finished(journal: Path, behind: int = 0) -> set[str]:
    """The keys of the rows in a journal, without the first ``behind``."""
    if not journal.exists():
        return set()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(journal, folder))
        with Journal(copy) as kept:
            return set([*kept.entries][behind:])


def main() -> None:
    works: dict[str, Any] = {"table": table, "peer": peer, "kill": kill}
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        for part in sys.argv[1:] or works:
            works[part](url)
        server.terminate()


if __name__ == "__main__":
    main()
