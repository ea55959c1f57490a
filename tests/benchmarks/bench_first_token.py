"""From nothing loaded to the first text of the bundled model, beside a bare llama.cpp loop.

Run it with ``python tests/benchmarks/bench_first_token.py [ROUNDS]`` on a machine that does
nothing else. Each variant starts its processes afresh and reads the same short prompt; the model
file is in the page cache. Seconds, in turns, and their medians.

- bare: import llama_cpp, load, read the prompt, sample one token, all in one new process
- nbllm: ``load_model`` and ``stream`` up to the first text, in a process that has imported nbllm,
  as a kernel has; the worker's start is part of it
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from nbllm.core.catalogue.listing import bundled_models

PROMPT = "Name three primary colours."

BARE = """
import sys
import llama_cpp.llama_cpp as lib
quiet = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(quiet, None)
lib.llama_backend_init()
model_params = lib.llama_model_default_params()
# The kernels for AMX crash in this llama.cpp; nbllm passes them by in the same way.
model_params.use_extra_bufts = b"AMX_INT8 = 1" not in lib.llama_print_system_info()
model = lib.llama_model_load_from_file(sys.argv[1].encode(), model_params)
params = lib.llama_context_default_params()
params.n_ctx = 8192
context, vocab = lib.llama_init_from_model(model, params), lib.llama_model_get_vocab(model)
text = (f"<|im_start|>user\\n{sys.argv[2]}<|im_end|>\\n<|im_start|>assistant\\n").encode()
room = (lib.llama_token * 512)()
count = lib.llama_tokenize(vocab, text, len(text), room, 512, True, True)
lib.llama_decode(context, lib.llama_batch_get_one(room, count))
print(lib.llama_sampler_sample(lib.llama_sampler_init_greedy(), context, -1))
"""

NBLLM = """
import asyncio, sys, time
import nbllm.core.model_manager
from nbllm import ModelManager, TextDelta

async def main(path, prompt):
    began = time.perf_counter()
    async with ModelManager() as manager:
        model, _ = await manager.load_model(path)
        loaded = time.perf_counter()
        async for event in model.stream(prompt, max_tokens=4):
            if isinstance(event, TextDelta):
                print(loaded - began, time.perf_counter() - began)
                break

asyncio.run(main(*sys.argv[1:]))
"""


def run(code: str, path: str) -> str:
    command = [sys.executable, "-c", code, path, PROMPT]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    path = str(bundled_models()[0].path)
    times: dict[str, list[float]] = {"bare": [], "nbllm, loaded": [], "nbllm": []}
    for turn in range(rounds + 1):
        began = time.perf_counter()
        run(BARE, path)
        bare = time.perf_counter() - began
        loaded, first = map(float, run(NBLLM, path).split())
        if turn:  # the first turn fills the page cache
            for name, seconds in zip(times, (bare, loaded, first), strict=True):
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:14} {medians[name]:.3f} s  {[round(value, 2) for value in values]}")
    print(f"nbllm / bare: {medians['nbllm'] / medians['bare']:.2f}")
    print("nbllm is to be at most 1.5 s")


if __name__ == "__main__":
    main()
