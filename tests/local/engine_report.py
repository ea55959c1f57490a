"""What llama.cpp reports of its buffers when it really loads a model: run as a process.

``python engine_report.py MODEL JOB…`` with jobs ``context:sequences:kv_type:flash_attention``;
prints a line of JSON for each: bytes of weights, KV, compute and output, by its own log.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter

import llama_cpp.llama_cpp as lib

MAX_OUTPUTS = 64
KINDS = {"model": "weights", "KV": "kv", "RS": "kv", "compute": "compute", "output": "compute"}
LINE = re.compile(r"(model|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}


def main(path: str, jobs: list[str]) -> None:
    sizes: Counter[str] = Counter()

    def note(level: int, text: bytes, _: object) -> None:
        for kind, mebibytes in LINE.findall(text.decode(errors="replace")):
            sizes[KINDS[kind]] += round(float(mebibytes) * 2**20)
        if level in (3, 4):
            sys.stderr.write(text.decode(errors="replace"))

    callback = lib.llama_log_callback(note)
    lib.llama_log_set(callback, None)
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = False
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit("not loaded")
    weights = sizes["weights"]
    for job in jobs:
        context_length, sequences, kv_type, flash = job.split(":")
        sizes.clear()
        sizes["weights"] = weights
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = int(context_length), int(sequences)
        params.n_batch = params.n_ubatch = min(512, params.n_ctx)
        params.n_outputs_max = MAX_OUTPUTS
        params.kv_unified = True
        params.type_k = params.type_v = TYPES[kv_type]
        params.flash_attn_type = int(flash)
        context = lib.llama_init_from_model(model, params)
        print(json.dumps(sizes if context else None), flush=True)
        if context:
            lib.llama_free(context)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
