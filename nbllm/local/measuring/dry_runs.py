"""The parent's side of dry runs: llama.cpp's own answer to what a load would take."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import msgspec

from nbllm.core.errors import ModelLoadError
from nbllm.core.fitting.planned_load import CPU
from nbllm.core.hardware.engine_devices import EngineDevice, EngineDevices
from nbllm.core.hardware.resources import GpuInfo, Resources
from nbllm.core.hardware.rpc_addresses import server_addresses
from nbllm.core.load_options import LoadOptions
from nbllm.core.placement import MemoryParts, Placement
from nbllm.core.types import ModelInfo
from nbllm.local.ipc.job import ask_once
from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.ipc.protocol import Event, Message
from nbllm.local.ipc.worker_process import server_problems
from nbllm.local.load_settings import draft_settings, load_settings

__all__ = [
    "BufferBytes",
    "DryRun",
    "DryRunAnswer",
    "engine_devices",
    "exact_placement",
    "with_servers",
]

_PROCESS = "nbllm.local.measuring.dry_run_process"
_SECONDS = 20.0  # an answer takes about half a second; a hostile file gets no more than this
_SILENT = "llama.cpp could not be asked about its RPC servers"
_asking_servers = threading.Lock()  # a server serves one program at a time


class DryRun(Message, tag="dry_run"):
    """Ask what a load with these settings would take; without them, only what llama.cpp can use.

    ``rpc`` are the RPC servers ("address:port") that it can use besides.
    """

    settings: LoadSettings | None
    rpc: tuple[str, ...] = ()


class BufferBytes(msgspec.Struct, frozen=True):
    """What llama.cpp would allocate: ``kv`` in all, ``compute`` by device.

    ``devices`` are its names of the memory of its GPUs, in its order; ``flash_attention`` says
    whether that is used.
    """

    kv: int
    compute: dict[str, int]
    flash_attention: bool
    devices: tuple[str, ...]


class DryRunAnswer(Event, tag="dry_run"):
    """The installed llama.cpp; ``sizes`` is None where it refuses the load, or was not asked."""

    build: str
    supports_gpu: bool
    devices: tuple[EngineDevice, ...]
    sizes: BufferBytes | None


@lru_cache(maxsize=1)
def engine_devices() -> EngineDevices | None:
    """What the installed llama.cpp can compute on; None where it is not installed or fails.

    Asked once for each process, in about half a second.
    """
    if find_spec("llama_cpp") is None:
        return None
    answer = _ask(DryRun(None))
    if not isinstance(answer, DryRunAnswer):
        return None
    return EngineDevices(answer.devices, answer.supports_gpu, answer.build)


def with_servers(name: str, resources: Resources, options: LoadOptions) -> Resources:
    """The machine with the devices of the RPC servers that the options name.

    They are asked each time, for what is free there changes. Errors are of the model ``name``; see
    ``nbllm.core.openers.with_servers``.
    """
    servers = server_addresses(options)
    with _asking_servers:
        answer = _ask(DryRun(None, rpc=servers))
    if not isinstance(answer, DryRunAnswer):
        problem = "; ".join(server_problems(answer))
        raise ModelLoadError(name, problem or _SILENT, log=() if problem else answer)
    return replace(
        resources,
        gpus=(*resources.gpus, *_server_gpus(answer.devices)),
        engine=EngineDevices(answer.devices, answer.supports_gpu, answer.build),
    )


def _server_gpus(devices: Iterable[EngineDevice]) -> Iterator[GpuInfo]:
    """The devices of servers, each with its number on its server."""
    seen: Counter[str] = Counter()
    for device in devices:
        if device.server is not None:
            yield GpuInfo(
                index=seen[device.server],
                name=f"{device.name} at {device.server}",
                vendor="rpc",
                server=device.server,
                vram_total_bytes=device.total_bytes,
                vram_free_bytes=device.free_bytes,
            )
            seen[device.server] += 1


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
        flash_attention=placement.flash_attention and sizes[0].flash_attention,
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
    answer = _ask(DryRun(settings, settings.rpc))
    return answer.sizes if isinstance(answer, DryRunAnswer) else None


def _ask(operation: DryRun) -> DryRunAnswer | tuple[str, ...]:
    """The answer of a dry run; where its process fails, the last lines of its log."""
    try:
        return ask_once(_PROCESS, operation, DryRunAnswer, _SECONDS)
    except OSError as error:
        return (str(error),)
