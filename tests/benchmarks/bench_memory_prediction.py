"""Predicted against actual memory: ``python tests/benchmarks/bench_memory_prediction.py [MODEL…]``.

The arithmetic from the header and llama.cpp's dry run against llama.cpp's own report of a real
load, for the tiny models of the tests and the given files, over contexts, KV types, sequences
and flash attention; then a worker's resident memory, its context filled, against the prediction,
with draft models, a tiny model with a large vocabulary, and guesses beside.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from nbllm.core.catalogue.listing import bundled_models
from nbllm.core.fitting.memory_estimate import estimate
from nbllm.core.fitting.planned_load import CPU, Loading
from nbllm.core.openers import LoadControl
from nbllm.core.placement import Placement
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.gguf.shape import read_shape
from nbllm.local.llama_cpp_model import open_model
from nbllm.local.measuring.dry_runs import exact_placement

TESTS = Path(__file__).parents[1] / "local"
GRID = [
    (context, sequences, kv_type, flash, unified)
    for context in (512, 2048, 8192, 32_768)
    for sequences in (1, 8)
    for kv_type, flash in (("f16", True), ("f16", False), ("q8_0", True), ("q4_0", True))
    for unified in ((True, False) if sequences > 1 else (True,))
]
FILLED: list[tuple[int, dict[str, Any]]] = [
    (1024, {}),
    (8192, {}),
    (8192, {"kv_type": "q8_0"}),
    (2048, {"flash_attention": False}),
    (2048, {"parallel": 1}),
    (2048, {"parallel": 32}),
    (2048, {"batch_invariant": True}),
    (8192, {"kv_unified": False}),
]
MIB = 2**20


def reports(paths: list[Path]) -> dict[Path, list[dict[str, int]]]:
    done = subprocess.run(
        [sys.executable, TESTS / "engine_report.py"],
        input=json.dumps({str(path): GRID for path in paths}),
        capture_output=True,
        text=True,
        check=True,
        env={"GGML_NO_BACKTRACE": "1"} | os.environ,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {path: lines[i * len(GRID) :][: len(GRID)] for i, path in enumerate(paths)}


def errors(path: Path, actual: list[dict[str, int]]) -> tuple[float, float]:
    """The greatest error of the arithmetic and of the dry run."""
    shape, computed, measured = read_shape(path), [], []
    for job, report in zip(GRID, actual, strict=True):
        context, sequences, kv_type, flash, unified = job
        loading: Any = Loading(
            context_length=context,
            parallel=sequences,
            kv_type=kv_type,
            flash_attention=flash,
            kv_unified=unified,
        )
        placement = Placement(
            device=CPU,
            memory=estimate(shape, loading),
            context_length=context,
            parallel=sequences,
            threads=1,
            batch_threads=1,
            kv_type=kv_type,
            flash_attention=flash,
        )
        info = ModelInfo(
            name=path.stem,
            model_type="",
            local=True,
            path=path,
            load=LoadOptions(flash_attention=flash, kv_unified=unified),
        )
        exact = exact_placement(info, placement)
        assert exact is not None, (path, job)
        total = sum(report.values())
        computed.append(abs(placement.buffer_bytes / total - 1))
        measured.append(abs(exact.buffer_bytes / total - 1))
    return max(computed), max(measured)


async def resident(path: Path, context: int, **wish: Any) -> tuple[int, int]:
    """The predicted and the actual bytes of a worker whose context is full."""
    options = LoadOptions(context_length=context, device=CPU, **wish)
    info = ModelInfo(name="m", model_type="", local=True, path=path, load=options)
    model = open_model(info, LoadControl())
    try:
        tokens = await model.tokenize("many words, " * context)
        text = await model.detokenize(tokens[: (model.info.context_length or context) - 128])
        await model.generate(text, max_tokens=8)
        await asyncio.gather(*(model.generate(f"{i} and", max_tokens=20) for i in range(8)))
        placement = model.info.placement
        assert placement is not None
        return placement.total_bytes, psutil.Process(model.pid).memory_info().rss
    finally:
        await model.aclose()


def main(given: list[str]) -> None:
    sys.path.insert(0, str(TESTS))
    from tiny_models import TINY, write_tiny

    bundled = [info.path for info in bundled_models() if info.path is not None]
    with tempfile.TemporaryDirectory() as folder:
        paths = [*map(Path, given), *bundled, *(write_tiny(name, Path(folder)) for name in TINY)]
        print(f"{len(GRID)} loads of each model; greatest error of")
        for path, actual in reports(paths).items():
            arithmetic, dry_run = errors(path, actual)
            print(f"{path.stem:40} arithmetic {arithmetic:6.2%}   dry run {dry_run:6.2%}")
        for path in [*map(Path, given), *bundled]:
            for context, wish in [*FILLED, (2048, {"draft_model": path})]:
                show_resident(path, context, wish)
        for words in (32_768, 131_072, 262_144):
            show_resident(write_tiny("gemma", Path(folder), words), 1024, {})


def show_resident(path: Path, context: int, wish: dict[str, Any]) -> None:
    predicted, actual = asyncio.run(resident(path, context, **wish))
    named = " ".join(f"{name}={getattr(value, 'stem', value)}" for name, value in wish.items())
    print(
        f"{path.stem:28.28} {context:5} {named:24.24} told {predicted / MIB:6.0f} MiB   "
        f"resident {actual / MIB:6.0f} MiB   {predicted / actual - 1:+.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
