"""How a worker is told to load a model: the entry and its placement in llama.cpp's terms."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec
from platformdirs import user_cache_path

from nbllm.core.errors import ModelFileError
from nbllm.core.fitting.planned_load import CPU
from nbllm.core.hardware.rpc_addresses import server_addresses
from nbllm.core.load_options import LoadOptions, template_path
from nbllm.core.paths import file_fingerprint, read_text, reason
from nbllm.core.placement import Placement
from nbllm.core.types import ModelInfo
from nbllm.local.gguf.split_files import model_files
from nbllm.local.ipc.operations import DiskCache, Load, LoadMode, LoadSettings

__all__ = ["draft_settings", "load_operation", "load_settings", "read_template"]

_LONGEST_BYTES = 2**20


def load_operation(info: ModelInfo, placement: Placement) -> Load:
    """The first message to a worker. Raises ``ModelFileError`` for a template in a file."""
    return Load(
        settings=load_settings(info, placement),
        file_bytes=info.size_bytes or 0,
        yields_cores=info.load.threads is None,
        kept_bytes=(info.load.prefix_cache_mib or 0) * 2**20,
        disk=_disk_cache(info),
        adapters=tuple((os.fsencode(path), scale) for path, scale in info.load.adapters or ()),
        chat_template=read_template(info.load),
        draft=draft_settings(info, placement),
    )


def _disk_cache(info: ModelInfo) -> DiskCache | None:
    """Where the model's prompts are saved; None where they are not."""
    if not info.load.prefix_cache_disk or info.path is None:
        return None
    files = [*model_files(info.path), *(Path(path) for path, _ in info.load.adapters or ())]
    marks = tuple(f"{file_fingerprint(file)} {file.stat().st_mtime_ns}" for file in files)
    named = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:32]
    folder = user_cache_path("nbllm") / "prefixes" / named
    return DiskCache(
        folder=os.fsencode(folder), limit_bytes=info.load.prefix_cache_disk, files=marks
    )


def load_settings(info: ModelInfo, placement: Placement) -> LoadSettings:
    """What llama.cpp is to load the model with."""
    return LoadSettings(
        path=os.fsencode(str(info.path)),
        context_length=placement.context_length,
        parallel=placement.parallel,
        sequences=placement.sequences,
        threads=placement.threads,
        batch_threads=placement.batch_threads,
        gpus=placement.gpus,
        gpu_layers=placement.gpu_layers,
        tensor_split=placement.tensor_split,
        kv_type=placement.kv_type,
        flash_attention=_flash_attention(info.load, placement),
        batch_tokens=placement.batch_tokens,
        max_outputs=placement.max_outputs,
        batch_invariant=placement.batch_invariant,
        kv_unified=info.load.kv_unified is not False,
        rpc=server_addresses(info.load),
        cpu_experts=placement.cpu_experts,
        host_weights=placement.memory[CPU].weights if placement.gpu_layers else None,
        load_mode=_load_mode(info.load),
        numa=info.load.numa,
    )


def _flash_attention(options: LoadOptions, placement: Placement) -> bool | None:
    """What the options say, else off where the placement does without; None where it is left open.

    llama.cpp then uses it wherever the device can.
    """
    if options.flash_attention is None and not placement.flash_attention:
        return False
    return options.flash_attention


def _load_mode(options: LoadOptions) -> LoadMode:
    if options.direct_io:
        return "dio"
    if options.mmap is False:
        return "mlock" if options.mlock else "none"
    if options.mlock:
        return "mmap+mlock"
    return "mmap" if options.mmap else "auto"


def draft_settings(info: ModelInfo, placement: Placement) -> LoadSettings | None:
    """The same for the model's draft model; None where it has none.

    It goes where ``nbllm.core.fitting.memory_estimate.estimate_with_draft`` expects it.
    """
    if info.load.draft_model is None:
        return None
    gpus = placement.gpus[:1] if placement.gpu_layers else ()
    return msgspec.structs.replace(
        load_settings(info, placement),
        path=os.fsencode(info.load.draft_model),
        sequences=placement.parallel,
        gpus=gpus,
        gpu_layers=-1 if gpus else 0,
        tensor_split=(),
        max_outputs=placement.parallel,
        batch_invariant=False,
        kv_unified=True,
        host_weights=None,
        cpu_experts=0,
    )


def read_template(options: LoadOptions) -> str | None:
    """The template that the options name or hold; None where they leave it to the model's file.

    Raises ``ModelFileError``.
    """
    if options.chat_template is None:
        return None
    path = template_path(options.chat_template)
    return options.chat_template if path is None else _read(path)


def _read(path: Path) -> str:
    try:
        return read_text(path, _LONGEST_BYTES)
    except (OSError, ValueError) as error:
        is_absent = getattr(error, "errno", None) in (errno.ENOENT, errno.ENAMETOOLONG)
        hint = "; give a file, or the template itself, which contains {% … %}" if is_absent else ""
        problem = f"the chat template cannot be read: {reason(error)}{hint}"
        raise ModelFileError(str(path), problem) from None
