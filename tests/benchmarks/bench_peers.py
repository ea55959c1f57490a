"""nbllm beside llama.cpp's own programs and ``llama_cpp.Llama``, on the bundled model.

Run it with ``python tests/benchmarks/bench_peers.py --llama-cpp FOLDER`` on a machine that does
nothing else: a busy neighbour makes some of the peers fifty times slower. FOLDER holds
``llama-bench``, ``llama-batched-bench`` and ``llama-server``; without it only
``llama_cpp.Llama`` is compared. They are built from the sources that llama-cpp-python carries,
so that all run the same kernels::

    pip download --no-deps --no-binary :all: llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
    cmake -B build -S llama_cpp_python-*/vendor/llama.cpp -DCMAKE_BUILD_TYPE=Release
    cmake --build build --target llama-bench llama-batched-bench llama-server

All variants take turns; the figures are medians. Where llama.cpp's kernels for AMX would crash,
every program runs without weight repacking, as nbllm does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import llama_cpp.llama_cpp as lib

from nbllm import ModelInterface, ModelManager, TextDelta
from nbllm.core.catalogue.listing import bundled_models

THREADS = len(os.sched_getaffinity(0))
MODEL = str(bundled_models()[0].path)
HAS_AMX = b"AMX_INT8 = 1" in lib.llama_print_system_info()
STORY = "Write a very long story about {}, a whale and a storm. Do not stop early."
STREAM_TOKENS = 64
PROMPT_TOKENS = 64  # of ``STORY`` in the model's template, about
STREAMS = (8, 16)
BOTH = ("nbllm", "llama-server")
WORDS = ("lighthouse", "river", "garden", "engine", "music", "winter", "letter", "harbour")

Figures = dict[str, list[float]]
Measure = Callable[[], Awaitable[dict[str, float]]]


# ---------------------------------------------------------------- nbllm


Arrivals = list[tuple[float, int]]
"""When text of one answer arrived, and how many tokens it was."""


async def arrivals(
    model: ModelInterface, prompt: str, tokens: int, *, guesses: bool = True
) -> Arrivals:
    options = {"temperature": 0, "max_tokens": tokens, "prompt_lookup": None if guesses else False}
    return [
        (time.perf_counter(), event.tokens or 0)
        async for event in model.stream(prompt, **options)
        if isinstance(event, TextDelta)
    ]


async def stream_once(
    model: ModelInterface, prompt: str, tokens: int, *, guesses: bool = True
) -> tuple[float, float]:
    """Seconds to the first text, and tokens a second after it."""
    began = time.perf_counter()
    (first, _), *later = await arrivals(model, prompt, tokens, guesses=guesses)
    seconds = (later[-1][0] if later else first) - first
    return first - began, sum(count for _, count in later) / seconds if later else 0.0


def decode_speed(answers: list[Arrivals]) -> float:
    """Tokens a second of all answers together, while all of them were being written."""
    start = max(answer[0][0] for answer in answers)
    end = min(answer[-1][0] for answer in answers)
    inside = sum(count for answer in answers for when, count in answer if start < when <= end)
    return inside / (end - start)


def fresh(text: str) -> str:
    """``text`` behind words that no earlier prompt had, so that nothing is found in a cache."""
    return f"{random.randrange(10**9)}. {text}"


async def prompt_of(model: ModelInterface, tokens: int) -> str:
    """A fresh prompt of so many tokens in the model's template, or one or two less."""
    words = [random.choice(WORDS) for _ in range(tokens)]
    low, high = 0, tokens
    number = fresh("")
    while low < high:
        middle = (low + high + 1) // 2
        counted = await model.count_tokens(number + " ".join(words[:middle]))
        low, high = (middle, high) if int(counted) <= tokens else (low, middle - 1)
    return number + " ".join(words[:low])


class Nbllm:
    """One model of nbllm, loaded with ``load``'s options."""

    def __init__(self, model: ModelInterface, tokens: int) -> None:
        self._model, self._tokens = model, tokens

    async def one_stream(self) -> dict[str, float]:
        prompt = fresh(STORY.format("a"))
        _, speed = await stream_once(self._model, prompt, self._tokens)
        _, plain = await stream_once(self._model, prompt, self._tokens, guesses=False)
        return {"decode": speed, "decode without guesses": plain}

    async def long_prompt(self) -> dict[str, float]:
        prompt = await prompt_of(self._model, 512)
        first, _ = await stream_once(self._model, prompt, 2)
        return {"first token of 512": first}

    async def defaults(self) -> dict[str, float]:
        prompt = await prompt_of(self._model, 300)
        first, _ = await stream_once(self._model, prompt, 2)
        _, speed = await stream_once(self._model, fresh(STORY.format("a")), self._tokens)
        return {"default first token": first, "default decode": speed}

    async def many(self, streams: int) -> dict[str, float]:
        prompts = [fresh(STORY.format(word)) for word in (WORDS * 2)[:streams]]
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(arrivals(self._model, prompt, STREAM_TOKENS) for prompt in prompts)
        )
        written = sum(count for answer in answers for _, count in answer)
        return {
            f"{streams} streams": written / (time.perf_counter() - began),
            f"decode of {streams}": decode_speed(answers),
        }


# ---------------------------------------------------------------- llama_cpp.Llama

LLAMA = """
import json, sys, time
import llama_cpp
if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
    make = llama_cpp.llama_cpp.llama_model_default_params
    def without_repacking():
        params = make()
        params.use_extra_bufts = False
        return params
    llama_cpp.llama_cpp.llama_model_default_params = without_repacking
    llama_cpp.llama_model_default_params = without_repacking
llm = llama_cpp.Llama(sys.argv[1], verbose=False)
for line in sys.stdin:
    prompt, tokens = json.loads(line)
    began, first, count = time.perf_counter(), 0.0, 0
    messages = [{"role": "user", "content": prompt}]
    for chunk in llm.create_chat_completion(
        messages, stream=True, temperature=0, max_tokens=tokens
    ):
        if chunk["choices"][0]["delta"].get("content"):
            first = first or time.perf_counter()
            count += 1
    print(json.dumps([first - began, time.perf_counter() - first, count]), flush=True)
"""


class Llama:
    """``llama_cpp.Llama`` with its defaults, in a process of its own."""

    def __init__(self, counter: ModelInterface, tokens: int) -> None:
        self._counter, self._tokens = counter, tokens
        self._process = subprocess.Popen(
            [sys.executable, "-c", LLAMA, MODEL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    async def _ask(self, prompt: str, tokens: int) -> tuple[float, float, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([prompt, tokens]) + "\n")
        self._process.stdin.flush()
        line = await asyncio.to_thread(self._process.stdout.readline)
        first, seconds, count = json.loads(line)
        return first, seconds, count

    async def defaults(self) -> dict[str, float]:
        first, _, _ = await self._ask(await prompt_of(self._counter, 300), 2)
        _, seconds, count = await self._ask(fresh(STORY.format("a")), self._tokens)
        return {"default first token": first, "default decode": (count - 1) / seconds}


# ---------------------------------------------------------------- llama.cpp's programs


async def output_of(*command: str) -> list[dict[str, Any]]:
    """The JSON lines that a program prints."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    lines = [line for line in output.decode().splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{command[0]} printed nothing and ended with {process.returncode}")
    return [json.loads(line) for line in lines]


class LlamaBench:
    """``llama-bench`` and ``llama-batched-bench``; of both settings of flash attention the best."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self._folder, self._tokens = folder, tokens

    async def _bench(self, *arguments: str) -> list[dict[str, Any]]:
        repack = ["--repack", "0"] if HAS_AMX else []
        return await output_of(
            str(self._folder / "llama-bench"),
            *("-m", MODEL, "-t", str(THREADS), "-fa", "on,off", "-r", "1", "-o", "jsonl"),
            *repack,
            *arguments,
        )

    async def one_stream(self) -> dict[str, float]:
        runs = await self._bench(*("-p", "0", "-n", str(self._tokens), "-d", f"0,{PROMPT_TOKENS}"))
        figures = {"decode": 0.0, "decode behind a prompt": 0.0}
        for run in runs:
            figure = "decode behind a prompt" if run["n_depth"] else "decode"
            figures[figure] = max(figures[figure], run["avg_ts"])
        return figures

    async def long_prompt(self) -> dict[str, float]:
        runs = await self._bench("-p", "512", "-n", "0")
        return {"first token of 512": min(run["avg_ns"] for run in runs) / 1e9}

    async def batched(self) -> dict[str, float]:
        runs = await output_of(
            str(self._folder / "llama-batched-bench"),
            *("-m", MODEL, "-t", str(THREADS), "-c", "8192", "-npp", "64"),
            *("-ntg", str(STREAM_TOKENS), "-npl", "1,16", "--output-format", "jsonl"),
            *(["--no-repack"] if HAS_AMX else []),
        )
        one, sixteen = (run["speed_tg"] for run in runs)
        return {"16 streams over one": sixteen / one}


class LlamaServer:
    """``llama-server`` over HTTP with so many slots.

    Each has its share of the context, or, where it is ``unified`` as nbllm's is, any may fill it.
    """

    def __init__(self, client: httpx.AsyncClient, streams: int) -> None:
        self._client, self._streams = client, streams

    async def _one(self, prompt: str) -> int:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": STREAM_TOKENS,
            "stream": True,
        }
        written = 0
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                written += line.startswith("data: {") and '"content":"' in line
        return written

    async def many(self) -> dict[str, float]:
        prompts = [fresh(STORY.format(word)) for word in (WORDS * 2)[: self._streams]]
        began = time.perf_counter()
        written = await asyncio.gather(*map(self._one, prompts))
        return {f"{self._streams} streams": sum(written) / (time.perf_counter() - began)}


@asynccontextmanager
async def serving(
    folder: Path, streams: int, *, unified: bool = False
) -> AsyncIterator[LlamaServer]:
    """A server on a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(folder / "llama-server"),
        *("-m", MODEL, "-t", str(THREADS), "-np", str(streams), "-c", "8192"),
        *("--host", "127.0.0.1", "--port", str(port), "-fa", "on", "--cache-ram", "0"),
        "--kv-unified" if unified else "--no-kv-unified",
        *(["--no-repack"] if HAS_AMX else []),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        try:
            await _healthy(client)
            yield LlamaServer(client, streams)
        finally:
            process.terminate()
            await process.wait()


async def _healthy(client: httpx.AsyncClient) -> None:
    for _ in range(100):
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("llama-server did not start")


# ---------------------------------------------------------------- in turns


async def take_turns(rounds: int, variants: Mapping[str, Measure]) -> dict[str, float]:
    """The medians of all figures, by "variant: figure"; a round unmeasured comes first."""
    figures: Figures = {}
    for number in range(rounds + 1):
        for name, measure in variants.items():
            for figure, value in (await measure()).items():
                if number:
                    figures.setdefault(f"{name}: {figure}", []).append(value)
    for name, values in figures.items():
        print(f"  {name:40} {[round(value, 2) for value in values]}")
    return {name: statistics.median(values) for name, values in figures.items()}


def report(words: str, ratio: float, bound: str) -> None:
    """One line of the table."""
    print(f"{words}: {ratio:.3f} (is to be {bound})")


async def compare_defaults(rounds: int, tokens: int) -> None:
    async with ModelManager() as manager:
        model, _ = await manager.load_model(MODEL)
        variants = {"nbllm": Nbllm(model, tokens).defaults, "Llama": Llama(model, tokens).defaults}
        found = await take_turns(rounds, variants)
    decode = found["nbllm: default decode"] / found["Llama: default decode"]
    first = found["Llama: default first token"] / found["nbllm: default first token"]
    report("defaults, decode, over llama_cpp.Llama", decode, "at least 1.05")
    report("defaults, first token, times faster than llama_cpp.Llama", first, "at least 1.05")


async def compare_one_stream(folder: Path, rounds: int, tokens: int) -> None:
    async with ModelManager() as manager:
        model, _ = await manager.load_model(MODEL, threads=THREADS)
        ours, theirs = Nbllm(model, tokens), LlamaBench(folder, tokens)
        found = await take_turns(
            rounds,
            {
                "nbllm": ours.one_stream,
                "llama-bench": theirs.one_stream,
                "nbllm ": ours.long_prompt,
                "llama-bench ": theirs.long_prompt,
            },
        )
    decode = found["nbllm: decode"] / found["llama-bench: decode"]
    first = found["nbllm : first token of 512"] / found["llama-bench : first token of 512"]
    plain = found["nbllm: decode without guesses"]
    behind = plain / found["llama-bench: decode behind a prompt"]
    report("one stream, decode, over llama-bench", decode, "at least 0.95")
    print(f"  {plain / found['llama-bench: decode']:.3f} without prompt lookup")
    print(f"  {behind:.3f} without it, over llama-bench behind as long a prompt")
    report("first token of 512, times llama-bench's pp512", first, "at most 1.10")


async def compare_streams(folder: Path, rounds: int) -> None:
    for streams in STREAMS:
        async with (
            ModelManager() as manager,
            serving(folder, streams) as server,
            serving(folder, streams, unified=True) as unified,
        ):
            load = partial(manager.load_model, MODEL, threads=THREADS, parallel=streams)
            model, _ = await load()
            split, _ = await load(alias="split", kv_unified=False)
            found = await take_turns(
                rounds,
                {
                    "nbllm unified": partial(Nbllm(model, STREAM_TOKENS).many, streams),
                    "nbllm split": partial(Nbllm(split, STREAM_TOKENS).many, streams),
                    "llama-server unified": unified.many,
                    "llama-server split": server.many,
                },
            )
        for kind in ("unified", "split"):
            own, theirs = (found[f"{name} {kind}: {streams} streams"] for name in BOTH)
            report(f"{streams} streams over llama-server, {kind}", own / theirs, "at least 1.0")
    async with ModelManager() as manager:
        model, _ = await manager.load_model(MODEL, threads=THREADS, parallel=max(STREAMS))
        ours = Nbllm(model, STREAM_TOKENS)
        found = await take_turns(
            rounds,
            {
                "nbllm 1": partial(ours.many, 1),
                "nbllm 16": partial(ours.many, 16),
                "llama-batched-bench": LlamaBench(folder, STREAM_TOKENS).batched,
            },
        )
    gain = found["nbllm 16: decode of 16"] / found["nbllm 1: decode of 1"]
    allowed = found["llama-batched-bench: 16 streams over one"]
    report(
        "16 streams over one, of what llama-batched-bench shows", gain / allowed, "at least 0.95"
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama-cpp", type=Path, help="the folder of llama.cpp's programs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    args = parser.parse_args()
    await compare_defaults(args.rounds, args.tokens)
    if args.llama_cpp:
        await compare_one_stream(args.llama_cpp, args.rounds, args.tokens)
        await compare_streams(args.llama_cpp, args.rounds)


if __name__ == "__main__":
    asyncio.run(main())
