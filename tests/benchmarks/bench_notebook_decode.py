"""Decoding through ``%%llm`` in a real kernel, beside a bare llama.cpp loop in one process.

Run it with ``python tests/benchmarks/bench_notebook_decode.py [ROUNDS [TOKENS]]`` on a machine
that does nothing else. All variants decode the bundled model greedily with the same prompt and
threads, in turns; the figures are tokens a second after the first token, and their medians.

- bare: a loop over llama_cpp's low-level API, flash attention on, nothing else in its process
- engine: nbllm's worker, asked from a script
- notebook: ``%%llm`` in a kernel; the time is the cell's, from its first text until it is idle
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from jupyter_client.manager import KernelManager

from nbllm.core.catalogue.listing import bundled_models

PROMPT = "Write a very long story about a lighthouse, a whale and a storm. Do not stop early."
CONTEXT = 2048
THREADS = len(os.sched_getaffinity(0))
RENDERED = (  # as the model's own template has it: all variants read the same tokens
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    f"<|im_end|>\n<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
)

BARE = """
import ctypes, os, sys, time
import llama_cpp.llama_cpp as lib
path, context_length, threads, prompt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
quiet = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(quiet, None)
lib.llama_backend_init()
model_params = lib.llama_model_default_params()
# The kernels for AMX crash in this llama.cpp; nbllm passes them by in the same way.
model_params.use_extra_bufts = b"AMX_INT8 = 1" not in lib.llama_print_system_info()
model = lib.llama_model_load_from_file(path.encode(), model_params)
params = lib.llama_context_default_params()
params.n_ctx, params.n_threads, params.n_threads_batch = context_length, threads, threads
params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
context, vocab = lib.llama_init_from_model(model, params), lib.llama_model_get_vocab(model)
assert context, "llama.cpp made no context"
sampler = lib.llama_sampler_init_greedy()
text = prompt.encode()
room = (lib.llama_token * 512)()
count = lib.llama_tokenize(vocab, text, len(text), room, 512, True, True)

def decode(limit):
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    lib.llama_decode(context, lib.llama_batch_get_one(room, count))
    token = (lib.llama_token * 1)(lib.llama_sampler_sample(sampler, context, -1))
    began, steps = time.perf_counter(), 0
    while steps < limit - 1 and not lib.llama_vocab_is_eog(vocab, token[0]):
        lib.llama_decode(context, lib.llama_batch_get_one(token, 1))
        token[0] = lib.llama_sampler_sample(sampler, context, -1)
        steps += 1
    return steps / (time.perf_counter() - began)

for line in sys.stdin:
    print(decode(int(line)), flush=True)
"""

ENGINE = """
import asyncio, sys
from nbllm import ModelManager

async def main(path, context_length, threads, prompt):
    async with ModelManager() as manager:
        model, _ = await manager.load_model(
            path, context_length=int(context_length), threads=int(threads)
        )
        while line := await asyncio.to_thread(sys.stdin.readline):
            result = await model.generate(prompt, temperature=0, max_tokens=int(line))
            print(result.tokens_per_second, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def asked_over_pipes(code: str, path: str, prompt: str) -> Callable[[int], float]:
    """Decodes in a process that runs ``code`` and takes the number of tokens line by line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, path, str(CONTEXT), str(THREADS), prompt],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def decode(tokens: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{tokens}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return decode


class Notebook:
    """A kernel with the model loaded."""

    def __init__(self, path: str) -> None:
        self._manager = KernelManager()
        self._manager.start_kernel()
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self._run("%load_ext nbllm")
        self._run(f"%llm_load '{path}' --ctx {CONTEXT} --threads {THREADS}")
        self.messages = 0

    def decode(self, tokens: int) -> float:
        """Tokens a second of the cell from its first text until it is idle."""
        seconds = self._run(f"%%llm --temperature 0 --max-tokens {tokens}\n{PROMPT}")
        steps = int(self._evaluate("_llm.usage.completion_tokens")) - 1
        return steps / seconds

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel()

    def _run(self, code: str) -> float:
        request, first = self._client.execute(code), None
        while True:
            message = self._client.get_iopub_msg(timeout=300)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            assert message["msg_type"] != "error", content["traceback"]
            if first is None and "<p>" in content.get("data", {}).get("text/html", ""):
                first = time.perf_counter()
            if content.get("execution_state") == "idle":
                self._client.get_shell_msg(timeout=10)
                return time.perf_counter() - (first or 0.0)

    def _evaluate(self, expression: str) -> str:
        request = self._client.execute("", user_expressions={"value": expression})
        while True:
            reply = self._client.get_shell_msg(timeout=10)
            if reply["parent_header"].get("msg_id") == request:
                return str(reply["content"]["user_expressions"]["value"]["data"]["text/plain"])


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    path = str(bundled_models()[0].path)
    notebook = Notebook(path)
    variants = {
        "bare": asked_over_pipes(BARE, path, RENDERED),
        "engine": asked_over_pipes(ENGINE, path, PROMPT),
        "notebook": notebook.decode,
    }
    for decode in variants.values():
        decode(16)
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, decode in variants.items():
            speeds[name].append(decode(tokens))
    notebook.close()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:9} {medians[name]:7.1f} tokens/s  {[round(value, 1) for value in values]}")
    for name in ("engine", "notebook"):
        print(f"{name} / bare: {medians[name] / medians['bare']:.3f}")
    print("notebook / bare is to be at least 0.95")


if __name__ == "__main__":
    main()
