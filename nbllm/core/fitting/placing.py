"""Where a model goes: a pure function of its shape, the machine, and what the user wants."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import TypeAlias

from nbllm.core.errors import InvalidOptionError
from nbllm.core.fitting.fit_explanation import Explanation, refusal
from nbllm.core.fitting.machine_room import Room, room_of
from nbllm.core.fitting.memory_estimate import estimate, layer_bytes
from nbllm.core.fitting.model_shape import ModelShape
from nbllm.core.fitting.planned_load import CPU, Loading, most_outputs
from nbllm.core.hardware.resources import CpuInfo, Resources
from nbllm.core.load_options import LoadOptions
from nbllm.core.placement import ContextSettings, MemoryParts, Placement, ThreadCounts

__all__ = ["DEFAULT_CONTEXT", "DEFAULT_PARALLEL", "Plan", "place", "thread_counts"]

DEFAULT_CONTEXT = 8192
DEFAULT_PARALLEL = 8
_BATCH_TOKENS = 512
_STEP = 256
# A context that nobody asked for is shortened to these before a GPU is given up, or the model.
_SHORTEST_ON_GPU = 4096
_SHORTEST = 1024

Measure: TypeAlias = Callable[[ModelShape, Loading], dict[str, MemoryParts]]
"""Gives the bytes on each device: the header's arithmetic, or llama.cpp's own answer."""


def place(
    name: str,
    shape: ModelShape,
    resources: Resources,
    requested: LoadOptions = LoadOptions(),
    *,
    usual_context: int = DEFAULT_CONTEXT,
    threads: ThreadCounts | None = None,
) -> Placement:
    """The best place for the model ``name`` on this machine, with the bytes that it takes.

    Preferred in this order: whole on one GPU, over several, with a shorter context there, all but
    some experts on GPUs, some layers on GPUs, on the CPU. What ``requested`` sets is kept; an unset
    context length is ``usual_context`` tokens, and fewer where no more fit, which ``reason`` says.
    ``threads`` are counts that were measured on this machine, else they follow from its cores.

    Raises ``DoesNotFitError`` with what would make the model fit, and ``InvalidOptionError``
    where ``requested`` names a GPU or layers on GPUs that there are none of.
    """
    return Plan(name, shape, resources, requested, usual_context, threads).placement()


def thread_counts(cpu: CpuInfo) -> ThreadCounts:
    """As many threads as there are whole fast cores that this process may use.

    A second thread on a core shares its units, a slow core holds the fast ones up at every
    barrier, and under a quota more threads only wait for their turn.
    """
    physical = cpu.usable_physical_cores or cpu.physical_cores or cpu.logical_cores
    cores = min(int(cpu.usable_cores), physical, cpu.performance_cores or physical)
    return ThreadCounts(max(1, cores), max(1, cores))


@dataclass(frozen=True)
class Plan:
    """A search for a place. ``measure`` tells the bytes of a way to load.

    ``adapter_bytes`` are the weights of the LoRA adapters. ``context`` has the settings that were
    measured to be the fastest on this machine where the CPU alone computes.

    The search makes no text: ``Placement.reason`` and the message of ``DoesNotFitError`` are made
    when they are read (``fit_explanation``).
    """

    name: str
    shape: ModelShape
    resources: Resources
    requested: LoadOptions
    usual_context: int = DEFAULT_CONTEXT
    threads: ThreadCounts | None = None
    measure: Measure = field(default=estimate)
    adapter_bytes: int = 0
    context: ContextSettings | None = None

    @cached_property
    def room(self) -> Room:
        """The devices that may be used, and what is free on them."""
        return room_of(
            self.resources, CPU if self.requested.batch_invariant else self.requested.device
        )

    @cached_property
    def base(self) -> Loading:
        """What was requested, and the defaults of what was not; on the CPU."""
        context = self.requested.context_length or self.usual_context
        return Loading(
            context_length=context,
            parallel=self.requested.parallel or DEFAULT_PARALLEL,
            kv_type=self.requested.kv_type or "f16",
            flash_attention=self.requested.flash_attention is not False,
            batch_tokens=min(_BATCH_TOKENS, context),
            adapter_bytes=self.adapter_bytes,
            kept_bytes=(self.requested.prefix_cache_mib or 0) * 2**20,
            batch_invariant=bool(self.requested.batch_invariant),
            cpu_experts=self.cpu_experts,
            kv_unified=self.requested.kv_unified is not False,
        )

    @property
    def cpu_experts(self) -> int:
        """The layers whose experts are to stay in the main memory; 0 where nobody asks for it."""
        wanted = self.requested.cpu_experts or 0
        return self.expert_layers if wanted < 0 else min(wanted, self.expert_layers)

    @property
    def expert_layers(self) -> int:
        """The layers up to the last that has experts; 0 for a model without experts."""
        numbered = enumerate(self.shape.layers, start=1)
        return max((number for number, layer in numbered if layer.experts), default=0)

    @cached_property
    def on_cpu(self) -> Loading:
        """``base``, with the settings that were measured where nothing else decides about them."""
        settings = self._measured_for(self.base)
        if settings is None:
            return self.base
        batch = min(settings.batch_tokens, self.base.context_length)
        return replace(self.base, flash_attention=settings.flash_attention, batch_tokens=batch)

    def _measured_for(self, way: Loading) -> ContextSettings | None:
        is_set = self.requested.flash_attention is not None
        needs_flash = way.batch_invariant or way.kv_type != "f16" or way.kv_unified
        return None if is_set or needs_flash or way.gpu_layers else self.context

    def placement(self) -> Placement:
        """The first way of loading that fits. Raises ``DoesNotFitError``."""
        self.check_requested()
        for loading in self.ways():
            memory = self.measure(self.shape, loading)
            if self.room.holds(memory):
                return self.placed(loading, memory)
        raise refusal(self)

    def check_requested(self) -> None:
        """Raise ``InvalidOptionError`` for layers on GPUs where there is none to use."""
        if self.requested.gpu_layers and not self.room.gpus:
            why = "device is set to CPU" if self.requested.device == CPU else self.room.no_gpu
            raise InvalidOptionError("gpu_layers", f"no layer can be offloaded to a GPU: {why}")

    # ------------------------------------------------------------ the ways of loading

    def ways(self) -> Iterator[Loading]:
        """Ways to load in the order of preference; none is asked for what it takes yet."""
        whole = self.shape_layers + 1
        if self.requested.gpu_layers is not None:
            layers = (
                whole if self.requested.gpu_layers < 0 else min(self.requested.gpu_layers, whole)
            )
            yield from self.with_layers(layers)
            return
        groups = self.room.groups()
        yield from (self.on(group, whole) for group in groups)
        yield from self.shortened([self.on(group, whole) for group in groups], _SHORTEST_ON_GPU)
        partly = self.requested.device is None and bool(groups)
        if partly:
            yield from self.without_experts(groups[-1], self.on(groups[-1], whole))
            yield from self.partly(groups[-1], self.base)
        if self.requested.device in (None, CPU):
            yield self.on_cpu
            yield from self.shortened([self.on_cpu], _SHORTEST)
        if self.requested.device not in (None, CPU):
            yield from self.shortened([self.on(group, whole) for group in groups], _SHORTEST)

    @property
    def shape_layers(self) -> int:
        """The model's layers, the output not counted."""
        return len(self.shape.layers)

    def on(self, gpus: Sequence[str], layers: int, base: Loading | None = None) -> Loading:
        """On these GPUs, with so many layers on each that their bytes are shared by what is free.

        A layer goes where its middle falls; the output, often the largest, is the last one.
        """
        way = replace(base or self.base, gpus=tuple(gpus), gpu_layers=layers, split=())
        if len(gpus) < 2 or not layers:
            return way
        sizes = layer_bytes(self.shape, way)[-layers:]
        shares = [*accumulate(self.room.share(gpu) for gpu in gpus)]
        ends = [share / shares[-1] * sum(sizes) for share in shares]
        begins = accumulate(sizes, initial=0)
        middles = [begin + size / 2 for begin, size in zip(begins, sizes, strict=False)]
        counts = Counter(bisect_left(ends, middle) for middle in middles)
        return replace(way, split=tuple(float(counts[place]) for place in range(len(gpus))))

    def with_layers(self, layers: int) -> Iterator[Loading]:
        """With exactly so many layers on GPUs."""
        groups = self.room.groups() if layers else [()]
        wanted = [self.on(group, layers) if layers else self.on_cpu for group in groups]
        yield from wanted
        yield from self.shortened(wanted, _SHORTEST)

    def shortened(self, ways: Sequence[Loading], shortest: int) -> Iterator[Loading]:
        """The same with the longest context that fits, where none was asked for."""
        if self.requested.context_length is not None:
            return
        for way in ways:
            longest = self.longest_context(way)
            if shortest <= longest < way.context_length:
                yield replace(way, context_length=longest)

    def without_experts(self, gpus: Sequence[str], whole: Loading) -> Iterator[Loading]:
        """Like ``whole``, with the experts of as few layers as need be in the main memory."""
        if self.requested.cpu_experts is not None:
            return
        most = self.expert_layers

        def way(on_gpus: int) -> Loading:
            base = replace(whole, cpu_experts=most - on_gpus)
            return self.on(gpus, whole.gpu_layers, base)

        def fits(on_gpus: int) -> bool:
            return self.room.holds_on(gpus, self.measure(self.shape, way(on_gpus)))

        if most and fits(0):
            yield way(_greatest(most - 1, fits))

    def partly(self, gpus: Sequence[str], base: Loading) -> Iterator[Loading]:
        """Like ``base``, with as many layers on these GPUs as fit there."""

        def way(layers: int) -> Loading:
            return self.on(gpus, layers, base)

        fitting = _greatest(
            self.shape_layers,
            lambda layers: self.room.holds_on(gpus, self.measure(self.shape, way(layers))),
        )
        if fitting:
            yield way(fitting)

    def longest_context(self, way: Loading) -> int:
        """The most tokens, at most those of ``way``, for which it fits; 0 where none do."""
        steps = -(-way.context_length // _STEP)

        def fits(step: int) -> bool:
            shorter = replace(way, context_length=step * _STEP)
            return self.room.holds(self.measure(self.shape, shorter))

        return min(_greatest(steps, fits) * _STEP, way.context_length)

    # ------------------------------------------------------------ the result

    def placed(self, loading: Loading, memory: dict[str, MemoryParts]) -> Placement:
        """The placement of a way that fits."""
        counts = self.threads or thread_counts(self.resources.cpu)
        if self.requested.threads is not None:
            counts = ThreadCounts(self.requested.threads, self.requested.threads)
        elif not self.computes_here(loading):
            counts = ThreadCounts(min(2, counts.decode), min(2, counts.batch))
        on_cpu = self.computes_here(loading)
        used = [gpu for gpu in loading.gpus if gpu in memory]
        return Placement(
            device=" + ".join([*used, *([CPU] if on_cpu or not used else [])]),
            memory=memory,
            context_length=loading.context_length,
            parallel=loading.parallel,
            threads=counts.decode,
            batch_threads=counts.batch,
            gpus=tuple(self.room.positions[gpu] for gpu in loading.gpus),
            gpu_layers=loading.gpu_layers if used else 0,
            tensor_split=loading.split,
            cpu_experts=loading.cpu_experts if used else 0,
            kv_type=loading.kv_type,
            flash_attention=loading.flash_attention,
            batch_tokens=min(loading.batch_tokens, loading.context_length),
            most_outputs=most_outputs(self.shape),
            batch_invariant=loading.batch_invariant,
            is_compromise=self.is_compromise(loading),
            explain=Explanation(
                self.room,
                self.requested,
                layers=self.shape_layers + 1,
                usual_context=self.base.context_length,
                trained_context=self.shape.context_length,
                measured=self._measured_for(loading),
            ),
        )

    def computes_here(self, loading: Loading) -> bool:
        """Whether the CPU computes some of it."""
        return loading.gpu_layers <= self.shape_layers or loading.cpu_experts > 0

    @property
    def is_beyond_training(self) -> bool:
        """Whether the context that was asked for is longer than any text in the training was."""
        return (self.requested.context_length or 0) > (self.shape.context_length or math.inf)

    def is_compromise(self, loading: Loading) -> bool:
        """Whether a GPU or some of the context was given up that nobody had asked to give up.

        A context that the model was not made for counts too.
        """
        chosen = self.requested.device == CPU or self.requested.gpu_layers is not None
        chosen = chosen or bool(self.requested.batch_invariant or self.requested.cpu_experts)
        without = bool(self.resources.gpus) and self.computes_here(loading)
        is_shorter = loading.context_length < self.base.context_length
        return is_shorter or self.is_beyond_training or (without and not chosen)


def _greatest(most: int, test: Callable[[int], bool]) -> int:
    """The greatest number from 1 to ``most`` that passes, 0 where none does.

    What passes must do so for all smaller numbers too.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if test(middle) else (low, middle - 1)
    return low
