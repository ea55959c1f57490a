"""A draft model beside writing without one.

Run it with ``python tests/benchmarks/bench_draft.py [ROUNDS [TOKENS]]`` on a machine that does
nothing else. The model is the bundled one written out in 32-bit numbers, which takes about five
times as long for a token; the draft is the bundled one rounded to Q4_0. Answers are greedy, prompt
lookup is off, and both ways take turns. The texts are the same but where llama.cpp rounds otherwise
for several tokens than for one.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cpp.llama_cpp as lib

from nbllm import GenerationResult, ModelInterface, ModelManager

PROMPTS = {
    "story": "Write a story about a lighthouse keeper and a whale.",
    "explain": "Explain what a hash table is and when to use it.",
    "list": "Give me a JSON list of five European cities with their countries.",
    "copy": "Repeat word for word: The harbour was quiet in the morning, and the gulls sat on the "
    "roofs of the old houses. A man carried two baskets of fish along the wall.",
}
KINDS = {"F32": lib.LLAMA_FTYPE_ALL_F32, "Q4_0": lib.LLAMA_FTYPE_MOSTLY_Q4_0}


def convert(source: Path, folder: Path) -> dict[str, Path]:
    """The same model in other number formats."""
    files = {}
    for name, kind in KINDS.items():
        params = lib.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize = kind, True
        files[name] = folder / f"{name}.gguf"
        if lib.llama_model_quantize(bytes(source), bytes(files[name]), params):
            raise SystemExit(f"llama.cpp could not convert {source} to {name}")
    return files


async def ask(model: ModelInterface, prompt: str, tokens: int) -> GenerationResult:
    return await model.generate(prompt, temperature=0, max_tokens=tokens, prompt_lookup=False)


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    with TemporaryDirectory() as folder:
        async with ModelManager() as manager:
            source = manager.bundled_model().path
            assert source is not None
            files = convert(source, Path(folder))
            plain, _ = await manager.load_model(files["F32"], alias="plain")
            drafted, _ = await manager.load_model(
                files["F32"], alias="drafted", draft_model=str(files["Q4_0"])
            )
            for name, prompt in PROMPTS.items():
                await compare(name, prompt, plain, drafted, rounds, tokens)


async def compare(
    name: str,
    prompt: str,
    plain: ModelInterface,
    drafted: ModelInterface,
    rounds: int,
    tokens: int,
) -> None:
    speeds: dict[str, list[float]] = {"plain": [], "drafted": []}
    results: dict[str, GenerationResult] = {}
    for number in range(rounds + 1):
        for model in (plain, drafted):
            result = results[model.name] = await ask(model, prompt, tokens)
            if number:
                speeds[model.name].append(result.tokens_per_second or 0.0)
    without, beside = (statistics.median(values) for values in speeds.values())
    usage = results["drafted"].usage
    same = "same text" if results["plain"].text == results["drafted"].text else "ANOTHER TEXT"
    print(
        f"{name:8} without {without:5.1f}  with a draft model {beside:5.1f} tokens/s  "
        f"{beside / without:.2f} times, {usage.accepted_draft_tokens} of "
        f"{usage.completion_tokens} tokens drafted, {same}"
    )


if __name__ == "__main__":
    asyncio.run(main())
