"""Flash attention on and off on the CPU: prompts of several lengths, and the answers behind them.

Run it with ``python tests/benchmarks/bench_flash_attention.py [ROUNDS [MODEL]]`` on a machine that
does nothing else. ``%llm_bench`` makes the same choice for one length; this shows how it depends
on the length. All variants take turns; the figures are medians.
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
        for name, is_on in (("on", True), ("off", False)):
            models[name], _ = await manager.load_model(
                path, alias=name, threads=THREADS, flash_attention=is_on
            )
        found = await measured(rounds, models)
    for length in LENGTHS:
        medians = {
            name: [statistics.median(column) for column in zip(*found[name, length], strict=True)]
            for name in models
        }
        for name, (prefill, decode) in medians.items():
            print(f"{length:5} tokens, {name:3}: prefill {prefill:6.1f}, decode {decode:6.1f}")
        ratios = [off / on for off, on in zip(medians["off"], medians["on"], strict=True)]
        print(f"{length:5} tokens, off over on: prefill {ratios[0]:.2f}, decode {ratios[1]:.2f}")


if __name__ == "__main__":
    rounds, path = (sys.argv[1:] + ["3", MODEL][len(sys.argv) - 1 :])[:2]
    asyncio.run(main(int(rounds), path))
