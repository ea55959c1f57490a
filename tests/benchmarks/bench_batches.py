"""Runs over many prompts on the bundled model: their speed, decisions, and who asks beside them.

Run it with ``python tests/benchmarks/bench_batches.py [PART …]`` on a machine that does nothing
else; without a part, all of them. ``BENCH_SCALE=0.1`` takes a tenth of the work, which says whether
it runs and little more. The runs against a server are in ``bench_batch_table.py``.

- speed: 64 prompts of 64 tokens one after the other, at 1 to 32 at a time, and in a bare loop of
  llama.cpp's low-level calls as wide as the run; then behind an instruction of 300 tokens
- decide: 200 labelled texts of chatterbot-corpus by ``decide`` and by JSON under a schema
- beside: the time to the first token of a question, alone and beside a run
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import statistics
import sys
import time
from importlib.resources import files
from typing import Any

from nbllm import ModelManager
from nbllm.core.types import ModelInfo, TextDelta

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
WIDTHS = (1, 2, 4, 8, 16, 32)
TOKENS, PROMPTS = max(8, int(64 * SCALE)), max(8, int(64 * SCALE))
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
        print(f"one after the other: {count * TOKENS / alone:6,.0f} tokens/s", flush=True)
        for width in (width for width in WIDTHS if width <= count):
            taken = await batched(model, notes(count), width)
            rate = f"{count * TOKENS / taken:6,.0f} tokens/s, {alone / taken:.2f} times"
            print(f"{width:3} at a time: {rate}", flush=True)
        long = notes(count, INSTRUCTION)
        tokens = [await model.tokenize(text) for text in notes(count)]
        alone_long = await sequential_without_prefixes(manager, name, long)
        together = await batched(model, long, 8)
        print(
            f"shared instruction of {len(await model.tokenize(INSTRUCTION)):,} tokens: "
            f"{alone_long / together:.2f} times a loop that reads it each time (at least 3)"
        )
    for width in (8, min(32, count)):
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

    rows = labelled()[: max(20, int(200 * SCALE))]
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
        print(f"decide: {len(rows) / first:6.1f} rows/s", flush=True)
        asked = [f"{prompt}\n\nWhat is its topic? Answer in JSON." for prompt in prompts]
        began = time.perf_counter()
        written = await model.map(asked, schema=schema, temperature=0.0, max_tokens=40)
        second = time.perf_counter() - began
    print(f"JSON:   {len(rows) / second:6.1f} rows/s; decide is {second / first:.1f} times as fast")
    print(f"right:  JSON {agreement(written, truth):.0%}, decide {agreement(decided, truth):.0%}")
    again = calibrated(decided)
    print(f"        decide with calibrate {agreement(again, truth):.0%}")
    for name, found in (("decide", decided), ("calibrate", again)):
        print(f"{name}: {calibration(found, truth)}")


def calibration(rows: list[Any], truth: list[str]) -> str:
    """For each range of probabilities how many rows have it, and what share of them is right."""
    edges = (0.0, 0.3, 0.5, 0.7, 0.9, 1.01)
    pairs = [
        (max(row.result.probabilities["topic"].values()), row.result.value["topic"] == topic)
        for row, topic in zip(rows, truth, strict=True)
    ]
    parts, error = [], 0.0
    for low, high in itertools.pairwise(edges):
        group = [pair for pair in pairs if low <= pair[0] < high]
        if group:
            said, right = (sum(each) / len(group) for each in zip(*group, strict=True))
            error += abs(said - right) * len(group) / len(pairs)
            parts.append(f"{said:.0%} said, {right:.0%} right of {len(group)}")
    return f"{'; '.join(parts)}; expected calibration error {error:.2f}"


def agreement(rows: list[Any], truth: list[str]) -> float:
    def topic(row: Any) -> str | None:
        try:
            return str(row.result.value["topic"])
        except (AttributeError, KeyError, ValueError):
            return None

    return sum(topic(row) == each for row, each in zip(rows, truth, strict=True)) / len(truth)


# ---------------------------------------------------------------- a question beside a run


async def first_tokens(model: Any, count: int) -> float:
    """The median time to the first token of ``count`` questions, each of its own words."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        async for event in model.stream(f"What is {number} and {time.time_ns()}?", max_tokens=8):
            if isinstance(event, TextDelta):
                taken.append(time.perf_counter() - began)
                break
        await asyncio.sleep(0.2)
    return statistics.median(taken)


async def beside() -> None:
    count = max(5, int(30 * SCALE))
    async with ModelManager() as manager:
        model, _ = await manager.load_model(manager.bundled_model().name, parallel=8)
        await model.generate("Warm up.", max_tokens=8)
        quiet = await first_tokens(model, count)
        batch = model.map((f"Tell a story of {n}." for n in itertools.count()), max_tokens=64)
        running = asyncio.ensure_future(batch._all())
        while batch.progress.done < batch.width:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)
        busy, rows = await first_tokens(model, count), batch.progress.done
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    print(f"first token: {1e3 * quiet:,.0f} ms alone, {1e3 * busy:,.0f} ms beside a run")
    print(f"ratio {busy / quiet:.2f} (at most 1.5); the run did {rows} rows by then")


def main() -> None:
    works = {"speed": speed, "decide": decide, "beside": beside}
    for part in sys.argv[1:] or works:
        asyncio.run(works[part]())


if __name__ == "__main__":
    main()
