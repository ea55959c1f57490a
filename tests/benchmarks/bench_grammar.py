"""Decoding under a JSON schema beside decoding freely: tokens a second, in turns.

Run it with ``python tests/benchmarks/bench_grammar.py [ROUNDS] [TOKENS]`` on a machine that does
nothing else. Both answer the same prompt through ``model.stream`` with the same number of tokens,
greedily and with the default sampling; prompt lookup is off, which would help JSON more.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from typing import Any

from nbllm import ModelInterface, ModelManager
from nbllm.core.catalogue.listing import bundled_models

PROMPT = "List people with their age, their city and three hobbies each, as JSON."
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"enum": ["Paris", "Rome", "Lima"]},
        "hobbies": {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 3},
    },
    "required": ["name", "age", "city", "hobbies"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": PERSON, "minItems": 20}
SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "default sampling": {"seed": 1},
}


async def speed(model: ModelInterface, tokens: int, **options: Any) -> tuple[float, int]:
    """Tokens a second and how many there were."""
    result = await model.generate(PROMPT, max_tokens=tokens, prompt_lookup=False, **options)
    return result.tokens_per_second or float("nan"), result.usage.completion_tokens


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    async with ModelManager() as manager:
        model, _ = await manager.load_model(str(bundled_models()[0].path))
        await speed(model, 8)
        for name, options in SAMPLING.items():
            free: list[float] = []
            bound: list[float] = []
            for _ in range(rounds):
                free.append((await speed(model, tokens, ignore_eos=True, **options))[0])
                per_second, count = await speed(model, tokens, response_schema=SCHEMA, **options)
                bound.append(per_second)
            ratio = statistics.median(bound) / statistics.median(free)
            print(
                f"{name:17} free {statistics.median(free):6.1f}  schema "
                f"{statistics.median(bound):6.1f} tokens/s ({count} tokens)  ratio {ratio:.2f}"
            )
    print("the ratio is to be at least 0.85")


if __name__ == "__main__":
    asyncio.run(main())
