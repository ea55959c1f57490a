"""Importance matrices: what a model's weights are multiplied by, for quantizing it better."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from nbllm.core.errors import InvalidOptionError, QuantizationError
from nbllm.core.hardware.resources import Resources
from nbllm.core.load_options import LoadOptions
from nbllm.core.paths import file_status, reason
from nbllm.core.saved_files import replacing
from nbllm.core.types import ModelInfo
from nbllm.local.ipc.job import running
from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.ipc.protocol import LastEvent, Request
from nbllm.local.jobs.quantize import check_target, failure_of, source_of
from nbllm.local.load_settings import load_settings
from nbllm.local.plans import plan_model

__all__ = ["Imatrix", "ImatrixDone", "make_imatrix", "study_load"]

_PROCESS = "nbllm.local.jobs.study_process"
_CHUNK_TOKENS = 512  # as llama-imatrix reads a text
_LOGIT_BYTES = 128 * 2**20
_FEWEST_ROWS = 32


class Imatrix(Request, tag="imatrix"):
    """Read at most ``chunks`` chunks of the file ``text``, and write what the weights met.

    Answered by ``ImatrixDone``.
    """

    load: LoadSettings
    file_bytes: int
    text: bytes
    target: bytes
    chunk_tokens: int
    chunks: int


class ImatrixDone(LastEvent, tag="imatrix"):
    """How many chunks were read."""

    chunks: int


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
    source = source_of(info)[0]
    await asyncio.to_thread(check_target, target, source, text, replaces=replaces)
    load = await asyncio.to_thread(study_load, info, resources, _CHUNK_TOKENS)
    try:
        with replacing(target) as draft:
            async with running(_PROCESS, ImatrixDone, failure_of(info.name), stage="study") as job:
                done = await job.ask(
                    lambda number: Imatrix(
                        number,
                        load,
                        info.size_bytes or 0,
                        text=os.fsencode(text),
                        target=os.fsencode(draft),
                        chunk_tokens=_CHUNK_TOKENS,
                        chunks=chunks,
                    ),
                    progress,
                )
    except OSError as error:
        problem = f"{target} cannot be written: {reason(error)}; name another place (--to PATH)"
        raise QuantizationError(info.name, problem) from None
    return done.chunks


def _text_file(given: Path) -> Path:
    try:
        is_empty = not file_status(given).st_size
    except OSError as error:
        raise InvalidOptionError("text", f"{given}: {reason(error)}. Name a text file") from None
    if is_empty:
        raise InvalidOptionError(
            "text", f"{given} is empty; at least {_CHUNK_TOKENS} tokens are needed"
        )
    return given.absolute()


def study_load(info: ModelInfo, resources: Resources, context_length: int) -> LoadSettings:
    """A load with one sequence, and with the logits of as many tokens as memory allows."""
    overrides = LoadOptions(context_length=context_length, parallel=1, device=info.load.device)
    placement = plan_model(replace(info, load=overrides), resources)
    vocabulary = source_of(info)[1].vocabulary_size or 1
    rows = max(_FEWEST_ROWS, min(context_length, _LOGIT_BYTES // (4 * vocabulary)))
    return msgspec.structs.replace(
        load_settings(info, placement),
        batch_tokens=context_length,
        max_outputs=rows,
        sequences=1,
    )
