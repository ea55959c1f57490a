"""The parent's side of dry runs: llama.cpp's own answer to what a load would take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbllm
from nbllm.core.fitting.memory_estimate import CPU
from nbllm.core.hardware.resources import EngineDevices
from nbllm.core.placement import MemoryParts, Placement
from nbllm.core.types import ModelInfo
from nbllm.local.environment import engine_environment
from nbllm.local.protocol import Frame

__all__ = ["draft_frame", "engine_devices", "exact_placement", "load_frame"]

_SECONDS = 20.0  # an answer takes about half a second; a hostile file gets no more than this


@lru_cache(maxsize=1)
def engine_devices() -> EngineDevices | None:
    """What the installed llama.cpp can compute on; None where it is not installed or fails.

    Asked once for each process, in about half a second.
    """
    if find_spec("llama_cpp") is None:
        return None
    answer = _ask({})
    if answer is None:
        return None
    names = tuple(name for name, _ in answer["devices"])
    return EngineDevices(names, answer["supports_gpu"], answer["build"])


def exact_placement(info: ModelInfo, placement: Placement) -> Placement | None:
    """The placement with llama.cpp's own sizes; None where llama.cpp does not get to an answer.

    Answers are kept for each file and settings.
    """
    frames = [load_frame(info, placement), draft_frame(info, placement)]
    answers = [_answer(frame) for frame in frames if frame is not None]
    if any("problem" in answer for answer in answers):
        return None
    return replace(
        placement,
        memory=_corrected(placement, answers),
        flash_attention=answers[0]["flash_attention"],
        exact=True,
    )


def load_frame(info: ModelInfo, placement: Placement) -> Frame:
    """What llama.cpp is to load: the fields of ``loading.Settings``."""
    return {
        "path": str(info.path),
        "context_length": placement.context_length,
        "parallel": placement.parallel,
        "sequences": placement.sequences,
        "threads": placement.threads,
        "batch_threads": placement.batch_threads,
        "gpus": list(placement.gpus),
        "gpu_layers": placement.gpu_layers,
        "tensor_split": list(placement.tensor_split),
        "kv_type": placement.kv_type,
        "flash_attention": info.load.flash_attention,
        "batch_tokens": placement.batch_tokens,
        "max_outputs": placement.max_outputs,
        "batch_invariant": placement.batch_invariant,
    }


def draft_frame(info: ModelInfo, placement: Placement) -> Frame | None:
    """The same for the model's draft model; None where it has none.

    It goes where ``nbllm.core.fitting.memory_estimate.estimate_with_draft`` expects it.
    """
    if info.load.draft_model is None:
        return None
    gpus = placement.gpus[:1] if placement.gpu_layers else ()
    return {
        **load_frame(info, placement),
        "path": info.load.draft_model,
        "sequences": placement.parallel,
        "gpus": list(gpus),
        "gpu_layers": -1 if gpus else 0,
        "tensor_split": [],
        "max_outputs": placement.parallel,
        "batch_invariant": False,
    }


def _corrected(
    placement: Placement, answers: Sequence[Mapping[str, Any]]
) -> dict[str, MemoryParts]:
    """The bytes by llama.cpp: what it names for each device, and its sum of the KV caches."""
    devices = [name for name, _ in answers[0]["devices"]]
    gpus = [device for device in placement.memory if device != CPU]
    names = {gpu: devices[i] for gpu, i in zip(gpus, placement.gpus, strict=True)} | {CPU: CPU}
    cache = sum(parts.kv for parts in placement.memory.values())
    measured = sum(answer["kv"] for answer in answers)
    factor = measured / cache if cache and measured else 1.0
    return {
        device: replace(
            parts,
            kv=round(parts.kv * factor),
            compute=sum(answer["compute"].get(names[device], 0) for answer in answers),
        )
        for device, parts in placement.memory.items()
    }


def _answer(frame: Frame) -> Mapping[str, Any]:
    """What llama.cpp says of a load."""
    status = Path(frame["path"]).stat()
    answer = _measured(json.dumps(frame), status.st_mtime_ns, status.st_size)
    return {"problem": "llama.cpp did not respond"} if answer is None else answer


@lru_cache(maxsize=64)
def _measured(frame: str, mtime_ns: int, size: int) -> Mapping[str, Any] | None:
    return _ask(json.loads(frame))


def _ask(question: Frame) -> Mapping[str, Any] | None:
    """The answer of a dry run; None where its process fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nbllm.local.measuring.dry_run"],
            input=json.dumps(question).encode(),
            capture_output=True,
            cwd=Path(nbllm.__file__).parent.parent,
            env=engine_environment(),
            timeout=_SECONDS,
            check=True,
            start_new_session=True,
        )
        answer: Mapping[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return answer
