"""The parent's side of dry runs: llama.cpp's own answer to what a load would take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import msgspec

from nbllm.core.fitting.memory_estimate import CPU
from nbllm.core.hardware.resources import EngineDevices
from nbllm.core.placement import MemoryParts, Placement
from nbllm.core.types import ModelInfo
from nbllm.local.ipc.job import ask_once
from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.ipc.protocol import Event, Message
from nbllm.local.load_settings import draft_settings, load_settings

__all__ = ["BufferBytes", "DryRun", "DryRunAnswer", "engine_devices", "exact_placement"]

_PROCESS = "nbllm.local.measuring.dry_run"
_SECONDS = 20.0  # an answer takes about half a second; a hostile file gets no more than this


class DryRun(Message, tag="dry_run"):
    """Ask what a load with these settings would take; without them, only what llama.cpp can use."""

    settings: LoadSettings | None


class BufferBytes(msgspec.Struct, frozen=True):
    """What llama.cpp would allocate: ``kv`` in all, ``compute`` by device.

    ``devices`` are its GPUs in its order; ``flash_attention`` says whether that is used.
    """

    kv: int
    compute: dict[str, int]
    flash_attention: bool
    devices: tuple[str, ...]


class DryRunAnswer(Event, tag="dry_run"):
    """The installed llama.cpp; ``sizes`` is None where it refuses the load, or was not asked."""

    build: str
    supports_gpu: bool
    devices: tuple[str, ...]
    sizes: BufferBytes | None


@lru_cache(maxsize=1)
def engine_devices() -> EngineDevices | None:
    """What the installed llama.cpp can compute on; None where it is not installed or fails.

    Asked once for each process, in about half a second.
    """
    if find_spec("llama_cpp") is None:
        return None
    answer = _ask(DryRun(None))
    if answer is None:
        return None
    return EngineDevices(answer.devices, answer.supports_gpu, answer.build)


def exact_placement(info: ModelInfo, placement: Placement) -> Placement | None:
    """The placement with llama.cpp's own sizes; None where llama.cpp does not get to an answer.

    Answers are kept for each file and settings.
    """
    loads = (load_settings(info, placement), draft_settings(info, placement))
    sizes = [each for load in loads if load is not None if (each := _sizes(load)) is not None]
    if len(sizes) < sum(load is not None for load in loads):
        return None
    return replace(
        placement,
        memory=_corrected(placement, sizes),
        flash_attention=sizes[0].flash_attention,
        exact=True,
    )


def _corrected(placement: Placement, sizes: Sequence[BufferBytes]) -> dict[str, MemoryParts]:
    """The bytes by llama.cpp: what it names for each device, and its sum of the KV caches."""
    devices = sizes[0].devices
    gpus = [device for device in placement.memory if device != CPU]
    names = {gpu: devices[i] for gpu, i in zip(gpus, placement.gpus, strict=True)} | {CPU: CPU}
    cache = sum(parts.kv for parts in placement.memory.values())
    measured = sum(each.kv for each in sizes)
    factor = measured / cache if cache and measured else 1.0
    return {
        device: replace(
            parts,
            kv=round(parts.kv * factor),
            compute=sum(each.compute.get(names[device], 0) for each in sizes),
        )
        for device, parts in placement.memory.items()
    }


def _sizes(settings: LoadSettings) -> BufferBytes | None:
    """What a load would take; None where llama.cpp refuses it or does not respond."""
    status = Path(os.fsdecode(settings.path)).stat()
    return _measured(settings, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _measured(settings: LoadSettings, mtime_ns: int, size: int) -> BufferBytes | None:
    answer = _ask(DryRun(settings))
    return None if answer is None else answer.sizes


def _ask(operation: DryRun) -> DryRunAnswer | None:
    """The answer of a dry run; None where its process fails."""
    with suppress(OSError):
        return ask_once(_PROCESS, operation, DryRunAnswer, _SECONDS)
    return None
