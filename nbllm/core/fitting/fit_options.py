"""Every sensible way to load a model, with what it takes and whether there is room for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nbllm.core.fitting.placing import Plan
from nbllm.core.fitting.planned_load import CPU, Loading
from nbllm.core.load_options import LoadOptions
from nbllm.core.placement import KV_TYPES, KvType, MemoryParts, Placement

__all__ = ["Fit", "FitOption", "fits_of"]

_SHORTEST, _LONGEST = 2048, 2**20


@dataclass(frozen=True, slots=True)
class FitOption:
    """One way to load. ``free`` has the bytes that the model may use on each of its devices.

    ``cpu_experts`` counts the layers whose experts stay in the main memory.
    """

    device: str
    gpu_layers: int
    context_length: int
    kv_type: KvType
    memory: Mapping[str, MemoryParts]
    free: Mapping[str, int]
    fits: bool
    cpu_experts: int = 0

    @property
    def total_bytes(self) -> int:
        """What it takes on all devices together."""
        return sum(parts.total for parts in self.memory.values())


@dataclass(frozen=True, slots=True)
class Fit:
    """The options, and the one that a load without options would take (None: nothing fits)."""

    options: tuple[FitOption, ...]
    chosen: Placement | None
    layers: int


def fits_of(plan: Plan, chosen: Placement | None) -> Fit:
    """Device by device, context by context, from exact keys and values to small ones."""
    anywhere = replace(plan, requested=LoadOptions(parallel=plan.requested.parallel))
    options = tuple(
        _option(anywhere, loading)
        for gpus in _devices(anywhere)
        for context in _contexts(anywhere)
        for loading in _loadings(anywhere, gpus, context)
    )
    return Fit(options, chosen, plan.shape_layers + 1)


def _devices(plan: Plan) -> Iterator[tuple[str, ...]]:
    """Each GPU, all of them together, and none."""
    yield from ((gpu,) for gpu in sorted(plan.room.gpus, key=lambda gpu: plan.room.positions[gpu]))
    if len(plan.room.gpus) > 1:
        yield plan.room.groups()[-1]
    yield ()


def _contexts(plan: Plan) -> Iterator[int]:
    """Doubled from 2,048 tokens up to what the model was trained for."""
    trained = min(plan.shape.context_length or plan.usual_context, _LONGEST)
    context = _SHORTEST
    while context < trained:
        yield context
        context *= 2
    yield trained


def _loadings(plan: Plan, gpus: tuple[str, ...], context: int) -> Iterator[Loading]:
    kv_types = KV_TYPES if any(layer.key for layer in plan.shape.layers) else KV_TYPES[:1]
    for kv_type in kv_types:
        whole = plan.on(gpus, plan.shape_layers + 1) if gpus else plan.base
        way = replace(
            whole, context_length=context, kv_type=kv_type, batch_tokens=min(512, context)
        )
        yield way
        if gpus and not plan.room.holds(plan.measure(plan.shape, way)):
            yield from plan.without_experts(gpus, way)
            yield from plan.partly(gpus, way)


def _option(plan: Plan, loading: Loading) -> FitOption:
    memory = plan.measure(plan.shape, loading)
    used = [gpu for gpu in loading.gpus if gpu in memory]
    if plan.computes_here(loading) or not used:
        used.append(CPU)
    return FitOption(
        device=" + ".join(used),
        gpu_layers=loading.gpu_layers,
        cpu_experts=loading.cpu_experts,
        context_length=loading.context_length,
        kv_type=loading.kv_type,
        memory=memory,
        free={device: max(plan.room.free[device], 0) for device in memory},
        fits=plan.room.holds(memory),
    )
