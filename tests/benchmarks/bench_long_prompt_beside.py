"""A stream while long prompts come in: how far apart its tokens are, quiet and beside them.

Run it with ``python tests/benchmarks/bench_long_prompt_beside.py [ROUNDS [PROMPT_TOKENS]]`` on a
machine that does nothing else. A stream writes alone, then a prompt of 4,000 tokens comes in, then
two at once and a short question. The time between tokens is to stay within three times its quiet
value; the prompt's own time to the first token is shown beside what it takes alone.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from contextlib import aclosing
from itertools import pairwise

from nbllm import ModelInterface, ModelManager, TextDelta

STORY = "Write a very long story about a lighthouse. Do not stop early."
QUIET_SECONDS = 2.0


class Stream:
    """Notes when text arrives; ``gap`` is the mean time between tokens since the last look."""

    def __init__(self, model: ModelInterface) -> None:
        self._model = model
        self._arrivals: list[tuple[float, int]] = []
        self._started = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        options = {"temperature": 0, "ignore_eos": True, "prompt_lookup": False}
        async with aclosing(self._model.stream(STORY, **options)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    self._arrivals.append((time.perf_counter(), event.tokens or 0))
                    self._started.set()

    async def began(self) -> None:
        await self._started.wait()

    def gaps(self, start: float, end: float) -> tuple[float, float]:
        """Seconds between tokens, and the longest pause between two pieces of text."""
        inside = [(when, tokens) for when, tokens in self._arrivals if start <= when <= end]
        times = [when for when, _ in inside]
        tokens = sum(tokens for _, tokens in inside[1:])
        pauses = [after - before for before, after in pairwise(times)]
        return (times[-1] - times[0]) / tokens, max(pauses)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def fresh_prompt(words: int) -> str:
    return " ".join(str(random.randrange(10, 99)) for _ in range(words))


async def first_token(model: ModelInterface, prompt: str) -> tuple[float, int]:
    began = time.perf_counter()
    result = await model.generate(prompt, max_tokens=1, temperature=0)
    return time.perf_counter() - began, result.usage.prompt_tokens


async def measured(model: ModelInterface, words: int) -> dict[str, float]:
    alone, tokens = await first_token(model, fresh_prompt(words))
    stream = Stream(model)
    await stream.began()
    await asyncio.sleep(QUIET_SECONDS)
    start = time.perf_counter()
    quiet, quiet_pause = stream.gaps(start - QUIET_SECONDS, start)
    beside, _ = await first_token(model, fresh_prompt(words))
    end = time.perf_counter()
    busy, busy_pause = stream.gaps(start, end)
    start = end
    two = [asyncio.create_task(first_token(model, fresh_prompt(words // 2))) for _ in range(2)]
    await asyncio.sleep(0.2)
    short, _ = await first_token(model, "Say hello.")
    await asyncio.gather(*two)
    both, _ = stream.gaps(start, time.perf_counter())
    await stream.stop()
    return {
        "prompt tokens": tokens,
        "quiet, ms between tokens": 1e3 * quiet,
        "beside one prompt, ms": 1e3 * busy,
        "beside two prompts, ms": 1e3 * both,
        "one prompt / quiet": busy / quiet,
        "two prompts / quiet": both / quiet,
        "longest pause quiet, ms": 1e3 * quiet_pause,
        "longest pause beside, ms": 1e3 * busy_pause,
        "prompt alone, s": alone,
        "prompt beside a stream, s": beside,
        "short question beside all, s": short,
    }


async def main() -> None:
    rounds, tokens = (int(value) for value in [*sys.argv[1:], 3, 4000][:2])
    if len(sys.argv) == 2:
        tokens = 4000
    figures: dict[str, list[float]] = {}
    async with ModelManager() as manager:
        name = manager.bundled_model().name
        model, _ = await manager.load_model(name, context_length=5 * tokens)
        for _ in range(rounds):
            for name, value in (await measured(model, tokens // 3)).items():
                figures.setdefault(name, []).append(value)
    for name, values in figures.items():
        print(f"{name:30} {statistics.median(values):9.2f}  {[round(v, 2) for v in values]}")
    print("each of the two ratios is to be at most 3")


if __name__ == "__main__":
    asyncio.run(main())
