"""Importance matrices: what a model's weights are multiplied by, for quantizing it better."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbllm.core.errors import InvalidOptionError, QuantizationError
from nbllm.core.hardware.resources import Resources
from nbllm.core.load_options import LoadOptions
from nbllm.core.paths import absolute_path, reason
from nbllm.core.saved_files import replacing
from nbllm.core.types import ModelInfo
from nbllm.local.jobs.job import running
from nbllm.local.jobs.quantize import check_target, source_of
from nbllm.local.measuring.dry_runs import load_frame
from nbllm.local.plans import plan_model

__all__ = ["make_imatrix", "study_frame"]

_PROCESS = "nbllm.local.jobs.study_process"
_CHUNK_TOKENS = 512  # as llama-imatrix reads a text
_LOGIT_BYTES = 128 * 2**20
_FEWEST_ROWS = 32


async def make_imatrix(
    info: ModelInfo,
    text: Path,
    target: Path,
    resources: Resources,
    *,
    chunks: int = 100,
    replaces: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> int:
    """Write the importance matrix of a local model over ``text`` to ``target``, as a GGUF.

    At most ``chunks`` of 512 tokens are read; returns how many were. ``target`` appears when it is
    whole; ``progress`` gets the finished fraction, 0 to 1. Raises ``InvalidOptionError`` for files
    that are not there or there already, ``QuantizationError`` where the text is too short or
    llama.cpp fails, and as a load of the model does.
    """
    text = await asyncio.to_thread(_text_file, text)
    await asyncio.to_thread(check_target, target, source_of(info)[0], replaces=replaces)
    load = await asyncio.to_thread(study_frame, info, resources, _CHUNK_TOKENS)
    try:
        with replacing(target) as draft:
            async with running(info.name, _PROCESS, "study") as job:
                frame = {
                    "op": "imatrix",
                    "load": load,
                    "text": str(text),
                    "target": str(draft),
                    "chunk_tokens": _CHUNK_TOKENS,
                    "chunks": chunks,
                }
                done = await job.ask(frame, progress)
    except OSError as error:
        problem = f"{target} cannot be written: {reason(error)}"
        raise QuantizationError(info.name, problem) from None
    return int(done["chunks"])


def _text_file(given: Path) -> Path:
    file = given.expanduser()
    if not file.is_file():
        raise InvalidOptionError("text", f"there is no file {given}")
    return absolute_path(file)


def study_frame(info: ModelInfo, resources: Resources, context_length: int) -> dict[str, Any]:
    """A load frame for one sequence, with the logits of as many tokens as memory allows."""
    overrides = LoadOptions(context_length=context_length, parallel=1, device=info.load.device)
    placement = plan_model(replace(info, load=overrides), resources)
    vocabulary = source_of(info)[1].vocabulary_size or 1
    rows = max(_FEWEST_ROWS, min(context_length, _LOGIT_BYTES // (4 * vocabulary)))
    return {
        **load_frame(info, placement),
        "batch_tokens": context_length,
        "max_outputs": rows,
        "sequences": 1,
        "file_bytes": info.size_bytes or 0,
    }
