"""Models on RPC servers: memory as predicted and as taken, and speed beside llama-bench.

Run it with ``NBLLM_RPC_BUILD=FOLDER PYTHONPATH=FOLDER:tests/devices python
tests/benchmarks/bench_rpc.py [--rounds N] [--tokens N]``, where ``tests/devices/build_rpc.py`` has
filled FOLDER. Each case is a number of servers on the loopback and of layers there. nbllm and
``llama-bench`` with the same ``--rpc`` take turns, for a server serves one program at a time;
speeds are medians, without prompt lookup, behind equally long prompts. Memory is what llama.cpp
reports of its buffers, in MiB: by arithmetic, by a dry run, and after the load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from dataclasses import dataclass

import llama_cpp.llama_cpp as lib
from rpc_server import LIBRARIES, Server, start_server

from nbllm.core.catalogue.listing import bundled_models
from nbllm.core.errors import ModelLoadError
from nbllm.core.openers import LoadControl
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.llama_cpp_model import open_model
from nbllm.local.plans import make_plan, settled

MIB = 2**20
MODEL = bundled_models()[0]
HAS_AMX = b"AMX_INT8 = 1" in lib.llama_print_system_info()  # whose kernels crash, see bench_peers
PROMPT = "Write a very long story about a lighthouse, a whale and a storm. Do not stop early."
CASES: dict[str, tuple[int, tuple[int, ...]]] = {
    "CPU alone": (0, ()),
    "1 server, all layers": (-1, (1024,)),
    "1 server, 16 of 31 layers": (16, (1024,)),
    "2 unequal servers, all layers": (-1, (256 + 110, 256 + 80)),
    "2 unequal servers, 16 of 31 layers": (16, (256 + 70, 256 + 56)),
}


@dataclass
class Case:
    """Servers, and how many layers go there; what was found."""

    name: str
    servers: list[Server]
    layers: int
    predicted: tuple[float, float, float] = (0, 0, 0)

    @property
    def entry(self) -> ModelInfo:
        rpc = tuple(server.endpoint for server in self.servers)
        load = LoadOptions(
            context_length=1024, parallel=1, threads=1, gpu_layers=self.layers, rpc=rpc or None
        )
        return ModelInfo(
            name=MODEL.name, model_type="llama", local=True, path=MODEL.path, load=load
        )

    async def ours(self, tokens: int) -> float:
        """Tokens a second; notes the memory."""
        plan = make_plan(self.entry, ResourceDetector().detect())
        computed = plan.placement()
        exact = settled(plan, computed, self.entry)
        model = open_model(self.entry, LoadControl())
        try:
            options = {"temperature": 0, "prompt_lookup": False, "max_tokens": tokens}
            await model.generate(PROMPT, temperature=0, max_tokens=4)
            result = await model.generate(PROMPT, **options)
        finally:
            await model.aclose()
        sizes = computed.buffer_bytes, exact.buffer_bytes, model.buffer_bytes
        self.predicted = tuple(size / MIB for size in sizes)
        return result.tokens_per_second or 0.0

    async def theirs(self, tokens: int) -> float:
        """The same of llama-bench, with the layers split as nbllm splits them."""
        command = [str(LIBRARIES / "llama-bench"), "-m", str(MODEL.path), "-t", "1", "-fa", "on"]
        command += ["-p", "0", "-n", str(tokens), "-d", "32", "-r", "1", "-o", "jsonl"]
        command += ["-ngl", "99" if self.layers < 0 else str(self.layers)]
        command += ["--repack", "0"] if HAS_AMX else []
        if self.servers:
            command += ["--rpc", ",".join(server.endpoint for server in self.servers)]
            split = make_plan(self.entry, ResourceDetector().detect()).placement().tensor_split
            command += ["-ts", "/".join(f"{share:g}" for share in split)] if split else []
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        return float(json.loads(done.stdout.splitlines()[-1])["avg_ts"])


async def compare(case: Case, rounds: int, tokens: int) -> None:
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(await case.ours(tokens))
        theirs.append(await case.theirs(tokens))
    mine, other = statistics.median(ours), statistics.median(theirs)
    sizes = " ".join(f"{size:9.1f}" for size in case.predicted)
    print(f"{case.name:36} {sizes} {mine:8.1f} {other:8.1f} {mine / other:7.3f}", flush=True)


def faults() -> None:
    """Seconds to the typed error of a server that is gone, and of one that is taken."""
    gone = start_server(1024)
    gone.kill()
    taken = Case("", [start_server(1024)], -1)
    holder = open_model(taken.entry, LoadControl())
    for name, case in {"gone": Case("", [gone], -1), "taken": taken}.items():
        began = time.perf_counter()
        try:
            open_model(case.entry, LoadControl())
        except ModelLoadError as error:
            print(f"{name}: {time.perf_counter() - began:.1f} s: {error.problem}")
    holder.kill()
    taken.servers[0].kill()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    heads = "computed", "dry run", "actual", "nbllm", "l.-bench", "ratio"
    print(f"{'':36} " + " ".join(f"{head:>8}" for head in heads))
    for name, (layers, sizes) in CASES.items():
        case = Case(name, [start_server(size) for size in sizes], layers)
        try:
            await compare(case, arguments.rounds, arguments.tokens)
        finally:
            for server in case.servers:
                server.kill()
    faults()


if __name__ == "__main__":
    asyncio.run(main())
