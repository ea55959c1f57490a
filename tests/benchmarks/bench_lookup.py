"""Prompt lookup on tasks that copy much and on one that copies nothing, beside writing without it.

Run it with ``python tests/benchmarks/bench_lookup.py [ROUNDS [TOKENS [FILE]]]`` on a machine that
does nothing else; FILE is a GGUF, without it the bundled model. Answers are greedy; both ways take
turns, on prompts that are read already. On the copying tasks there are to be at least 1.5 times the
tokens a second, on the other one nothing may be lost. The model is loaded with ``batch_invariant``,
where the texts are to be the same, and as usual, where llama.cpp rounds otherwise for several
tokens than for one: two that are as good as equally likely may change places there.
"""

from __future__ import annotations

import asyncio
import statistics
import sys

from nbllm import ModelInterface, ModelManager

RECORDS = "\n".join(
    f'{{"id": {100 + n}, "city": "{city}", "people": {n * 1237 + 511}, "open": true}}'
    for n, city in enumerate(["Lisbon", "Oslo", "Quito", "Hanoi", "Accra", "Perth"])
)
CODE = '''def mean(values):
    """The arithmetic mean of values."""
    total = 0
    for value in values:
        total = total + value
    return total / len(values)


def variance(values):
    """The mean squared distance from the mean."""
    center = mean(values)
    total = 0
    for value in values:
        total = total + (value - center) ** 2
    return total / len(values)
'''
PROSE = (
    "The harbour was quiet in the morning. Small boats lay side by side, and the gulls sat on the "
    "roofs of the old houses. A man carried two baskets of fish along the wall, and a woman sold "
    "bread from a window. Behind the town the hills were green, and a white road led over them to "
    "the next valley, where the river came down from the mountains."
)
TASKS = {
    "prose": f"Repeat this text word for word:\n\n{PROSE}\n\nAgain, word for word:",
    "records": f"Repeat these lines exactly as they are, nothing else:\n{RECORDS}",
    "code": f"Repeat this Python code exactly as it is:\n```python\n{CODE}```",
    "story": "Write a story about a lighthouse keeper and a whale.",
}


async def speed(model: ModelInterface, prompt: str, tokens: int, look: bool) -> tuple[float, str]:
    result = await model.generate(
        prompt, temperature=0, max_tokens=tokens, prompt_lookup=None if look else False
    )
    return result.tokens_per_second or 0.0, result.text


async def compare(rounds: int, tokens: int, file: str | None, *, batch_invariant: bool) -> None:
    async with ModelManager() as manager:
        file = file or manager.bundled_model().name
        model, _ = await manager.load_model(file, batch_invariant=batch_invariant)
        for name, prompt in TASKS.items():
            speeds: dict[bool, list[float]] = {False: [], True: []}
            texts: dict[bool, str] = {}
            for _ in range(rounds + 1):
                for look in speeds:
                    value, texts[look] = await speed(model, prompt, tokens, look)
                    speeds[look].append(value)
            plain, looked = (statistics.median(values[1:]) for values in speeds.values())
            same = "same text" if texts[False] == texts[True] else "ANOTHER TEXT"
            print(f"{name:8} without {plain:6.1f}  with {looked:6.1f} tokens/s", end="  ")
            print(f"{looked / plain:.2f} times, {same}")


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    file = sys.argv[3] if len(sys.argv) > 3 else None
    for batch_invariant in (False, True):
        print("batch invariant" if batch_invariant else "as usual")
        await compare(rounds, tokens, file, batch_invariant=batch_invariant)


if __name__ == "__main__":
    asyncio.run(main())
