"""What llama.cpp reports of its buffers when it really loads models: run as a process.

Reads a JSON object from standard input, lists of jobs by the path of a model; a job is
``[context, sequences, kv_type, flash_attention, kv_unified]``. Prints a line of JSON for each
job: the bytes of weights, kv and compute by llama.cpp's own log, None where it made no context.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

import llama_cpp.llama_cpp as lib

from nbllm.core.placement import output_rows

KINDS = {"model": "weights", "KV": "kv", "RS": "kv", "compute": "compute", "output": "compute"}
LINE = re.compile(r"(model|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}


def report(path: str, jobs: list[Any], sizes: Counter[str]) -> None:
    params = lib.llama_model_default_params()
    params.use_extra_bufts = False
    sizes.clear()
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(f"{path} was not loaded")
    weights = sizes["weights"]
    for context_length, sequences, kv_type, flash, unified in jobs:
        sizes.clear()
        sizes["weights"] = weights
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = context_length, sequences
        params.n_batch = params.n_ubatch = min(512, context_length)
        params.n_outputs_max = output_rows(sequences, params.n_batch)
        params.kv_unified = unified
        params.type_k = params.type_v = TYPES[kv_type]
        params.flash_attn_type = int(flash)
        context = lib.llama_init_from_model(model, params)
        print(json.dumps(sizes if context else None), flush=True)
        if context:
            lib.llama_free(context)
    lib.llama_model_free(model)


def main() -> None:
    sizes: Counter[str] = Counter()

    def note(level: int, text: bytes, _: object) -> None:
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        for kind, mebibytes in LINE.findall(line):
            sizes[KINDS[kind]] += round(float(mebibytes) * 2**20)

    callback = lib.llama_log_callback(note)
    lib.llama_log_set(callback, None)
    lib.llama_backend_init()
    for path, jobs in json.load(sys.stdin).items():
        report(path, jobs, sizes)


if __name__ == "__main__":
    main()
