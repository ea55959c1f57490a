"""Plans for loading GGUF files: headers and the machine put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from nbllm.core.errors import DoesNotFitError, ModelFileError
from nbllm.core.fitting.fit_options import Fit, fits_of
from nbllm.core.fitting.memory_estimate import estimate, estimate_with_draft
from nbllm.core.fitting.model_shape import ModelShape
from nbllm.core.fitting.placing import DEFAULT_CONTEXT, Measure, Plan
from nbllm.core.fitting.planned_load import Loading
from nbllm.core.hardware.resources import Resources
from nbllm.core.load_options import LoadOptions
from nbllm.core.measurements import read_context, read_threads
from nbllm.core.paths import file_status, reason
from nbllm.core.placement import MemoryParts, Placement
from nbllm.core.quantization import Quantization
from nbllm.core.types import ModelInfo
from nbllm.local.gguf.header_keys import check_adapter, check_model
from nbllm.local.gguf.shape import quantized_shape, read_shape
from nbllm.local.load_settings import read_template
from nbllm.local.measuring.dry_runs import engine_devices, exact_placement, with_servers

__all__ = ["cached_shape", "fit_model", "make_plan", "plan_model", "quantized_plan", "settled"]

Memory: TypeAlias = Mapping[str, MemoryParts]
_CORRECTIONS = 3


def plan_model(info: ModelInfo, resources: Resources) -> Placement:
    """Where the model goes, from its header; see ``nbllm.core.openers.plan_model``."""
    return make_plan(info, resources).placement()


def fit_model(info: ModelInfo, resources: Resources) -> Fit:
    """Ways to load the model; see ``nbllm.core.openers.fit_model``."""
    servers = LoadOptions(rpc=info.load.rpc, rpc_public=info.load.rpc_public)
    plan = make_plan(replace(info, load=servers), resources)
    try:
        chosen = plan.placement()
    except DoesNotFitError:
        chosen = None
    return fits_of(plan, chosen)


def quantized_plan(info: ModelInfo, plan: Quantization, resources: Resources) -> Placement:
    """Where the model would go if it were quantized so. Raises as ``plan_model`` does."""
    found = make_plan(info, resources)
    shape = quantized_shape(found.shape, plan.label, plan.tensor_types, plan.size_bytes)
    return replace(found, shape=shape, threads=None, context=None).placement()


def make_plan(info: ModelInfo, resources: Resources) -> Plan:
    """The search for a place. Raises ``ModelFileError``."""
    if info.path is None:
        raise ModelFileError(info.name, "its entry names no file; give it a path")
    adapter_bytes = sum(_adapter_bytes(adapter) for adapter, _ in info.load.adapters or ())
    read_template(info.load)  # before anything is unloaded for it
    shape, draft = _model_shape(info.path), info.load.draft_model
    if info.load.rpc:
        resources = with_servers(info.name, resources, info.load)
    elif resources.gpus and resources.engine is None:
        resources = replace(resources, engine=engine_devices())
    return Plan(
        name=info.name,
        shape=shape,
        resources=resources,
        requested=info.load,
        usual_context=_usual_context(info, shape),
        threads=read_threads(info.path, resources.cpu),
        context=read_context(info.path, resources.cpu),
        measure=estimate if draft is None else _beside(_model_shape(Path(draft))),
        adapter_bytes=adapter_bytes,
    )


def _model_shape(path: Path) -> ModelShape:
    shape = cached_shape(path)
    check_model(path, shape)
    return shape


def _adapter_bytes(file: str) -> int:
    """The weights of an adapter. Raises ``ModelFileError``."""
    path = Path(file)
    if not os.path.lexists(path):
        raise ModelFileError(file, "the adapter's file does not exist")
    shape = cached_shape(path)
    check_adapter(path, shape)
    return shape.tensor_bytes


def _beside(draft: ModelShape) -> Measure:
    """Measures a model together with a draft model of this shape."""
    return lambda shape, loading: estimate_with_draft(shape, draft, loading)


def settled(plan: Plan, placement: Placement, info: ModelInfo) -> Placement:
    """The placement to load by, after llama.cpp was asked wherever its answer can matter.

    That is where a GPU takes part, and where the arithmetic fills most of what is free. What
    llama.cpp says corrects the arithmetic of every other way to load, until a way fits.
    Raises ``DoesNotFitError``.
    """
    for _ in range(_CORRECTIONS):
        if not plan.room.is_tight(placement.memory):
            return placement
        exact = exact_placement(info, placement)
        if exact is None:
            return placement
        if plan.room.holds(exact.memory):
            return exact
        plan = replace(plan, measure=_corrected(plan.measure, placement.memory, exact.memory))
        placement = plan.placement()
    return placement


def _corrected(measure: Measure, computed: Memory, exact: Memory) -> Measure:
    """The arithmetic, with what it missed of a device added wherever that device takes part."""
    missed = {device: exact[device].total - parts.total for device, parts in computed.items()}

    def corrected(shape: ModelShape, loading: Loading) -> dict[str, MemoryParts]:
        return {
            device: replace(parts, compute=parts.compute + max(missed.get(device, 0), 0))
            for device, parts in measure(shape, loading).items()
        }

    return corrected


def cached_shape(path: Path) -> ModelShape:
    """The shape of the model in a file, read again when the file has changed.

    Raises ``ModelFileError``.
    """
    try:
        status = file_status(path)
    except OSError as error:
        raise ModelFileError(str(path), reason(error)) from None
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _read(path: Path, mtime_ns: int, size: int) -> ModelShape:
    return read_shape(path)


def _usual_context(info: ModelInfo, shape: ModelShape) -> int:
    """What a config says; else what the model was trained for, within reason."""
    if info.source == "config" and info.context_length:
        return info.context_length
    return min(info.context_length or shape.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
