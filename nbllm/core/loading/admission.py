"""Whether a model may be loaded now, what must go first, or what it has to wait for; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nbllm.core.errors import DoesNotFitError, ModelLoadError
from nbllm.core.hardware.engine_devices import server_of
from nbllm.core.hardware.resources import GpuInfo, Resources
from nbllm.core.loading.eviction import EvictionCandidate, choose_victims, memory_of_all
from nbllm.core.placement import KV_TYPES, Placement
from nbllm.core.words import size_words

__all__ = [
    "Admit",
    "Evict",
    "Refuse",
    "Verdict",
    "Wait",
    "decide",
    "device_bytes",
    "free_bytes",
    "might_fit",
    "take_servers",
    "with_free",
]

_LEAST_BESIDE = 128 * 2**20
"""What a worker process and its smallest context take beside the weights."""


@dataclass(frozen=True, slots=True)
class Admit:
    """Load it now, there; without a placement where nobody can tell what it takes."""

    placement: Placement | None


@dataclass(frozen=True, slots=True)
class Evict:
    """Unload these first, all of them idle; then it fits as the placement says.

    Without a placement, only then it can be told whether it fits.
    """

    placement: Placement | None
    victims: tuple[EvictionCandidate, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """It will fit, as ``placement`` says, when others have ended; ``words`` say which.

    ``busy`` names the models whose requests are in the way; empty where it waits for loads.
    ``claim`` is what nobody may take meanwhile, in bytes by device.
    """

    placement: Placement | None
    words: str
    claim: Mapping[str, int]
    busy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot be loaded, whatever ends."""

    error: ModelLoadError


Verdict: TypeAlias = Admit | Evict | Wait | Refuse

Plan: TypeAlias = Callable[[Resources], Placement | None]
"""Where the model in question goes on a machine. Raises ``DoesNotFitError``."""

Claims: TypeAlias = Mapping[str, Mapping[str, int]]
"""What is kept for the loads that wait longer: bytes by device, by the name of the model."""


def decide(
    name: str,
    plan: Plan,
    resources: Resources,
    candidates: Sequence[EvictionCandidate],
    claims: Claims,
) -> Verdict:
    """What to do with a model that is to be loaded.

    ``resources`` has the memory that is free now. In this order:

    1. It is loaded where it fits now, as well as it would with all idle models gone.
    2. It is loaded when as few idle models as needed were evicted for it.
    3. It waits, where busy models or other loads are in the way.
    4. It is refused, with nothing evicted: because of pinned models, or because it never fits.

    Behind others that wait (``claims``) it goes ahead only where it takes nothing that they wait
    for, and evicts nothing.
    """
    planner = _Planner(plan, resources)
    idle = [each for each in candidates if each.evictable]
    best = planner.after(idle)
    if claims:
        return _behind(name, planner, candidates, claims, best)
    if not isinstance(best, DoesNotFitError):
        now = planner.after(())
        if best is None:
            return Admit(None)
        if isinstance(now, Placement) and _is_as_good(now, best):
            return Admit(now)
        victims = choose_victims(idle, lambda gone: _is_as_good(planner.after(gone), best))
        return Evict(best, victims or tuple(idle))
    return _in_the_way(name, planner, candidates)


def take_servers(
    name: str, servers: Collection[str], candidates: Sequence[EvictionCandidate]
) -> Verdict | None:
    """What to do with the models that hold RPC servers ("address:port") of the one to load.

    None where no model does. A server serves one program, and cannot even be asked meanwhile what
    it has free.
    """
    holders = [each for each in candidates if _servers_of(each) & set(servers)]
    if not holders:
        return None
    held = _and(dict.fromkeys(s for s in servers if any(s in _servers_of(h) for h in holders)))
    if all(each.evictable for each in holders):
        return Evict(None, tuple(holders))
    pinned = [each.name for each in holders if each.pinned]
    if pinned:
        problem = (
            f"{_and(pinned)} {_is(pinned)} pinned and use{'s' * (len(pinned) == 1)} the RPC server "
            f"{held}, which serves one model at a time. Unpin or unload it, or start another."
        )
        return Refuse(ModelLoadError(name, problem))
    busy = tuple(each.name for each in holders if each.busy and not each.becoming)
    users = f"{_and(each.name for each in holders)} use{'s' * (len(holders) == 1)}"
    return Wait(None, f"{name} is waiting for the RPC server {held}, which {users}.", {}, busy)


def _servers_of(candidate: EvictionCandidate) -> set[str]:
    return {server for label in candidate.memory if (server := server_of(label)) is not None}


class _Planner:
    """Plans on the machine as it would be without some of the models."""

    def __init__(self, plan: Plan, resources: Resources) -> None:
        self._plan, self.resources = plan, resources

    def after(self, gone: Iterable[EvictionCandidate]) -> Placement | DoesNotFitError | None:
        return self.with_more(memory_of_all(each.memory for each in gone))

    def with_more(self, more: Mapping[str, int]) -> Placement | DoesNotFitError | None:
        try:
            return self._plan(with_free(self.resources, more))
        except DoesNotFitError as error:
            return error


def _behind(
    name: str,
    planner: _Planner,
    candidates: Sequence[EvictionCandidate],
    claims: Claims,
    best: Placement | DoesNotFitError | None,
) -> Verdict:
    if isinstance(best, DoesNotFitError):
        verdict = _in_the_way(name, planner, candidates)
        if isinstance(verdict, Refuse):
            return verdict
        best = verdict.placement
    kept = memory_of_all(claims.values())
    now = planner.with_more({device: -size for device, size in kept.items()})
    if not isinstance(now, DoesNotFitError) and _is_as_good(now, best):
        return Admit(now)
    words = f"{name} is waiting for its turn after {_and(claims)}."
    return Wait(best, words, device_bytes(best))


def _in_the_way(
    name: str, planner: _Planner, candidates: Sequence[EvictionCandidate]
) -> Wait | Refuse:
    """What to wait for where unloading the idle models is not enough, or why not to wait."""
    movable = [each for each in candidates if not each.pinned]
    soon = [f"{each.name} is {each.becoming}" for each in movable if each.becoming]
    for_those = f"{name} is waiting for memory until {_and(soon)}." if soon else ""
    later = planner.after([each for each in movable if each.becoming or not each.busy])
    if not isinstance(later, DoesNotFitError):
        return Wait(later, for_those, device_bytes(later))
    busy = tuple(each.name for each in movable if each.busy and not each.becoming)
    later = planner.after(movable)
    if not isinstance(later, DoesNotFitError):
        words = f"{name} is waiting for memory: {_and(busy)} {_is(busy)} busy."
        return Wait(later, words, _beyond(later, movable), busy)
    at_most = planner.after(candidates)
    if not isinstance(at_most, DoesNotFitError):
        return Refuse(_pinned_error(name, at_most, candidates))
    if soon:  # as long as it moves, a part of their memory may count as neither free nor theirs
        return Wait(None, for_those, {})
    return Refuse(at_most)


def _beyond(placement: Placement | None, movable: Sequence[EvictionCandidate]) -> dict[str, int]:
    """What a placement takes beyond the memory of the models that are going to be evicted for it.

    The rest others may have until those models have ended their work.
    """
    given = memory_of_all(each.memory for each in movable if not each.becoming)
    needed = device_bytes(placement)
    return {device: max(0, size - given.get(device, 0)) for device, size in needed.items()}


def _pinned_error(
    name: str, placement: Placement | None, candidates: Sequence[EvictionCandidate]
) -> ModelLoadError:
    pinned = [each.name for each in candidates if each.pinned]
    held = sum(memory_of_all(each.memory for each in candidates if each.pinned).values())
    needs = f"it needs {size_words(placement.total_bytes)} of memory; " if placement else ""
    return ModelLoadError(
        name,
        f"{needs}{_and(pinned)} {_is(pinned)} pinned and hold{'s' * (len(pinned) == 1)} "
        f"{size_words(held)}. Unpin or unload {'it' if len(pinned) == 1 else 'one of them'}.",
    )


def _is_as_good(
    placement: Placement | DoesNotFitError | None, best: Placement | DoesNotFitError | None
) -> bool:
    """Whether as much of the model is on GPUs, with as long and as exact a context."""
    if isinstance(placement, DoesNotFitError):
        return False
    if placement is None or not isinstance(best, Placement):
        return True
    pairs = zip(_quality(placement), _quality(best), strict=True)
    return all(one >= other for one, other in pairs)


def _quality(placement: Placement) -> tuple[int, ...]:
    return (
        placement.gpu_layers,
        -placement.cpu_experts,
        placement.context_length,
        placement.parallel,
        -KV_TYPES.index(placement.kv_type),
    )


# ---------------------------------------------------------------- memory


def device_bytes(placement: Placement | None) -> dict[str, int]:
    """What a placement takes, in bytes by device; nothing where it is not known."""
    if placement is None:
        return {}
    return {device: parts.total for device, parts in placement.memory.items()}


def might_fit(size_bytes: int, resources: Resources) -> bool:
    """Whether a model file of this size can be loaded now, by a rule of thumb.

    A tenth more than the file, for the KV cache and buffers, on all devices together;
    ``plan_model`` gives the exact answer for one model.
    """
    return size_bytes * 1.1 + _LEAST_BESIDE <= sum(free_bytes(resources).values())


def free_bytes(resources: Resources) -> dict[str, int]:
    """What is free on each device that says so."""
    gpus = {gpu.label: resources.gpu_free_bytes(gpu) for gpu in resources.gpus}
    known = {label: size for label, size in gpus.items() if size is not None}
    return {"CPU": resources.memory.available_bytes, **known}


def with_free(resources: Resources, more: Mapping[str, int]) -> Resources:
    """The machine with so many more bytes free (or fewer) on each device."""
    if not any(more.values()):
        return resources
    gpus = tuple(_gpu_with_free(gpu, more.get(gpu.label, 0)) for gpu in resources.gpus)
    shared = sum(more.get(gpu.label, 0) for gpu in resources.gpus if gpu.unified_memory)
    memory = resources.memory
    free = memory.available_bytes + more.get("CPU", 0) + shared
    bounded = min(max(0, free), memory.total_bytes)
    return replace(resources, memory=replace(memory, available_bytes=bounded), gpus=gpus)


def _gpu_with_free(gpu: GpuInfo, more: int) -> GpuInfo:
    if gpu.vram_free_bytes is None or not more:
        return gpu
    most = gpu.vram_total_bytes if gpu.vram_total_bytes is not None else gpu.vram_free_bytes
    return replace(gpu, vram_free_bytes=min(max(0, gpu.vram_free_bytes + more), most))


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
