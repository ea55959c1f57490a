"""A thousand requests of mixed sizes, some given up half-way: answers and memory.

Run it with ``python tests/benchmarks/bench_thousand.py [REQUESTS [AT_ONCE]]``. Every answer that
was not given up is compared with the same question asked alone, greedily. The worker's memory is
looked at after each tenth of the requests: it is to be flat.

The requests are made twice. With ``batch_invariant`` all answers are to be equal. Without it
llama.cpp's results depend in their last bits on how many tokens are computed at once, so that two
tokens of nearly one probability may change places: shown are how far such answers agree, and how
likely both took the token at which they part. The ratio of the times is what invariance costs.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import aclosing
from typing import Any

import psutil

from nbllm import GenerationResult, ModelManager, TextDelta

SEED = 5
TOPICS = ("a fox", "the sea", "tax law", "a train", "winter", "bread", "chess", "rain")
CANCELLED = 0.15
CONTEXT = 4096
MEBIBYTE = 2**20


def questions(count: int) -> list[tuple[str, int]]:
    source = random.Random(SEED)
    asked = []
    for number in range(count):
        filler = "Some words to read first. " * source.choice((0, 0, 2, 8, 30))
        prompt = f"{filler}Question {number % 200}: tell me about {source.choice(TOPICS)}."
        asked.append((prompt, source.choice((1, 8, 16, 40))))
    return asked


async def ask(model: Any, prompt: str, tokens: int, leave_after: int | None) -> Any:
    """The result, or None for a request that is given up after some pieces of text."""
    if leave_after is None:
        return await model.generate(prompt, temperature=0, max_tokens=tokens, logprobs=1)
    async with aclosing(model.stream(prompt, temperature=0, max_tokens=tokens)) as events:
        pieces = 0
        async for event in events:
            pieces += isinstance(event, TextDelta)
            if pieces >= leave_after:
                return None
    return None


def parting(one: GenerationResult, other: GenerationResult) -> str:
    """Where two answers part, and the difference of the two best log-probabilities there."""
    pairs = list(zip(one.logprobs, other.logprobs, strict=False))
    for place, (mine, theirs) in enumerate(pairs):
        if mine.data != theirs.data:
            return (
                f"after {place} tokens, log-probabilities {mine.logprob:.3f} {theirs.logprob:.3f}"
            )
    return f"after {len(pairs)} tokens"


async def measure(count: int, at_once: int, *, batch_invariant: bool) -> float:
    """Make the requests, print what came of them, and give the seconds that they took."""
    source, limit = random.Random(SEED), asyncio.Semaphore(at_once)
    asked, memory = questions(count), list[int]()
    async with ModelManager() as manager:
        name = manager.bundled_model().name
        model, _ = await manager.load_model(
            name, context_length=CONTEXT, batch_invariant=batch_invariant
        )
        worker, done = psutil.Process(model.pid), 0  # type: ignore[attr-defined]

        async def one(prompt: str, tokens: int, leave_after: int | None) -> Any:
            nonlocal done
            async with limit:
                result = await ask(model, prompt, tokens, leave_after)
            done += 1
            if done % max(1, count // 10) == 0:
                memory.append(worker.memory_info().rss)
            return result

        began = time.perf_counter()
        results = await asyncio.gather(
            *(
                one(*question, source.randrange(3) if source.random() < CANCELLED else None)
                for question in asked
            )
        )
        seconds = time.perf_counter() - began
        kept = [pair for pair in zip(asked, results, strict=True) if pair[1] is not None]
        print(f"{count} requests in {seconds:.0f} s, {count - len(kept)} of them given up")
        print("memory, MiB:", *(size // MEBIBYTE for size in memory))
        print(f"grown by {(memory[-1] - memory[0]) / memory[0]:.1%} since the first tenth")
        different = [
            parting(result, alone)
            for (prompt, tokens), result in kept
            if (alone := await ask(model, prompt, tokens, None)).text != result.text
        ]
    print(f"{len(kept) - len(different)} of {len(kept)} answers equal those given alone")
    for line in different[:20]:
        print("  parts", line)
    return seconds


async def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    at_once = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    print("batch invariant")
    invariant = await measure(count, at_once, batch_invariant=True)
    print("\nas usual")
    usual = await measure(count, at_once, batch_invariant=False)
    print(f"\nbatch invariance takes {invariant / usual:.2f} times as long")


if __name__ == "__main__":
    asyncio.run(main())
