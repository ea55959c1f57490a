"""A chat goes on after a restart: ``python tests/benchmarks/bench_restart.py [MODEL…]``.

A worker answers the first turn of a chat of some thousand tokens, which is saved in the background,
answers the second, and is killed. Another one answers the second turn, once reading everything anew
and once from the prefix cache on disk. Told are the times to its first token, the size of what was
saved, and how long that took; the logits have to be those of the worker that was killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from nbllm.core.catalogue.listing import bundled_models
from nbllm.core.openers import LoadControl
from nbllm.core.types import GenerationResult, LoadOptions, Message, ModelInfo
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model

MIB = 2**20
LENGTHS = (1100, 4000)
LIMIT = 4096 * MIB
REST_SECONDS = 1.0  # of the worker, before it saves
ROUNDS = 3


def load(path: Path, disk: int | None) -> LlamaCppModel:
    options = LoadOptions(context_length=6144, device="CPU", prefix_cache_disk=disk)
    info = ModelInfo(name="m", model_type="", local=True, path=path, load=options)
    return open_model(info, LoadControl())


async def first_turn(model: LlamaCppModel, length: int) -> tuple[Message, ...]:
    words = " ".join(f"Item {n} lies next to item {n * 7 % 101}." for n in range(length))
    tokens = await model.tokenize(words)
    asked = Message("user", await model.detokenize(tokens[:length]) + " Continue.")
    answer = await model.generate([asked], max_tokens=16, temperature=0, prompt_lookup=False)
    return asked, Message("assistant", answer.text), Message("user", "And the next ones?")


async def second_turn(model: LlamaCppModel, turns: tuple[Message, ...]) -> GenerationResult:
    return await model.generate(
        turns, max_tokens=8, temperature=0, logprobs=20, prompt_lookup=False
    )


def wait_for_save() -> tuple[int, float]:
    """The size of what the worker saves, and the seconds that it takes."""
    folder, began = Path(os.environ["XDG_CACHE_HOME"]), time.perf_counter() + REST_SECONDS
    while not (files := list(folder.rglob("*.prefix"))):
        time.sleep(0.02)
    return files[0].stat().st_size, time.perf_counter() - began


async def compare(path: Path, length: int) -> None:
    staying = load(path, LIMIT)
    turns = await first_turn(staying, length)
    size, saving = await asyncio.to_thread(wait_for_save)
    wanted = await second_turn(staying, turns)
    staying.kill()  # which saves nothing
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for saved in (False, True):
            model = load(path, LIMIT if saved else None)
            found = await second_turn(model, turns)
            model.kill()
            seconds[saved].append(found.timings.first_token_seconds or 0.0)
            if saved:
                assert found.logprobs == wanted.logprobs, "other numbers"
                assert found.usage.cached_tokens == wanted.usage.cached_tokens
    anew, restored = (sorted(each)[ROUNDS // 2] for each in (seconds[False], seconds[True]))
    print(
        f"{path.stem:32.32} {found.usage.prompt_tokens:5} tokens   anew {anew:7.2f} s   from disk "
        f"{restored:5.2f} s   {anew / restored:5.1f} x sooner, same logits   "
        f"{size / MIB:4.0f} MiB in {saving:4.1f} s",
        flush=True,
    )


def main(given: list[str]) -> None:
    paths = [*map(Path, given), *(info.path for info in bundled_models() if info.path)]
    for path in paths:
        for length in LENGTHS:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["XDG_CACHE_HOME"] = folder
                asyncio.run(compare(path, length))


if __name__ == "__main__":
    main(sys.argv[1:])
