"""Reading and writing while another process keeps one core busy, beside ``llama_cpp.Llama``.

Run it with ``python tests/benchmarks/bench_busy_neighbour.py [ROUNDS [TOKENS]]`` on a machine that
does nothing else and has at least two cores. Quiet and busy take turns. nbllm is to keep at least
0.45 of its quiet speed both ways. Then two of nbllm's models write at once, which is to give
together what one gives alone, or nearly so.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_peer import load_llama

from nbllm import ModelManager, TextDelta
from nbllm.core.catalogue.listing import bundled_models

SETTLE_SECONDS = 1.5
STORY = "Write a very long story about a lighthouse. Do not stop early."
Figures = dict[str, list[float]]


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that keeps one core busy, if ``busy``."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def fresh_prompt(tokens: int) -> str:
    return " ".join(str(random.randrange(10, 99)) for _ in range(tokens // 3))


async def nbllm_speeds(model: Any, tokens: int) -> tuple[float, float]:
    began = time.perf_counter()
    result = await model.generate(fresh_prompt(tokens), max_tokens=1, temperature=0)
    reading = result.usage.prompt_tokens / (time.perf_counter() - began)
    options = {"temperature": 0, "max_tokens": tokens // 4, "ignore_eos": True}
    result = await model.generate(STORY, prompt_lookup=False, **options)
    return reading, result.tokens_per_second


async def llama_speeds(llama: Any, tokens: int) -> tuple[float, float]:
    prompt = llama.tokenize(fresh_prompt(tokens).encode())
    began = time.perf_counter()
    llama.reset()
    llama.eval(prompt)
    reading = len(prompt) / (time.perf_counter() - began)
    began, count = time.perf_counter(), tokens // 4
    for _ in range(count):
        llama.eval([llama.sample(temp=0.0)])
    return reading, count / (time.perf_counter() - began)


async def two_models(manager: Any, first: Any, tokens: int) -> float:
    """What two models give together, as a share of what one gives alone."""
    info = bundled_models()[0]
    second, _ = await manager.load_model(info.name, alias="second")
    options = {"temperature": 0, "max_tokens": tokens, "ignore_eos": True, "prompt_lookup": False}

    async def arrivals(model: Any) -> list[tuple[float, int]]:
        return [
            (time.perf_counter(), event.tokens)
            async for event in model.stream(STORY, **options)
            if isinstance(event, TextDelta)
        ]

    alone = (await first.generate(STORY, **options)).tokens_per_second
    both = await asyncio.gather(arrivals(first), arrivals(second))
    start = max(times[0][0] for times in both) + SETTLE_SECONDS
    end = min(times[-1][0] for times in both)
    inside = sum(count for times in both for when, count in times if start < when <= end)
    return inside / (end - start) / alone if end > start else float("nan")


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 512
    figures: Figures = {}
    info = bundled_models()[0]
    llama = load_llama(str(info.path), 2048)
    async with ModelManager() as manager:
        model, _ = await manager.load_model(info.name)
        for _ in range(rounds):
            for busy in (False, True):
                with neighbour(busy):
                    await nbllm_speeds(model, tokens)  # it gets used to the neighbour
                    await asyncio.sleep(SETTLE_SECONDS)
                    found = {
                        "nbllm": await nbllm_speeds(model, tokens),
                        "llama_cpp.Llama": await llama_speeds(llama, tokens),
                    }
                for name, speeds in found.items():
                    for kind, speed in zip(("reading", "writing"), speeds, strict=True):
                        key = f"{name}, {kind}, {'busy' if busy else 'quiet'}"
                        figures.setdefault(key, []).append(speed)
        shared = await two_models(manager, model, 4 * tokens)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, median in medians.items():
        print(f"{name:34} {median:8.1f} tokens/s  {[round(value) for value in figures[name]]}")
    for name in ("nbllm", "llama_cpp.Llama"):
        for kind in ("reading", "writing"):
            ratio = medians[f"{name}, {kind}, busy"] / medians[f"{name}, {kind}, quiet"]
            print(f"{name}, {kind}: busy is {ratio:.2f} of quiet")
    print(f"two models at once give {shared:.2f} of what one gives alone")


if __name__ == "__main__":
    asyncio.run(main())
