"""Replay texts and loops through the watcher for repetition, as tokens of the bundled model.

    python tests/benchmarks/bench_repetition.py

None of the texts may be stopped. Loops are to be stopped soon after three rounds of them: the table
says how many tokens after they began.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterable
from pathlib import Path

from nbllm import ModelInterface, ModelManager
from nbllm.local.scheduling.repetition import Repetition

sys.path.insert(0, str(Path(__file__).parent.parent / "local"))

from repeating_texts import TEXTS
from text_makers import words

Tokens = list[tuple[int, bytes]]
PERIODS = (*range(1, 13), *range(15, 61, 5))
LENGTH = 3000


class Tokenizer:
    """Tokens of the model with the text of each."""

    def __init__(self, model: ModelInterface) -> None:
        self._model = model
        self._pieces: dict[int, bytes] = {}

    async def tokens(self, text: str) -> Tokens:
        ids = await self._model.tokenize(text)
        for token in set(ids) - self._pieces.keys():
            self._pieces[token] = (await self._model.detokenize([token])).encode()
        return [(token, self._pieces[token]) for token in ids]


def watch(tokens: Iterable[tuple[int, bytes]]) -> tuple[int | None, float]:
    """Behind how many tokens the answer is stopped, and how near it came to that."""
    watcher, nearest = Repetition(), 0.0
    for number, token in enumerate(tokens, 1):
        if watcher.add(*token):
            return number, 1.0
        nearest = max(nearest, watcher.share)
    return None, nearest


def drifting(loop: Tokens, others: Tokens) -> Tokens:
    """The loop with another token in its middle in one round of eight."""
    draw, rounds = random.Random(1), list[Tokens]()
    for number in range(LENGTH // len(loop)):
        middle = [draw.choice(others[:5])] if number % 8 == 0 else loop[len(loop) // 2 :][:1]
        rounds.append([*loop[: len(loop) // 2], *middle, *loop[len(loop) // 2 + 1 :]])
    return [token for each in rounds for token in each]


def delay(begin: Tokens, loop: Tokens) -> str:
    stop, _ = watch([*begin, *loop])
    return "never" if stop is None else str(stop - len(begin))


async def main() -> None:
    async with ModelManager() as manager:
        model, _ = await manager.load_model(manager.bundled_model().name)
        tokenizer = Tokenizer(model)
        texts = {name: await tokenizer.tokens(text) for name, text in TEXTS.items()}
        prose = await tokenizer.tokens(words(600))
    watched = {name: watch(tokens) for name, tokens in texts.items()}
    stopped = {name: stop for name, (stop, _) in watched.items() if stop is not None}
    print(f"{len(TEXTS)} texts, {sum(map(len, texts.values())):,} tokens: {len(stopped)} stopped")
    for name, stop in stopped.items():
        print(f"  FALSE STOP behind {stop:,} of {len(texts[name]):,} tokens: {name}")
    print("nearest to a stop, as a share of what it takes:")
    for name in sorted(watched, key=lambda name: -watched[name][1])[:5]:
        print(f"  {watched[name][1]:.2f}  {name}")
    begin, rest = prose[:300], prose[300:]
    print("loops: tokens from their beginning to the stop")
    print("  period  exact  one round in eight differs")
    for period in PERIODS:
        loop = rest[:period]
        exact = delay(begin, loop * (LENGTH // period))
        print(f"  {period:6}  {exact:>5}  {delay(begin, drifting(loop, rest[100:])):>5}")


if __name__ == "__main__":
    asyncio.run(main())
