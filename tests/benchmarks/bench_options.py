"""Which sampling options suit the bundled model: facts that it reads right, and answers that end.

    python tests/benchmarks/bench_options.py [SEEDS [LIMIT]]

A default is changed only for options that lose on neither. LIMIT is in tokens; an answer that ends
before it, and not because it repeats itself, ended by itself. LIMIT 0 measures the facts alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from nbllm import FinishReason, GenerationResult, ModelInterface, ModelManager

AT_ONCE = 8
OPTIONS: Mapping[str, dict[str, Any]] = {
    "as recommended (0.2, top_p 0.9)": {},
    "temperature 0": {"temperature": 0},
    "temperature 0.1": {"temperature": 0.1},
    "temperature 0.4": {"temperature": 0.4},
    "llama.cpp's own (0.8, 0.95)": {"temperature": 0.8, "top_p": 0.95},
    "repeat_penalty 1.05": {"repeat_penalty": 1.05},
    "repeat_penalty 1.1": {"repeat_penalty": 1.1},
    "frequency_penalty 0.1": {"frequency_penalty": 0.1},
    "presence_penalty 0.2": {"presence_penalty": 0.2},
    "DRY 0.8, from 8 tokens on": {"dry_multiplier": 0.8, "dry_allowed_length": 8},
}
FACTS = {
    "Ann is 34 years old and lives in Rome. How old is Ann?": "34",
    "Ann is 34 years old and lives in Rome. Where does Ann live?": "Rome",
    "The train to Oslo leaves at 14:35 from platform 9. When does the train leave?": "14:35",
    "The train to Oslo leaves at 14:35 from platform 9. Which platform?": "9",
    "A pen costs 3 dollars and a book costs 17 dollars. What does the book cost?": "17",
    "The meeting was moved from Monday to Wednesday. On which day is the meeting?": "Wednesday",
    "Tom has a dog called Rex and a cat called Luna. What is the cat's name?": "Luna",
    "Luxembourg lies between France and Germany. What is the capital of France?": "Paris",
    "Write this in upper case: hello": "HELLO",
    "Repeat exactly: 4711 0815 4711": "4711 0815 4711",
    "What is the capital of Germany?": "Berlin",
    "What is the capital of Japan?": "Tokyo",
}
EVERYDAY = (
    "What is recursion?",
    "Give three tips for learning a new language.",
    "List ten animals that live in Africa.",
    "Write a short story about a lighthouse keeper.",
    "Write a poem about the sea.",
    "Write a Python function that checks whether a number is prime.",
    "Make a Markdown table of five countries and their capitals.",
    "Explain photosynthesis to a child.",
    "Write a recipe for pancakes.",
    "Write an email to my boss asking for a day off.",
    "Write a plan for a weekend in Rome.",
    "Name five fruits and their colors.",
)


async def answers(
    model: ModelInterface, prompts: Iterable[str], seeds: int, **options: Any
) -> list[tuple[str, GenerationResult]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(prompt: str, seed: int) -> tuple[str, GenerationResult]:
        async with gate:
            return prompt, await model.generate(prompt, seed=seed, **options)

    return await asyncio.gather(*(one(prompt, n) for prompt in prompts for n in range(seeds)))


async def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    async with ModelManager() as manager:
        model, _ = await manager.load_model(manager.bundled_model().name)
        for name, options in OPTIONS.items():
            read = await answers(model, FACTS, seeds, max_tokens=40, **options)
            right = sum(FACTS[prompt] in result.text for prompt, result in read)
            print(f"{name:32} facts {right:3} of {len(read)}", end="", flush=True)
            if limit:
                told = await answers(model, EVERYDAY, seeds, max_tokens=limit, **options)
                ended = sum(result.finish_reason is FinishReason.STOP for _, result in told)
                print(f"   ended by themselves {ended:3} of {len(told)}", end="")
            print(flush=True)


if __name__ == "__main__":
    asyncio.run(main())
