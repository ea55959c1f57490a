"""What nbllm adds to an answer over HTTP, beside the openai SDK and bare httpx.

Run it with ``python tests/benchmarks/bench_cloud_stream.py [ROUNDS]`` on a machine that does
nothing else. A process of its own serves Chat Completions on the loopback, each event in a chunk.

- consuming: a stream of 2,000 chunks that waits ready, in turns, and the medians
- memory: what is still held at the end of 100,000 chunks and of 10,000, the text apart
- many: 200 streams at once, the time to the first token

``bench_first_cloud_request.py`` measures the first request of a fresh process.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import httpx
import openai
import psutil

from nbllm import Completed, ModelInfo, TextDelta
from nbllm.cloud.cloud_model import CloudModel, open_model
from nbllm.core.openers import LoadControl

SERVER = """
import asyncio, json

def events(count):
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = lambda **d: {**base, "choices": [{"index": 0, "finish_reason": None, **d}]}
    yield delta(delta={"role": "assistant", "content": ""})
    for n in range(count):
        yield delta(delta={"content": " word"})
    yield delta(delta={}, finish_reason="stop")
    yield {**base, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": count}}

def frames(count):
    lines = [b"data: " + json.dumps(e).encode() + b"\\n\\n" for e in events(count)]
    return [b"%x\\r\\n%b\\r\\n" % (len(l), l) for l in [*lines, b"data: [DONE]\\n\\n"]]

HEAD = (b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n"
        b"transfer-encoding: chunked\\r\\n\\r\\n")
BODIES = {count: frames(count) for count in (5, 2_000)}

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            if not length:  # the list of models, which opening a model asks for
                writer.write(b"HTTP/1.1 404 Not Found\\r\\ncontent-length: 0\\r\\n\\r\\n")
                continue
            wish = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
            writer.write(HEAD)
            if wish.startswith("paced"):
                for frame in BODIES[5]:
                    writer.write(frame)
                    await asyncio.sleep(0.02)
            elif wish == "100000":
                for _ in range(49):
                    for frame in BODIES[2_000][:-3]:
                        writer.write(frame)
                    await writer.drain()
                writer.writelines(BODIES[2_000])
            else:
                writer.write(b"".join(BODIES[2_000]))
            writer.write(b"0\\r\\n\\r\\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


async def by_nbllm(model: CloudModel, prompt: str) -> int:
    chunks = 0
    async with aclosing(model.stream(prompt)) as stream:
        async for event in stream:
            chunks += isinstance(event, TextDelta)
    return chunks


async def by_httpx(client: httpx.AsyncClient, url: str) -> int:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    chunks, rest = 0, b""
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        async for data in response.aiter_bytes():
            *frames, rest = (rest + data).split(b"\n\n")
            for frame in frames:
                if frame != b"data: [DONE]":
                    choices = json.loads(frame[6:])["choices"]
                    chunks += bool(choices and choices[0]["delta"].get("content"))
    return chunks


async def by_openai(client: openai.AsyncOpenAI) -> int:
    chunks = 0
    stream = await client.chat.completions.create(
        model="m", stream=True, messages=[{"role": "user", "content": "x"}]
    )
    async for chunk in stream:
        chunks += bool(chunk.choices and chunk.choices[0].delta.content)
    return chunks


def open_on(url: str) -> CloudModel:
    info = ModelInfo(name="m", model_type="openai", local=False, base_url=url)
    return open_model(info, LoadControl())


async def compare(url: str, rounds: int) -> None:
    model, client = open_on(url), httpx.AsyncClient()
    sdk = openai.AsyncOpenAI(base_url=url, api_key="none")
    contestants: dict[str, Callable[[], Awaitable[int]]] = {
        "nbllm": lambda: by_nbllm(model, "x"),
        "bare httpx": lambda: by_httpx(client, url),
        "openai SDK": lambda: by_openai(sdk),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, consume in contestants.items():
            began = time.perf_counter()
            assert await consume() == 2_000
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:11} {median / 2_000 * 1e6:7.1f} µs/chunk {2_000 / median:9,.0f} chunks/s")
    print(f"nbllm / bare httpx, time: {medians['nbllm'] / medians['bare httpx']:.2f} (at most 2)")
    print(f"nbllm / openai SDK, speed: {medians['openai SDK'] / medians['nbllm']:.2f} (at least 4)")
    for opened in (model.aclose(), client.aclose(), sdk.close()):
        await opened


async def memory(url: str) -> None:
    model = open_on(url)
    await by_nbllm(model, "x")
    tracemalloc.start()
    for prompt in ("x", "100000"):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        length = 0
        async with aclosing(model.stream(prompt)) as stream:
            async for event in stream:
                if isinstance(event, Completed):
                    length = len(event.result.text)
        peak = tracemalloc.get_traced_memory()[1] - before
        print(
            f"{length // 5:7,} chunks: peak {peak / 1024:7,.0f} KiB, text {length / 1024:,.0f} KiB"
        )
    tracemalloc.stop()
    await model.aclose()


async def many(url: str) -> None:
    model, process = open_on(url), psutil.Process()
    before = len(process.net_connections())

    async def first_token(number: int) -> float:
        began = time.perf_counter()
        async with aclosing(model.stream(f"paced {number}")) as stream:
            await anext(stream)
            taken = time.perf_counter() - began
            async for _ in stream:
                pass
        return taken

    times = await asyncio.gather(*(first_token(n) for n in range(200)))
    ratio = max(times) / statistics.median(times)
    print(f"200 streams: median {statistics.median(times):.3f} s, max / median {ratio:.2f} (≤ 3)")
    await model.aclose()
    print(f"connections left: {len(process.net_connections()) - before}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        asyncio.run(compare(url, rounds))
        asyncio.run(memory(url))
        asyncio.run(many(url))
        server.terminate()


if __name__ == "__main__":
    main()
