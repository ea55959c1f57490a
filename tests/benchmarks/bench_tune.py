"""What ``%llm_tune`` gains: the tuned model in nbllm beside ``llama-bench`` on the file as shipped.

python tests/benchmarks/bench_tune.py [--llama-cpp FOLDER] [--types TYPE,…|all] [--rounds N]
    [--max-changed SHARE]

Tunes the bundled model as ``%llm_tune`` does, in a cache of its own, among three types unless
others are named ("all": those that ``%llm_tune`` tries), and then measures in turns the shipped
and the tuned file in nbllm and, where FOLDER holds ``llama-bench`` (see
``bench_peers.py``), the shipped file with it, of both settings of flash attention the faster one.
Prints the medians and their ratios; the goals are 1.5 (decode) and 1.7 (prefill) on a machine
where a type gains that. Ends within three minutes on a machine that does nothing else, with all
types within ten.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import llama_cpp.llama_cpp as lib
from bench_peers import HAS_AMX, output_of

from nbllm import ModelManager
from nbllm.core.catalogue.listing import bundled_models
from nbllm.core.quantization import Tuning
from nbllm.core.types import ModelInfo
from nbllm.local.measuring.bench import BenchPlan, measure_model

TYPES = "Q8_0,Q4_0,IQ4_NL"
PROMPT_TOKENS, ANSWER_TOKENS = 512, 64
GOALS = {"decode": 1.5, "prefill": 1.7}

Figures = dict[str, dict[str, list[float]]]


async def in_nbllm(info: ModelInfo, threads: int) -> dict[str, float]:
    plan = BenchPlan(
        threads=(threads,),
        sequences=(),
        prompt_tokens=PROMPT_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        rounds=1,
        seconds=6.0,
    )
    found = await measure_model(info, ModelManager().detect_resources(), plan=plan)
    return {row.kind: row.tokens_per_second for row in found.measured}


async def in_llama_bench(folder: Path, info: ModelInfo, threads: int) -> dict[str, float]:
    repack = ["--repack", "0"] if HAS_AMX else []
    runs = await output_of(
        str(folder / "llama-bench"),
        *("-m", str(info.path), "-t", str(threads), "-fa", "on,off", "-r", "1", "-o", "jsonl"),
        *("-p", str(PROMPT_TOKENS), "-n", str(ANSWER_TOKENS), *repack),
    )
    speeds = {"decode": 0.0, "prefill": 0.0}
    for run in runs:
        kind = "decode" if run["n_gen"] else "prefill"
        speeds[kind] = max(speeds[kind], run["avg_ts"])
    return speeds


async def tuned(info: ModelInfo, arguments: argparse.Namespace) -> Tuning:
    types = () if arguments.types == "all" else arguments.types.split(",")
    return await ModelManager().tune_model(
        info.name, types=types, max_changed=arguments.max_changed
    )


async def measure(arguments: argparse.Namespace, threads: int) -> None:
    info = bundled_models()[0]
    began = time.monotonic()
    tuning = await tuned(info, arguments)
    seconds = time.monotonic() - began
    print(f"tuned in {seconds:.0f} s: {tuning.best.label}, noisy: {tuning.noisy}", flush=True)
    for row in tuning.types:
        print(
            f"  {row.label:8} {row.prefill:8.0f} {row.decode:7.1f} tokens/s, "
            f"{row.changed:.1%} changed"
        )
    best = replace(info, path=tuning.path, quantization=tuning.best.label.lower())
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for _ in range(arguments.rounds):
        runs = {
            "shipped": await in_nbllm(info, threads),
            "tuned": await in_nbllm(best, threads),
        }
        if arguments.llama_cpp:
            runs["llama-bench"] = await in_llama_bench(arguments.llama_cpp, info, threads)
        for who, speeds in runs.items():
            for kind, speed in speeds.items():
                figures[who][kind].append(speed)
    report(figures, time.monotonic() - began)


def report(figures: Figures, seconds: float) -> None:
    medians = {
        who: {kind: statistics.median(speeds) for kind, speeds in kinds.items()}
        for who, kinds in figures.items()
    }
    for who, speeds in medians.items():
        print(f"{who:12} prefill {speeds['prefill']:8.0f}, decode {speeds['decode']:7.1f} tokens/s")
    for base in ("llama-bench", "shipped"):
        for kind, goal in GOALS.items():
            if base in medians:
                ratio = medians["tuned"][kind] / medians[base][kind]
                print(f"tuned over {base}, {kind}: {ratio:.2f} (goal {goal})")
    print(f"{seconds:.0f} s in all; {lib.llama_print_system_info().decode().strip()}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama-cpp", type=Path, metavar="FOLDER")
    parser.add_argument("--types", default=TYPES, metavar="TYPE,…")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--max-changed", type=float, default=0.05, metavar="SHARE")
    arguments = parser.parse_args()
    cores = ModelManager().detect_resources().cpu.usable_cores
    asyncio.run(measure(arguments, max(1, int(cores))))


if __name__ == "__main__":
    if "NBLLM_BENCH_TUNE" in os.environ:
        main()
    else:  # what is tuned here is not what the reader's own loads use from now on
        with tempfile.TemporaryDirectory() as cache:
            places = dict.fromkeys(("XDG_CACHE_HOME", "LOCALAPPDATA", "NBLLM_BENCH_TUNE"), cache)
            command = [sys.executable, *sys.argv]
            sys.exit(subprocess.run(command, env={**os.environ, **places}, check=False).returncode)
