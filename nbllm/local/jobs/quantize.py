"""Quantizing a model's file by llama.cpp, in a process of its own that can be stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from nbllm.core.errors import InvalidOptionError, ModelFileError, QuantizationError
from nbllm.core.fitting.model_shape import ModelShape, TensorInfo
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import kind_of
from nbllm.core.paths import reason
from nbllm.core.quantization import NEEDS_IMATRIX, Quantization, Quantized
from nbllm.core.saved_files import replacing
from nbllm.core.types import ModelInfo
from nbllm.core.words import size_words
from nbllm.local.gguf.header import alignment_of, read_header
from nbllm.local.gguf.header_keys import check_model
from nbllm.local.gguf.shape import model_info_from_gguf
from nbllm.local.gguf.split_files import model_files
from nbllm.local.gguf.tensor_table import padded
from nbllm.local.gguf.tensor_types import FILE_TYPES, TENSOR_TYPES
from nbllm.local.installation import check_installation
from nbllm.local.ipc.job import Failure, Job, running
from nbllm.local.ipc.protocol import LastEvent, Request
from nbllm.local.plans import cached_shape

__all__ = [
    "Quantize",
    "QuantizeDone",
    "check_target",
    "failure_of",
    "plan_quantizations",
    "quantize_model",
    "source_of",
]

_PROCESS = "nbllm.local.jobs.quantize_process"
_NUMBERS = {label: number for number, label in FILE_TYPES.items()}
_TYPES = {tensor_type.label: tensor_type for tensor_type in TENSOR_TYPES.values()}
_WRITTEN_KEYS = ("general.quantization_version", "general.file_type")
_SPLIT_KEYS = {"split.no": 2, "split.count": 2, "split.tensors.count": 4}
"""The keys of a part, and the bytes of their values."""
_SPARE = 64 * 2**20
"""So much of a disk stays free."""


class Quantize(Request, tag="quantize"):
    """Quantize the file ``source`` into ``target``; without a target, say what it would come to.

    ``sizes`` has the bytes of each tensor by its name, for the progress. Answered by
    ``QuantizeDone``.
    """

    source: bytes
    target: bytes | None
    file_type: int
    imatrix: bytes | None
    threads: int = 1
    sizes: dict[str, int] | None = None


class QuantizeDone(LastEvent, tag="quantized"):
    """The type of each tensor, and how many fell back from which to which."""

    types: dict[str, str]
    fallbacks: list[tuple[str, str, int]]


async def plan_quantizations(
    info: ModelInfo, labels: Sequence[str], *, imatrix: Path | None = None
) -> list[Quantization]:
    """What quantizing to each of ``labels`` would make of the file; nothing is written.

    Those that need an importance matrix are left out without one. Takes about a second. Raises
    as ``quantize_model`` does.
    """
    source, shape = source_of(info)
    able = [label for label in labels if imatrix or label not in NEEDS_IMATRIX]
    async with _running(info.name) as job:
        return [await _plan(job, source, shape, label, imatrix) for label in able]


async def quantize_model(
    info: ModelInfo,
    label: str,
    target: Path,
    resources: Resources,
    *,
    imatrix: Path | None = None,
    replaces: bool = False,
    on_plan: Callable[[Quantization], None] = lambda plan: None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Quantized:
    """Write the model in ``info`` anew, its tensors quantized to ``label``, to ``target``.

    ``target`` appears when it is whole; a cancelled or failed run leaves nothing. ``on_plan`` gets
    the size before the work begins, ``progress`` the finished fraction, 0 to 1. An ``imatrix`` is
    a file of llama.cpp's, in either format.

    Raises ``InvalidOptionError`` for a type that needs an importance matrix where none is given
    and for a target that exists, unless it ``replaces`` it; ``QuantizationError`` where the disk
    has no room or llama.cpp fails; ``ModelFileError`` and ``MissingDependencyError``.
    """
    source, shape = source_of(info)
    _check_imatrix(label, imatrix)
    check_target(target, source, imatrix, replaces=replaces)
    began = time.monotonic()
    async with _running(info.name) as job:
        plan = await _plan(job, source, shape, label, imatrix)
        _check_space(info.name, target.parent, plan.size_bytes)
        on_plan(plan)
        try:
            with replacing(target) as draft:
                await job.ask(
                    lambda number: Quantize(
                        number,
                        source=os.fsencode(source),
                        target=os.fsencode(draft),
                        file_type=_NUMBERS[label],
                        imatrix=_imatrix_bytes(imatrix),
                        threads=max(1, int(resources.cpu.usable_cores)),
                        sizes={each.name: each.size_bytes for each in shape.tensors},
                    ),
                    progress,
                )
                check_target(target, source, imatrix, replaces=replaces)
        except OSError as error:
            problem = f"{target} cannot be written: {reason(error)}; name another place (--to PATH)"
            raise QuantizationError(info.name, problem) from None
    made = model_info_from_gguf(target)
    return Quantized(info=made, source=info, quantization=plan, seconds=time.monotonic() - began)


# ---------------------------------------------------------------- checks


def source_of(info: ModelInfo) -> tuple[Path, ModelShape]:
    """The file of a local model and its shape. Raises as ``quantize_model`` does."""
    check_installation()
    if not kind_of(info).takes_memory:
        raise ModelFileError(info.name, "is not a local model; name one that is")
    if info.path is None:
        raise ModelFileError(info.name, "its entry names no file; give it a path")
    shape = cached_shape(info.path)
    check_model(info.path, shape)
    return info.path, shape


def _check_imatrix(label: str, imatrix: Path | None) -> None:
    if imatrix is None and label in NEEDS_IMATRIX:
        raise InvalidOptionError(
            "imatrix",
            f"{label} needs an importance matrix. Make one with %llm_imatrix and name its file "
            "(--imatrix FILE), or choose a larger type such as Q3_K_M",
        )
    if imatrix is not None and not imatrix.is_file():
        raise InvalidOptionError("imatrix", f"there is no file {imatrix}")


def check_target(target: Path, source: Path, other: Path | None, *, replaces: bool) -> None:
    """Raise ``InvalidOptionError`` for a file that is there and may not be replaced.

    No part of the model at ``source`` may be, nor the ``other`` file that is read.
    """
    if not os.path.lexists(target):
        return
    for file in model_files(source):
        if target.exists() and file.exists() and target.samefile(file):
            which = "the model itself" if file == source else "a part of the model itself"
            raise InvalidOptionError("to", f"{target} is {which}; name another file")
    if other is not None and target.exists() and other.exists() and target.samefile(other):
        raise InvalidOptionError("to", f"{target} is what is to be read; name another file")
    if not replaces:
        raise InvalidOptionError(
            "to", f"{target} exists already; name another file, or replace it with --replace"
        )


def _check_space(model: str, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size + _SPARE > free:
        raise QuantizationError(
            model,
            f"the file would have {size_words(size)}, but only {size_words(free)} are free in "
            f"{folder}. Free some space, or name another folder (--to FOLDER)",
        )


# ---------------------------------------------------------------- the process


def _running(name: str) -> AbstractAsyncContextManager[Job[QuantizeDone]]:
    return running(_PROCESS, QuantizeDone, failure_of(name), stage="quantize")


def failure_of(name: str) -> Failure:
    """Makes the errors of jobs on the model ``name``."""
    return lambda problem, log: QuantizationError(name, problem)


async def _plan(
    job: Job[QuantizeDone], source: Path, shape: ModelShape, label: str, imatrix: Path | None
) -> Quantization:
    done = await job.ask(
        lambda number: Quantize(
            number,
            source=os.fsencode(source),
            target=None,
            file_type=_NUMBERS[label],
            imatrix=_imatrix_bytes(imatrix),
        )
    )
    return _quantization(shape, label, done, _header_bytes(source, shape))


def _imatrix_bytes(imatrix: Path | None) -> bytes | None:
    return os.fsencode(imatrix.absolute()) if imatrix else None


def _header_bytes(source: Path, shape: ModelShape) -> int:
    """The header's size as llama.cpp writes it, with its padding, in bytes.

    It adds the keys that say how the weights are stored where they are missing: a length of 8
    bytes, the name, a type and a number of 4 bytes each. Of a split model the header of the
    first part gets the entries of the others' tensors, and loses the keys of the split.
    """
    header = read_header(source)
    size = header.end_offset
    size += sum(16 + len(key) for key in _WRITTEN_KEYS if key not in header.metadata)
    size -= sum(12 + len(key) + _SPLIT_KEYS[key] for key in _SPLIT_KEYS if key in header.metadata)
    here = {tensor.name for tensor in header.tensors}
    size += sum(_entry_bytes(each) for each in shape.tensors if each.name not in here)
    return padded(size, alignment_of(shape.metadata))


def _entry_bytes(tensor: TensorInfo) -> int:
    """A tensor's entry: its name with its length, its shape with theirs, a type and an offset."""
    return 8 + len(tensor.name.encode()) + 4 + 8 * len(tensor.shape) + 4 + 8


def _quantization(
    shape: ModelShape, label: str, done: QuantizeDone, header_bytes: int
) -> Quantization:
    """The sizes, exact: each tensor's blocks and padding, and the header."""
    types = {tensor.name: done.types.get(tensor.name, "") for tensor in shape.tensors}
    types = {
        tensor.name: types[tensor.name] if types[tensor.name] in _TYPES else tensor.type_label
        for tensor in shape.tensors
    }
    sizes = [_size(tensor.elements, types[tensor.name]) for tensor in shape.tensors]
    alignment = alignment_of(shape.metadata)
    return Quantization(
        label=label,
        size_bytes=header_bytes + sum(padded(size, alignment) for size in sizes),
        bits_per_weight=8 * sum(sizes) / max(1, shape.parameter_count),
        tensor_types=types,
        fallbacks={(meant, used): count for meant, used, count in done.fallbacks},
    )


def _size(elements: int, label: str) -> int:
    kind = _TYPES[label]
    return elements // kind.block_elements * kind.block_bytes
