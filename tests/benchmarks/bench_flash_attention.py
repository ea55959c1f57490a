"""Flash attention on and off on the CPU: prompts of several lengths, and the answers behind them.

Run it with ``python tests/benchmarks/bench_flash_attention.py [ROUNDS [MODEL]]`` on a machine that
does nothing else. All variants take turns; the figures are medians.

With flash attention llama.cpp passes over the cells that a token may not see; without it, it
computes all cells up to the last one in use. So in a unified KV cache, which keeps the prompts of
before, turning it off loses; where each request has a share of its own it pays for answers behind
long prompts, and there ``%llm_bench`` compares the two.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping

from bench_peers import MODEL, STORY, THREADS, Arrivals, arrivals, prompt_of

from nbllm import ModelInterface, ModelManager

LENGTHS = (64, 512, 2000)
ANSWER_TOKENS = 64
VARIANTS = {  # by name: flash attention, one KV cache for all requests
    "on": (True, True),
    "off": (False, True),
    "on, split": (True, False),
    "off, split": (False, False),
}
Speeds = dict[tuple[str, int], list[tuple[float, float]]]


async def speeds_behind(model: ModelInterface, length: int) -> tuple[float, float]:
    """Prompt tokens a second until the first text, and answer tokens a second after it."""
    answer: Arrivals = []
    while len(answer) < 2:  # now and then the model says nothing to so many words
        prompt = f"{await prompt_of(model, length)} {STORY.format('a')}"
        tokens = int(await model.count_tokens(prompt))
        began = time.perf_counter()
        answer = await arrivals(model, prompt, ANSWER_TOKENS, guesses=False)
    (first, _), *later = answer
    return tokens / (first - began), sum(count for _, count in later) / (later[-1][0] - first)


async def measured(rounds: int, models: Mapping[str, ModelInterface]) -> Speeds:
    found: Speeds = {}
    for number in range(rounds + 1):
        for length in LENGTHS:
            for name, model in models.items():
                speeds = await speeds_behind(model, length)
                if number:  # the first round warms up
                    found.setdefault((name, length), []).append(speeds)
    return found


async def main(rounds: int = 3, path: str = MODEL) -> None:
    async with ModelManager() as manager:
        models = {}
        for name, (is_on, is_unified) in VARIANTS.items():
            models[name], _ = await manager.load_model(
                path,
                alias=name,
                threads=THREADS,
                parallel=2,
                flash_attention=is_on,
                kv_unified=is_unified,
            )
        found = await measured(rounds, models)
    for length in LENGTHS:
        medians = {
            name: [statistics.median(column) for column in zip(*found[name, length], strict=True)]
            for name in models
        }
        usual = medians[next(iter(VARIANTS))]
        for name, speeds in medians.items():
            told = [
                f"{kind} {speed:6.1f} ({speed / least:.2f} of the first)"
                for kind, speed, least in zip(("prefill", "decode"), speeds, usual, strict=True)
            ]
            print(f"{length:5} tokens, {name:11} {', '.join(told)}")


if __name__ == "__main__":
    rounds, path = (sys.argv[1:] + ["3", MODEL][len(sys.argv) - 1 :])[:2]
    asyncio.run(main(int(rounds), path))
