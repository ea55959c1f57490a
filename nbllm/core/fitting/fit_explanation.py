"""What a search for a place found, in words: why here, or why nowhere and what would help."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from nbllm.core.errors import DoesNotFitError
from nbllm.core.fitting.machine_room import Room
from nbllm.core.fitting.memory_estimate import estimate
from nbllm.core.fitting.model_shape import ModelShape
from nbllm.core.fitting.planned_load import CPU, Loading
from nbllm.core.hardware.engine_devices import is_server
from nbllm.core.load_options import LoadOptions
from nbllm.core.placement import ContextSettings, MemoryParts, Placement
from nbllm.core.words import size_words

if TYPE_CHECKING:
    from nbllm.core.fitting.placing import Plan

__all__ = ["Explanation", "refusal"]

_SHORTEST = 512


class _Quantization(NamedTuple):
    """A common quantization and its bits for each weight, by llama.cpp's own table."""

    label: str
    bits: float


_QUANTIZATIONS = (
    _Quantization("Q8_0", 8.5),
    _Quantization("Q6_K", 6.56),
    _Quantization("Q5_K_M", 5.7),
    _Quantization("Q4_K_M", 4.89),
    _Quantization("Q3_K_M", 4.0),
    _Quantization("Q2_K", 3.16),
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Makes the reason of a placement.

    ``layers`` counts the output too, ``usual_context`` is the context length that would have been
    used if it fitted, ``trained_context`` that of the model's training. ``measured`` are settings
    that it computes with because they were measured.
    """

    room: Room
    requested: LoadOptions
    layers: int
    usual_context: int
    trained_context: int | None
    measured: ContextSettings | None = None

    def __call__(self, placement: Placement) -> str:
        """Why it is placed here, and what was reduced to fit, in a sentence or two."""
        return " ".join(self._sentences(placement))

    def _sentences(self, placement: Placement) -> Iterator[str]:
        yield self._where(placement)
        yield self._needs(placement.memory)
        if self.measured is not None:
            yield f"As measured on this machine: {self.measured.words()}."
        if placement.context_length < self.usual_context:
            yield (
                f"The context length is {placement.context_length:,} tokens, because "
                f"{self.usual_context:,} do not fit."
            )
        if (self.requested.context_length or 0) > (self.trained_context or math.inf):
            yield (
                f"The model was trained with a context length of {self.trained_context:,} "
                "tokens; beyond that, answers may be useless."
            )

    def _where(self, placement: Placement) -> str:
        if not placement.gpu_layers:
            return f"It runs on the CPU{self._why_cpu()}."
        if placement.gpu_layers < self.layers:
            which = f"{placement.gpu_layers} of {self.layers}"
        elif not placement.cpu_experts:
            return "All layers fit."
        else:
            which = "All"
        text = f"{which} layers are offloaded to {_kinds(placement)}"
        if placement.cpu_experts:
            text += f", but the experts of {placement.cpu_experts} stay in main memory"
        return f"{text}."

    def _why_cpu(self) -> str:
        if self.requested.device == CPU or self.requested.gpu_layers == 0:
            return ", as requested"
        if self.requested.batch_invariant:
            return ", the only device that supports batch_invariant"
        if not self.room.gpus:
            return f": {self.room.no_gpu}"
        return ", because not even one layer fits on a GPU"

    def _needs(self, memory: Mapping[str, MemoryParts]) -> str:
        """The memory beside what was free on each device."""
        whole = size_words(MemoryParts.sum_of(memory.values()).total)
        free = {device: size_words(max(self.room.free[device], 0)) for device in memory}
        if len(memory) == 1:
            (device,) = memory
            return f"It needs {whole} of memory; {free[device]} are free on {device}."
        each = "; ".join(
            f"{size_words(parts.total)} on {device}, where {free[device]} are free"
            for device, parts in memory.items()
        )
        return f"It needs {whole} of memory: {each}."


def _kinds(placement: Placement) -> str:
    """What it is offloaded to, in a word or two."""
    others = [device for device in placement.memory if device != CPU]
    servers = sum(map(is_server, others))
    kinds = ["GPUs"] * (servers < len(others)) + ["RPC servers"] * (servers > 0)
    return " and ".join(kinds)


def refusal(plan: Plan) -> DoesNotFitError:
    """The error for a plan that fits in no way."""
    way = _wanted(plan)
    memory = plan.measure(plan.shape, way)
    return DoesNotFitError(
        plan.name,
        lambda: _explained(plan, way, memory),
        needed_bytes=MemoryParts.sum_of(memory.values()).total,
        available_bytes=sum(max(plan.room.free[device], 0) for device in memory),
    )


def _explained(
    plan: Plan, way: Loading, memory: dict[str, MemoryParts]
) -> tuple[str, tuple[str, ...]]:
    """What is missing, and what would make it fit; the latter takes a search of its own."""
    whole = MemoryParts.sum_of(memory.values())
    room = " and ".join(f"{size_words(max(plan.room.free[d], 0))} on {d}" for d in memory)
    problem = (
        f"it does not fit, and nothing was loaded. With a context length of "
        f"{way.context_length:,} tokens it needs {size_words(whole.total)} of memory "
        f"({whole.words()}); available: {room}. What would make it fit:"
    )
    remedies = (*_remedies(plan, way), *_more_memory(plan, memory))
    return problem, remedies or ("a smaller model, or a machine with more memory",)


def _wanted(plan: Plan) -> Loading:
    """The way that the request means most: on the GPUs it names, else where most is free."""
    layers = plan.requested.gpu_layers
    whole = plan.shape_layers + 1
    groups = plan.room.groups()
    if layers:
        return plan.on(groups[-1], whole if layers < 0 else min(layers, whole))
    if layers is None and plan.requested.device not in (None, CPU) and groups:
        return plan.on(groups[-1], whole)
    return plan.on_cpu


def _remedies(plan: Plan, way: Loading) -> Iterator[str]:
    longest = min(plan.longest_context(way), plan.shape.context_length or way.context_length)
    if longest >= _SHORTEST:
        yield f"a context length of at most {longest:,} tokens (context_length, --ctx)"
    if way.flash_attention and way.kv_type == "f16":
        for kv_type in ("q8_0", "q4_0"):
            smaller = plan.measure(plan.shape, replace(way, kv_type=kv_type))
            if plan.room.holds(smaller):
                size, bits = size_words(MemoryParts.sum_of(smaller.values()).kv), kv_type[1]
                how = f"kv_type={kv_type!r}, --kv {kv_type}"
                yield f"a KV cache quantized to {bits} bits: {size} ({how})"
                break
    if plan.requested.draft_model is not None and plan.room.holds(estimate(plan.shape, way)):
        yield "loading it without a draft model (draft_model, --draft)"
    yield from _quantized(plan, way)
    if plan.requested.device is not None or plan.requested.gpu_layers is not None:
        yield from _elsewhere(plan)


def _quantized(plan: Plan, way: Loading) -> Iterator[str]:
    now = plan.shape.bits_per_weight
    for label, bits in _QUANTIZATIONS:
        if now is None or bits > 0.95 * now:
            continue
        shape = _scaled(plan.shape, bits / now)
        if plan.room.holds(plan.measure(shape, way)):
            size = size_words(shape.tensor_bytes)
            yield f"a quantization such as {label}, with weights of {size}"
            return


def _scaled(shape: ModelShape, factor: float) -> ModelShape:
    """The model with smaller weights."""
    return replace(
        shape,
        tensor_bytes=int(shape.tensor_bytes * factor),
        input_bytes=int(shape.input_bytes * factor),
        output_bytes=int(shape.output_bytes * factor),
        layers=tuple(replace(layer, weights=int(layer.weights * factor)) for layer in shape.layers),
    )


def _elsewhere(plan: Plan) -> Iterator[str]:
    anywhere = replace(plan, requested=replace(plan.requested, device=None, gpu_layers=None))
    try:
        other = anywhere.placement()
    except DoesNotFitError:
        return
    yield f"another device: without device and gpu_layers it runs on {other.device}"


def _more_memory(plan: Plan, memory: dict[str, MemoryParts]) -> Iterator[str]:
    """What must become free, where the machine has so much at all."""
    totals = {gpu.label: plan.resources.gpu_total_bytes(gpu) or 0 for gpu in plan.resources.gpus}
    totals[CPU] = plan.resources.memory.total_bytes
    missing = {device: parts.total - plan.room.free[device] for device, parts in memory.items()}
    short = {device: size for device, size in missing.items() if size > 0}
    if short and all(memory[device].total < totals[device] for device in short):
        listed = " and ".join(f"{size_words(size)} on {device}" for device, size in short.items())
        yield f"more free memory: {listed} (unload a model, or close a program that uses a lot)"
