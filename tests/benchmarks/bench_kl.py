"""Whether ``%llm_tune`` computes the divergence that llama.cpp's own program computes.

LLAMA_PERPLEXITY=PATH python tests/benchmarks/bench_kl.py [TYPE …]

Converts the bundled model to each type (Q4_0 and Q8_0 by default), has ``llama-perplexity
--kl-divergence`` compare it with the file as shipped over the conversations of ``%llm_tune``, and
computes the same figures of the same tokens with nbllm's functions. They agree where the means
differ by less than their error; the program's exit status is 1 where they do not.

The program is built from the source distribution of llama-cpp-python of the installed version:
``cmake -S vendor/llama.cpp -B build && cmake --build build --target llama-perplexity``.
``LLAMA_PERPLEXITY_FLAGS`` has further flags for it, such as ``--no-repack`` on a virtual machine
whose processor claims AMX but does not let it be used.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nbllm import ModelManager
from nbllm.core.quantization import Quality
from nbllm.core.types import ModelInfo
from nbllm.local.gguf import model_info_from_gguf
from nbllm.local.jobs.imatrix import study_load
from nbllm.local.jobs.quality import References, compare, quality_of
from nbllm.local.jobs.quantize import quantize_model
from nbllm.local.jobs.sample_conversations import SAMPLE_CONVERSATIONS
from nbllm.local.llama.native import NativeModel

VARIABLE = "LLAMA_PERPLEXITY"
FLAGS = os.environ.get("LLAMA_PERPLEXITY_FLAGS", "").split()
CONTEXT = 256
_TOLERANCE = 1e-5
"""Nats, in which the errors of 16 bits and of 32 are no longer seen."""
_FIGURE = r":\s+([-\d.]+)(?: ±\s+([-\d.]+))?"


@dataclass(frozen=True, slots=True)
class Figures:
    mean: float
    error: float
    at_999: float
    same_first: float

    def __str__(self) -> str:
        return (
            f"{self.mean:.6f} ± {self.error:.6f} nats, 99.9th percentile {self.at_999:.6f}, "
            f"the same first token {self.same_first:.3%}"
        )


def perplexity(model: Path, base: Path, *more: str) -> str:
    """What the program prints of a model."""
    command = [os.environ[VARIABLE], "-m", str(model), "--kl-divergence-base", str(base), *more]
    command += ["-c", str(CONTEXT), "-b", str(CONTEXT), "-ngl", "0", *FLAGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def told(output: str) -> Figures:
    mean = _find("Mean    KLD", output)
    return Figures(
        float(mean[1]),
        float(mean[2]),
        float(_find("99.9%   KLD", output)[1]),
        float(_find("Same top p", output)[1]) / 100,
    )


def _find(name: str, output: str) -> re.Match[str]:
    found = re.search(re.escape(name) + _FIGURE, output)
    if found is None:
        raise SystemExit(f"llama-perplexity printed no {name!r}:\n{output[-2000:]}")
    return found


def chunks(base: Path) -> npt.NDArray[np.int32]:
    """The tokens that it compared: a row for each chunk."""
    data = base.read_bytes()
    context, _, count = np.frombuffer(data, "<u4", 3, offset=8)
    size = int(context) * int(count)
    return np.frombuffer(data, "<i4", size, offset=20).reshape(int(count), int(context))


def rows(info: ModelInfo, tokens: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.float32]]:
    """The logits behind the second half of each chunk, as that program takes them."""
    resources = ModelManager().detect_resources()
    model = NativeModel(study_load(info, resources, CONTEXT), lambda fraction: None)
    first, last = CONTEXT // 2, CONTEXT - 1
    for chunk in tokens.tolist():
        model.cells.forget(0, 0)
        for begin, end, outputs in ((0, first, 0), (first, last, last - first)):
            model.batch.clear()
            model.batch.add(chunk[begin:end], begin, 0, logits=outputs)
            if model.decode() != 0:
                raise SystemExit("llama.cpp failed")
        for row in range(last - first):
            yield model.logits(row).copy()


def quality(source: ModelInfo, made: ModelInfo, base: Path, folder: Path) -> Quality:
    tokens = chunks(base)
    vocabulary = int(np.frombuffer(base.read_bytes()[12:16], "<u4")[0])
    references = References(folder / "references", vocabulary)
    references.write(rows(source, tokens))
    pairs = zip(references.read(), rows(made, tokens), strict=True)
    return quality_of(compare(reference, row) for reference, row in pairs)


async def main() -> int:
    manager = ModelManager()
    source = manager.bundled_model()
    assert source.path is not None
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, base = folder / "text.txt", folder / "base"
        talks = ("\n\n".join(turn["content"] for turn in talk) for talk in SAMPLE_CONVERSATIONS)
        text.write_text("\n\n".join(talks), encoding="utf-8")
        perplexity(source.path, base, "-f", str(text))
        for label in sys.argv[1:] or ("Q4_0", "Q8_0"):
            target = folder / f"{label}.gguf"
            await quantize_model(source, label, target, manager.detect_resources())
            theirs = told(perplexity(target, base, "--kl-divergence"))
            found = quality(source, model_info_from_gguf(target), base, folder)
            ours = Figures(
                found.mean_divergence,
                found.divergence_error,
                found.divergence_999,
                found.same_first,
            )
            agree = abs(ours.mean - theirs.mean) <= max(theirs.error, _TOLERANCE)
            wrong += not agree
            print(f"{label}, {found.tokens} tokens: {'they agree' if agree else 'THEY DIFFER'}")
            print(f"  llama-perplexity  {theirs}\n  nbllm             {ours}", flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    if VARIABLE not in os.environ:
        raise SystemExit(f"{VARIABLE} must be the path of llama-perplexity; see this file")
    raise SystemExit(asyncio.run(main()))
