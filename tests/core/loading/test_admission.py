"""Who is admitted, who is evicted for it, who waits and who is refused, on any machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nbllm.core.errors import DoesNotFitError
from nbllm.core.hardware.resources import CpuInfo, GpuInfo, MemoryInfo, Resources
from nbllm.core.loading.admission import (
    Admit,
    Evict,
    Refuse,
    Wait,
    decide,
    free_bytes,
    take_servers,
    with_free,
)
from nbllm.core.loading.eviction import EvictionCandidate, choose_victims
from nbllm.core.placement import MemoryParts, Placement

GIB = 2**30


def machine(cpu: float = 16, *gpus: float, total: float = 64) -> Resources:
    """So many GiB free in the main memory and on each GPU, of ``total`` each."""
    return Resources(
        cpu=CpuInfo(
            model=None,
            architecture="x86_64",
            sockets=1,
            physical_cores=4,
            logical_cores=4,
            usable_cores=4,
        ),
        memory=MemoryInfo(
            total_bytes=int(total * GIB),
            available_bytes=int(cpu * GIB),
            machine_bytes=int(total * GIB),
        ),
        gpus=tuple(
            GpuInfo(
                index=index,
                name="GPU",
                vendor="nvidia",
                vram_total_bytes=int(total * GIB),
                vram_free_bytes=int(free * GIB),
            )
            for index, free in enumerate(gpus)
        ),
    )


def planner(size: float, *, layers: int = 10) -> Callable[[Resources], Placement | None]:
    """Whole on the first GPU with room, else on the CPU, else it does not fit."""

    def plan(resources: Resources) -> Placement:
        free = free_bytes(resources)
        for device in [*(name for name in free if name != "CPU"), "CPU"]:
            if free[device] >= size * GIB:
                return Placement(
                    device=device,
                    memory={device: MemoryParts(weights=int(size * GIB))},
                    context_length=4096,
                    parallel=1,
                    threads=1,
                    batch_threads=1,
                    gpu_layers=layers if device != "CPU" else 0,
                )
        raise DoesNotFitError(
            "new",
            f"it takes {size} GiB",
            needed_bytes=int(size * GIB),
            available_bytes=max(free.values()),
        )

    return plan


def candidate(name: str, size: float, device: str = "CPU", **fields: Any) -> EvictionCandidate:
    return EvictionCandidate(name=name, memory={device: int(size * GIB)}, **fields)


def names(verdict: object) -> list[str]:
    assert isinstance(verdict, Evict)
    return [victim.name for victim in verdict.victims]


# ---------------------------------------------------------------- victims


def enough(size: float) -> Callable[..., bool]:
    return lambda gone: sum(each.memory["CPU"] for each in gone) >= size * GIB


def test_the_least_recently_used_goes_first() -> None:
    old, new = candidate("old", 2, idle_seconds=600), candidate("new", 2, idle_seconds=5)
    assert choose_victims([new, old], enough(2)) == (old,)


def test_a_model_that_is_dear_to_reload_stays_longer() -> None:
    dear = candidate("dear", 2, idle_seconds=600, reload_seconds=60)
    cheap = candidate("cheap", 2, idle_seconds=300, reload_seconds=1)
    assert choose_victims([dear, cheap], enough(2)) == (cheap,)
    forgotten = candidate("forgotten", 2, idle_seconds=100_000, reload_seconds=60)
    assert choose_victims([forgotten, cheap], enough(2)) == (forgotten,)


def test_what_turns_out_not_to_be_needed_is_spared() -> None:
    small = candidate("small", 1, idle_seconds=600)
    large = candidate("large", 8, idle_seconds=60)
    assert choose_victims([small, large], enough(4)) == (large,)
    assert choose_victims([small, large], enough(9)) == (small, large)


@pytest.mark.parametrize("why", [{"busy": True}, {"pinned": True}, {"becoming": "unloaded"}])
def test_busy_pinned_and_moving_models_are_never_victims(why: dict[str, Any]) -> None:
    held = candidate("held", 8, **why)
    assert choose_victims([held], enough(1)) is None
    assert choose_victims([held, candidate("idle", 1)], enough(2)) is None


# ---------------------------------------------------------------- decisions


def test_what_fits_is_admitted_and_nothing_is_evicted() -> None:
    verdict = decide("new", planner(4), machine(8), [candidate("old", 8)], {})
    assert isinstance(verdict, Admit)


def test_only_as_much_is_evicted_as_is_needed() -> None:
    others = [
        candidate("a", 4, idle_seconds=30),
        candidate("b", 4, idle_seconds=60),
        candidate("c", 4, idle_seconds=90),
    ]
    assert names(decide("new", planner(8), machine(4), others, {})) == ["c"]
    assert names(decide("new", planner(12), machine(4), others, {})) == ["c", "b"]


def test_an_idle_model_leaves_the_gpu_to_one_that_would_else_run_on_the_cpu() -> None:
    on_gpu = candidate("old", 20, "GPU 0")
    assert names(decide("new", planner(10), machine(32, 4), [on_gpu], {})) == ["old"]
    busy = candidate("old", 20, "GPU 0", busy=True)
    verdict = decide("new", planner(10), machine(32, 4), [busy], {})
    assert isinstance(verdict, Admit)
    assert verdict.placement is not None
    assert verdict.placement.device == "CPU"


def test_a_free_gpu_is_taken_rather_than_another_evicted() -> None:
    verdict = decide("new", planner(10), machine(32, 4, 24), [candidate("old", 20, "GPU 0")], {})
    assert isinstance(verdict, Admit)
    assert verdict.placement is not None
    assert verdict.placement.device == "GPU 1"


def test_where_only_busy_models_are_in_the_way_it_waits_for_them() -> None:
    others = [candidate("idle", 2), candidate("busy", 8, busy=True)]
    verdict = decide("new", planner(10), machine(4), others, {})
    assert isinstance(verdict, Wait)
    assert verdict.busy == ("busy",)
    assert verdict.words == "new is waiting for memory: busy is busy."


def test_it_waits_for_loads_first_because_they_end_by_themselves() -> None:
    others = [candidate("coming", 4, becoming="loaded"), candidate("busy", 8, busy=True)]
    verdict = decide("new", planner(8), machine(4), others, {})
    assert isinstance(verdict, Wait)
    assert verdict.busy == ()
    assert "until coming is loaded" in verdict.words


def test_pinned_models_in_the_way_are_named_and_nothing_is_evicted() -> None:
    others = [candidate("idle", 2), candidate("kept", 8, pinned=True)]
    verdict = decide("new", planner(10), machine(4), others, {})
    assert isinstance(verdict, Refuse)
    assert str(verdict.error) == (
        "new: it needs 10.0 GiB of memory; kept is pinned and holds 8.0 GiB. Unpin or unload it."
    )


def test_what_can_never_fit_is_refused_with_the_numbers_and_nothing_is_evicted() -> None:
    others = [candidate("idle", 8), candidate("busy", 4, busy=True)]
    for claims in ({}, {"first": {"CPU": GIB}}):
        verdict = decide("new", planner(100), machine(4), others, claims)
        assert isinstance(verdict, Refuse)
        assert isinstance(verdict.error, DoesNotFitError)
        assert verdict.error.needed_bytes == 100 * GIB


def test_nothing_is_called_impossible_while_a_load_is_under_way() -> None:
    verdict = decide(
        "new", planner(20), machine(10), [candidate("coming", 8, becoming="loaded")], {}
    )
    assert isinstance(verdict, Wait)


def test_a_model_of_unknown_size_is_admitted() -> None:
    assert decide("new", lambda _: None, machine(1), [candidate("old", 8)], {}) == Admit(None)


# ---------------------------------------------------------------- order


def claim(size: float, device: str = "CPU") -> Mapping[str, Mapping[str, int]]:
    return {"first": {device: int(size * GIB)}}


def test_a_load_that_waits_for_busy_models_claims_only_what_they_will_not_give_it() -> None:
    others = [candidate("busy", 6, busy=True), candidate("idle", 1)]
    for size, claimed in ((7, 0), (8, 1), (10, 3)):
        verdict = decide("first", planner(size), machine(3), others, {})
        assert isinstance(verdict, Wait)
        assert verdict.claim == {"CPU": claimed * GIB}


def test_behind_another_only_what_it_does_not_claim_may_be_taken() -> None:
    assert isinstance(decide("new", planner(1), machine(4), [], claim(3)), Admit)
    verdict = decide("new", planner(2), machine(4), [], claim(3))
    assert isinstance(verdict, Wait)
    assert verdict.words == "new is waiting for its turn after first."
    assert verdict.claim == {"CPU": 2 * GIB}


def test_behind_another_nothing_is_evicted() -> None:
    others = [candidate("busy", 6, busy=True), candidate("idle", 2)]
    assert isinstance(decide("new", planner(3), machine(2), others, claim(8)), Wait)


def test_loads_for_another_device_do_not_wait() -> None:
    busy = candidate("busy", 20, "GPU 0", busy=True)
    verdict = decide("new", planner(10), machine(4, 1, 24), [busy], claim(20, "GPU 0"))
    assert isinstance(verdict, Admit)
    assert verdict.placement is not None
    assert verdict.placement.device == "GPU 1"


# ---------------------------------------------------------------- memory


def test_free_memory_is_moved_within_what_there_is() -> None:
    more = with_free(machine(4, 2, total=8), {"CPU": GIB, "GPU 0": -GIB})
    assert free_bytes(more) == {"CPU": 5 * GIB, "GPU 0": GIB}
    most = with_free(machine(4, 2, total=8), {"CPU": 100 * GIB, "GPU 0": -100 * GIB})
    assert free_bytes(most) == {"CPU": 8 * GIB, "GPU 0": 0}
    assert with_free(most, {}) is most


def test_a_gpu_in_the_main_memory_frees_main_memory() -> None:
    apple = GpuInfo(index=0, name="M4", vendor="apple", unified_memory=True)
    resources = Resources(cpu=machine().cpu, memory=machine(4).memory, gpus=(apple,))
    more = with_free(resources, {"GPU 0": 2 * GIB})
    assert free_bytes(more) == {"CPU": 6 * GIB, "GPU 0": 6 * GIB}


SERVERS = ("10.0.0.5:50052", "10.0.0.6:50052")


def holder(name: str, server: int = 0, **fields: Any) -> EvictionCandidate:
    return candidate(name, 1, f"RPC {SERVERS[server]}", **fields)


def test_an_idle_model_leaves_the_server_that_it_holds() -> None:
    others = [candidate("here", 4), holder("there", 1), holder("second", 0)]
    assert take_servers("new", SERVERS[:1], others[:2]) is None
    assert take_servers("new", (), others) is None
    assert take_servers("new", SERVERS[:1], others) == Evict(None, (others[2],))
    assert take_servers("new", SERVERS, others) == Evict(None, (others[1], others[2]))
    numbered = candidate("third", 1, f"RPC {SERVERS[0]} #1")
    assert take_servers("new", SERVERS, [numbered]) == Evict(None, (numbered,))


def test_a_server_that_works_is_waited_for_and_one_of_a_pinned_model_is_refused() -> None:
    verdict = take_servers("new", SERVERS, [holder("works", busy=True), holder("idle", 1)])
    assert isinstance(verdict, Wait)
    assert verdict.busy == ("works",)
    assert f"RPC server {SERVERS[0]} and {SERVERS[1]}, which works and idle use." in verdict.words
    verdict = take_servers("new", SERVERS, [holder("soon", becoming="loaded")])
    assert isinstance(verdict, Wait)
    assert not verdict.busy
    verdict = take_servers("new", SERVERS, [holder("mine", pinned=True)])
    assert isinstance(verdict, Refuse)
    assert "mine is pinned and uses the RPC server" in str(verdict.error)
