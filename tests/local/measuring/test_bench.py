"""Measuring the real model in its own process: what comes out, stopping, failures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import get_args

import psutil
import pytest

from nbllm import ModelInfo, ModelManager
from nbllm.core.errors import ModelLoadError
from nbllm.core.hardware.resources import CpuInfo
from nbllm.core.load_options import LoadOptions
from nbllm.core.measurements import (
    Benchmark,
    ContextMeasurement,
    Measurement,
    MeasurementKind,
    read_threads,
    store_file,
    write_measured,
)
from nbllm.core.openers import plan_model
from nbllm.core.placement import ContextSettings
from nbllm.core.resource_detector import ResourceDetector
from nbllm.local.load_settings import load_settings
from nbllm.local.measuring.bench import BenchPlan, measure_model, plan_of

OFF = ContextSettings(flash_attention=False, batch_tokens=8)
OFF_LARGE = ContextSettings(flash_attention=False, batch_tokens=16)
ON = ContextSettings(flash_attention=True, batch_tokens=16)
PLAN = BenchPlan(
    threads=(1, 2),
    sequences=(2,),
    contexts=(OFF, OFF_LARGE, ON),
    behind=20,
    prompt_tokens=16,
    answer_tokens=4,
    rounds=1,
    seconds=5.0,
)
ENDLESS = replace(PLAN, answer_tokens=4096, rounds=1000, seconds=600.0)


@pytest.fixture
def bundled() -> ModelInfo:
    return ModelManager().bundled_model()


async def test_each_case_gets_a_speed_and_loads_go_by_the_fastest(bundled: ModelInfo) -> None:
    resources, fractions = ResourceDetector().detect(), list[float]()
    found = await measure_model(bundled, resources, plan=PLAN, progress=fractions.append)
    cases = {(row.kind, row.threads, row.batch, row.sequences) for row in found.measured}
    assert {("prefill", 1, 512, 1), ("prefill", 2, 512, 1)} <= cases
    assert {("decode", 1, 1, 1), ("decode", 2, 1, 1)} <= cases
    assert ("decode", 2, 2) in {(case[0], *case[2:]) for case in cases}
    assert all(row.tokens_per_second > 0 for row in found.measured)
    assert [row.settings for row in found.contexts] == [OFF, OFF_LARGE, ON]
    assert all(row.behind == 20 and row.prefill > 0 and row.decode > 0 for row in found.contexts)
    assert found.contexts[0].decode == found.contexts[1].decode, "the batch is no matter there"
    assert found.context in (OFF, OFF_LARGE, ON)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert bundled.path is not None
    kept = read_threads(bundled.path, resources.cpu)
    assert kept == (None if found.noisy else found.threads)
    if kept is not None:
        placement = plan_model(bundled, resources)
        assert placement is not None
        assert (placement.threads, placement.batch_threads) == kept
        assert (placement.flash_attention, placement.batch_tokens) == found.context
        assert "As measured on this machine: flash attention o" in placement.reason
    store_file().unlink(missing_ok=True)


async def test_a_load_computes_as_was_measured(bundled: ModelInfo) -> None:
    assert bundled.path is not None
    resources = ResourceDetector().detect()
    speeds = [
        Measurement(kind=kind, threads=1, batch=1, sequences=1, tokens_per_second=9)
        for kind in get_args(MeasurementKind)
    ]
    slow = {"behind": 512, "prefill": 100.0, "decode": 10.0}
    contexts = (ContextMeasurement(settings=OFF_LARGE, **slow),)
    found = Benchmark(measured=tuple(speeds), other_cores=0, noisy=False, contexts=contexts)
    write_measured(bundled.path, resources.cpu, found)
    placements = {
        options: plan_model(replace(bundled, load=options), resources)
        for options in (
            LoadOptions(kv_unified=False),
            LoadOptions(kv_unified=False, flash_attention=True),
            LoadOptions(),
        )
    }
    sent = [
        load_settings(replace(bundled, load=options), placement)
        for options, placement in placements.items()
        if placement is not None
    ]
    store_file().unlink()
    assert [(each.flash_attention, each.batch_tokens) for each in sent] == [
        (False, 16),
        (True, 512),
        (None, 512),
    ]


async def test_stopping_it_ends_its_process_and_keeps_nothing(bundled: ModelInfo) -> None:
    begun = asyncio.Event()
    work = asyncio.create_task(
        measure_model(
            bundled,
            ResourceDetector().detect(),
            plan=replace(ENDLESS, answer_tokens=4),
            progress=lambda fraction: begun.set(),
        )
    )
    await asyncio.wait_for(begun.wait(), 60)
    (child,) = (
        child
        for child in psutil.Process().children(recursive=True)
        if "nbllm.local.measuring.bench_process" in child.cmdline()
    )
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not child.is_running()
    assert not store_file().exists()


async def test_a_file_that_llama_cpp_refuses_is_named(tmp_path: Path, bundled: ModelInfo) -> None:
    assert bundled.path is not None
    short = tmp_path / "short.gguf"
    short.write_bytes(bundled.path.read_bytes()[: 2**23])
    with pytest.raises(ModelLoadError, match="short"):
        await measure_model(
            replace(bundled, name="short", path=short), ResourceDetector().detect(), plan=PLAN
        )


@pytest.mark.parametrize(
    ("usable", "physical", "threads"),
    [(1, 1, (1,)), (2, 2, (1, 2)), (1.5, 8, (1,)), (12, 6, (1, 2, 4, 6, 8, 12))],
)
def test_counts_of_threads_worth_measuring(
    usable: float, physical: int, threads: tuple[int, ...]
) -> None:
    cpu = CpuInfo(
        model=None,
        architecture="x86_64",
        sockets=1,
        physical_cores=physical,
        logical_cores=16,
        usable_cores=usable,
    )
    plan = plan_of(cpu, LoadOptions(), parallel=8, gpu_layers=0, thorough=False)
    assert plan.threads == threads
    assert plan.sequences == (2, 4, 8)


@pytest.mark.parametrize(
    ("options", "gpu_layers", "are_compared"),
    [
        (LoadOptions(kv_unified=False), 0, True),
        (LoadOptions(kv_unified=False, kv_type="f16", threads=2), 0, True),
        (LoadOptions(kv_unified=False), 3, False),
        (LoadOptions(kv_unified=False, flash_attention=True), 0, False),
        (LoadOptions(kv_unified=False, flash_attention=False), 0, False),
        (LoadOptions(kv_unified=False, kv_type="q8_0"), 0, False),
        (LoadOptions(), 0, False),
        (LoadOptions(batch_invariant=True), 0, False),
    ],
)
def test_settings_of_a_context_are_compared_where_only_speed_decides(
    options: LoadOptions, gpu_layers: int, *, are_compared: bool
) -> None:
    cpu = ResourceDetector().detect().cpu
    for thorough in (False, True):
        plan = plan_of(cpu, options, parallel=8, gpu_layers=gpu_layers, thorough=thorough)
        assert bool(plan.contexts) == are_compared
