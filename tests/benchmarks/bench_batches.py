"""Runs over many prompts: their speed, decisions, a large table, and what a kill costs.

Run it with ``python tests/benchmarks/bench_batches.py [PART …]`` on a machine that does nothing
else; without a part, all of them:

- speed: 64 prompts of 64 tokens one after the other, at 1 to 32 at a time, and in a bare loop of
  llama.cpp's low-level calls as wide as the run; then behind an instruction of 300 tokens
- decide: 200 labelled texts of chatterbot-corpus by ``decide`` and by JSON under a schema
- table: 100,000 rows against a server on the loopback, beside bare httpx; memory and journal
- kill: 20 runs that are killed at random moments, each gone on from
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import psutil

from nbllm import ModelManager
from nbllm.cloud.cloud_model import open_model
from nbllm.core.openers import LoadControl
from nbllm.core.types import ModelInfo

ROWS = int(os.environ.get("BENCH_ROWS", "100000"))
WIDTHS = (1, 2, 4, 8, 16, 32)
TOKENS, PROMPTS = 64, 64
INSTRUCTION = "You read a note of a ship's log and tell what happened, in plain words. " * 20
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": TOKENS, "ignore_eos": True}
COUNTS = {
    "sports": 22,
    "movies": 23,
    "science": 28,
    "literature": 43,
    "money": 30,
    "programming": 54,
}

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
            text = body["messages"][-1]["content"]
            writer.write(HEAD + answer(f"The answer to {text} " + "is this. " * 10))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


# ---------------------------------------------------------------- speed


def notes(count: int, before: str = "") -> list[str]:
    return [
        f"{before}Note {number}: tell a story about the number {number}." for number in range(count)
    ]


async def sequential(model: Any, prompts: list[str]) -> float:
    began = time.perf_counter()
    for prompt in prompts:
        await model.generate(prompt, **GREEDY)
    return time.perf_counter() - began


async def batched(model: Any, prompts: list[str], width: int) -> float:
    began = time.perf_counter()
    rows = await model.map(prompts, concurrency=width, priority="interactive", **GREEDY)
    assert not any(row.error for row in rows), rows
    return time.perf_counter() - began


def bare(info: ModelInfo, prompts: list[list[int]], width: int) -> float:
    """The same work by low-level calls alone: ``width`` prompts side by side, then the next."""
    import llama_cpp.llama_cpp as lib
    from llama_peer import load_llama

    threads = info.placement.threads if info.placement else os.cpu_count() or 1
    llama = load_llama(str(info.path), 4096)
    model = llama._model.model
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 8192, 512, 512, width
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = True
    context = lib.llama_init_from_model(model, params)
    batch = lib.llama_batch_init(2048, 0, 1)
    began = time.perf_counter()
    for start in range(0, len(prompts), width):
        _write(lib, context, batch, prompts[start : start + width])
    seconds = time.perf_counter() - began
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    llama.close()
    return seconds


def _write(lib: Any, context: Any, batch: Any, group: list[list[int]]) -> None:
    import numpy as np

    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    vocabulary = lib.llama_model_get_vocab(lib.llama_get_model(context))
    size = lib.llama_vocab_n_tokens(vocabulary)

    def add(token: int, position: int, sequence: int, *, logits: bool) -> None:
        at = batch.n_tokens
        batch.token[at], batch.pos[at] = token, position
        batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, sequence, logits
        batch.n_tokens += 1

    news = []
    for sequence, tokens in enumerate(group):
        batch.n_tokens = 0
        for position, token in enumerate(tokens):
            add(token, position, sequence, logits=position == len(tokens) - 1)
        lib.llama_decode(context, batch)
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, len(tokens) - 1), (size,))
        news.append(int(logits.argmax()))
    for step in range(TOKENS - 1):
        batch.n_tokens = 0
        for sequence, tokens in enumerate(group):
            add(news[sequence], len(tokens) + step, sequence, logits=True)
        lib.llama_decode(context, batch)
        for sequence in range(len(group)):
            row = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, sequence), (size,))
            news[sequence] = int(row.argmax())


async def speed() -> None:
    async with ModelManager() as manager:
        name, count = manager.bundled_model().name, PROMPTS
        model, info = await manager.load_model(name, parallel=max(WIDTHS), context_length=8192)
        await model.generate("Warm up.", max_tokens=8)
        alone = await sequential(model, notes(count))
        print(f"one after the other: {count * TOKENS / alone:6,.0f} tokens/s")
        for width in WIDTHS:
            taken = await batched(model, notes(count), width)
            rate = f"{count * TOKENS / taken:6,.0f} tokens/s, {alone / taken:.2f} times"
            print(f"{width:3} at a time: {rate}")
        long = notes(count, INSTRUCTION)
        tokens = [await model.tokenize(text) for text in notes(count)]
        alone_long = await sequential_without_prefixes(manager, name, long)
        together = await batched(model, long, 8)
        print(
            f"shared instruction of {len(await model.tokenize(INSTRUCTION)):,} tokens: "
            f"{alone_long / together:.2f} times a loop that reads it each time (at least 3)"
        )
    for width in (8, 32):
        taken = bare(info, tokens, width)
        print(f"bare low-level loop, {width} wide: {count * TOKENS / taken:6,.0f} tokens/s")


async def sequential_without_prefixes(manager: Any, name: str, prompts: list[str]) -> float:
    """By an eighth of the prompts, each with a beginning of its own."""
    model, _ = await manager.load_model(name, parallel=1, context_length=2048, alias="alone")
    some = [f"{number} {text}" for number, text in enumerate(prompts[: len(prompts) // 8])]
    return 8 * await sequential(model, some)


# ---------------------------------------------------------------- decide


def labelled() -> list[tuple[str, str]]:
    import yaml

    folder, rows = files("chatterbot_corpus") / "data" / "english", []
    for topic, count in COUNTS.items():
        name = "coding" if topic == "programming" else topic
        dialogues = yaml.safe_load((folder / f"{name}.yml").read_text(encoding="utf-8"))
        texts = dict.fromkeys(
            f"{question} {answer.partition('```')[0]}".strip()
            for question, answer, *_ in dialogues["conversations"]
        )
        rows += [(text, topic) for text in list(texts)[:count]]
    random.Random(1).shuffle(rows)
    return rows


async def decide() -> None:
    from nbllm.batches.calibration import calibrated

    rows = labelled()
    prompts, truth = [f"Text: {text}" for text, _ in rows], [topic for _, topic in rows]
    schema = {
        "type": "object",
        "properties": {"topic": {"type": "string", "enum": list(COUNTS)}},
        "required": ["topic"],
    }
    async with ModelManager() as manager:
        model, _ = await manager.load_model(manager.bundled_model().name)
        await model.generate("Warm up.", max_tokens=8)
        began = time.perf_counter()
        decided = await model.map(prompts, decide={"topic": list(COUNTS)})
        first = time.perf_counter() - began
        asked = [f"{prompt}\n\nWhat is its topic? Answer in JSON." for prompt in prompts]
        began = time.perf_counter()
        written = await model.map(asked, schema=schema, temperature=0.0, max_tokens=40)
        second = time.perf_counter() - began
    print(
        f"decide: {len(rows) / first:6.1f} rows/s, {agreement(decided, truth):.0%} right, "
        f"calibrated {agreement(calibrated(decided), truth):.0%}"
    )
    print(
        f"JSON:   {len(rows) / second:6.1f} rows/s, {agreement(written, truth):.0%} right; "
        f"decide / JSON: {second / first:.1f} times"
    )


def agreement(rows: list[Any], truth: list[str]) -> float:
    def topic(row: Any) -> str | None:
        try:
            return str(row.result.value["topic"])
        except (AttributeError, KeyError, ValueError):
            return None

    return sum(topic(row) == each for row, each in zip(rows, truth, strict=True)) / len(truth)


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


async def table(url: str) -> None:
    info = ModelInfo(name="m", model_type="openai", local=False, base_url=url)
    model, process, width = open_model(info, LoadControl()), psutil.Process(), 64
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
    count = min(ROWS, 20_000)
    bare_seconds = await by_httpx(url, width, count)
    rate, bare_rate = ROWS / seconds, count / bare_seconds
    print(f"{ROWS:,} rows: {rate:,.0f} rows/s; bare httpx {bare_rate:,.0f} rows/s")
    print(f"ratio {rate / bare_rate:.2f} (at least 0.8)")
    print(f"memory beyond the results: {max(seen) - min(seen):+.0f} MiB (at most 50)")
    told = f"{size / ROWS:,.0f} bytes a row for {results / ROWS:,.0f} of text"
    print(f"journal: {told} ({size / results:.2f} times)")


# ---------------------------------------------------------------- killed

KILLED = """
import asyncio, sys
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
    source, lost, asked_twice = random.Random(7), 0, 0
    for _ in range(20):
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
    print(f"20 kills: {lost} finished rows lost, {asked_twice} asked twice (both 0)")


def finished(journal: Path, behind: int = 0) -> set[str]:
    """The keys of the rows in a journal, without the first ``behind``."""
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith((b"]", b"}"))]
    return set([entry[0] for entry in whole if isinstance(entry, list)][behind:])


def main() -> None:
    parts = sys.argv[1:] or ["speed", "decide", "table", "kill"]
    for part, work in (("speed", speed), ("decide", decide)):
        if part in parts:
            asyncio.run(work())
    if not {"table", "kill"} & set(parts):
        return
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        if "table" in parts:
            asyncio.run(table(url))
        if "kill" in parts:
            kill(url)
        server.terminate()


if __name__ == "__main__":
    main()
