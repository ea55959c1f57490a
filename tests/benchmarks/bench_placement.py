"""What a placement costs: ``python tests/benchmarks/bench_placement.py [--quick]``.

Reading the header of a vocabulary of 128,256 tokens and 280,147 merges beside the package
``gguf``; placing a model whose header was read; and the threads that are chosen beside all
others, in tokens a second (only without ``--quick``, on a quiet machine).
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gguf

from nbllm.core.catalogue.listing import bundled_models
from nbllm.core.errors import DoesNotFitError
from nbllm.core.fitting.placing import thread_counts
from nbllm.core.openers import LoadControl, fit_model, plan_model
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.gguf.shape import read_shape
from nbllm.local.llama_cpp_model import open_model

TOKENS, MERGES = 128_256, 280_147


def large_vocabulary(path: Path) -> Path:
    generator = random.Random(7)
    texts = [f"{number:x}" + "x" * generator.randint(0, 9) for number in range(TOKENS)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(texts)
    writer.add_token_types([1] * TOKENS)
    writer.add_token_merges(
        [f"{generator.choice(texts)} {generator.choice(texts)}" for _ in range(MERGES)]
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def place(info: ModelInfo) -> None:
    try:
        plan_model(info, RESOURCES)
    except DoesNotFitError:
        return


async def decode_speed(path: Path, threads: int) -> float:
    options = LoadOptions(threads=threads, context_length=1024, device="CPU")
    info = ModelInfo(name="m", model_type="", local=True, path=path, load=options)
    model = open_model(info, LoadControl())
    try:
        speeds = []
        for seed in range(3):
            result = await model.generate("Tell a long story.", max_tokens=64, seed=seed)
            speeds.append(result.tokens_per_second or 0.0)
        return statistics.median(speeds)
    finally:
        await model.aclose()


def main(*, quick: bool) -> None:
    rounds = 3 if quick else 20
    with tempfile.TemporaryDirectory() as folder:
        path = large_vocabulary(Path(folder) / "vocabulary.gguf")
        ours = milliseconds(lambda: read_shape(path), rounds)
        theirs = milliseconds(lambda: gguf.GGUFReader(path), 1)
    print(f"header of {TOKENS:,} tokens, {MERGES:,} merges: {ours:.1f} ms; GGUFReader {theirs:.0f}")
    info = bundled_models()[0]
    assert info.path is not None
    huge = ModelInfo(
        name="m",
        model_type="",
        local=True,
        path=info.path,
        load=LoadOptions(context_length=2**31 - 1),
    )
    place(info)
    print(f"placement, warm header: {milliseconds(lambda: place(info), rounds):.2f} ms")
    print(f"refusal with remedies:  {milliseconds(lambda: place(huge), rounds):.2f} ms")
    print(
        f"%llm_fit's options:     {milliseconds(lambda: fit_model(info, RESOURCES), rounds):.2f} ms"
    )
    if quick:
        return
    chosen = thread_counts(RESOURCES.cpu).decode
    counts = range(1, max(int(RESOURCES.cpu.usable_cores), chosen) + 1)
    speeds = {count: asyncio.run(decode_speed(info.path, count)) for count in counts}
    for count, speed in speeds.items():
        print(f"{count} threads: {speed:6.1f} tokens/s" + ("  chosen" if count == chosen else ""))
    print(f"chosen is at {speeds[chosen] / max(speeds.values()):.0%} of the best")


RESOURCES = ResourceDetector().detect()

if __name__ == "__main__":
    main(quick="--quick" in sys.argv[1:])
