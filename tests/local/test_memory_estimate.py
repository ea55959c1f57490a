"""Predicted bytes against those that llama.cpp reports when it really loads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Load
from tiny_models import write_tiny

from nbllm.core.fitting.memory_estimate import estimate
from nbllm.core.fitting.model_shape import LayerShape
from nbllm.core.fitting.planned_load import CPU, Loading, most_outputs
from nbllm.core.placement import Placement
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.gguf.shape import read_shape
from nbllm.local.measuring.dry_runs import engine_devices, exact_placement

JOBS = (
    (512, 1, "f16", True, True),
    (512, 8, "f16", False, True),
    (2048, 8, "q8_0", True, True),
    (8192, 1, "q4_0", True, True),
    (32_768, 8, "f16", True, True),
    (32_768, 1, "f16", False, True),
    (3000, 8, "f16", True, False),
    (32_768, 8, "f16", False, False),
    (32_768, 16, "q8_0", True, False),
)
Report = dict[str, int]


def reports(models: list[Path], jobs: Any) -> dict[Path, list[Report]]:
    """What llama.cpp says of each model and job."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("engine_report.py")],
        input=json.dumps({str(path): jobs for path in models}),
        capture_output=True,
        text=True,
        check=True,
        env={"GGML_NO_BACKTRACE": "1"} | os.environ,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(models) * len(jobs)
    return {path: lines[i * len(jobs) :][: len(jobs)] for i, path in enumerate(models)}


@pytest.fixture(scope="module")
def actual(tiny_models: dict[str, Path], bundled_gguf: Path) -> dict[str, list[Report]]:
    paths = {**tiny_models, "bundled": bundled_gguf}
    found = reports(list(paths.values()), JOBS)
    return {name: found[path] for name, path in paths.items()}


def loading(job: tuple[int, int, Any, bool, bool]) -> Loading:
    context_length, parallel, kv_type, flash_attention, kv_unified = job
    return Loading(
        context_length=context_length,
        parallel=parallel,
        kv_type=kv_type,
        flash_attention=flash_attention,
        kv_unified=kv_unified,
    )


def test_the_arithmetic_is_within_five_percent(
    actual: dict[str, list[Report]], tiny_models: dict[str, Path], bundled_gguf: Path
) -> None:
    for name, found in actual.items():
        shape = read_shape(tiny_models.get(name, bundled_gguf))
        for job, report in zip(JOBS, found, strict=True):
            parts = estimate(shape, loading(job))[CPU]
            predicted = parts.total - parts.overhead
            error = predicted / sum(report.values()) - 1
            assert abs(error) <= 0.05, (name, job, error)
            # What does not depend on how graphs are packed is exact, but for llama.cpp's rounding.
            rounding = 0.02 * 2**20 * (2 + len(shape.layers) // 1000)
            assert abs(parts.weights - report["weights"]) <= max(rounding, parts.weights // 200)
            assert abs(parts.kv - report["kv"]) <= rounding


@pytest.mark.parametrize("name", ["mistral", "gemma2", "mamba", "mixtral", "bundled"])
def test_a_dry_run_is_within_one_percent(
    name: str,
    actual: dict[str, list[Report]],
    tiny_models: dict[str, Path],
    bundled_gguf: Path,
) -> None:
    path = tiny_models.get(name, bundled_gguf)
    number = JOBS.index((2048, 8, "q8_0", True, True))
    plan = loading(JOBS[number])
    placement = Placement(
        device=CPU,
        memory=estimate(read_shape(path), plan),
        context_length=plan.context_length,
        parallel=plan.parallel,
        threads=1,
        batch_threads=1,
        kv_type=plan.kv_type,
    )
    info = ModelInfo(name=name, model_type="llama", local=True, path=path)
    exact = exact_placement(info, placement)
    assert exact is not None
    assert exact.exact
    assert exact.flash_attention
    expected = sum(actual[name][number].values())
    assert exact.buffer_bytes == pytest.approx(expected, rel=0.01)
    assert exact.total_bytes > exact.buffer_bytes


def test_without_flash_attention_a_dry_run_says_so(tiny_models: dict[str, Path]) -> None:
    path = tiny_models["mistral"]
    placement = Placement(
        device=CPU,
        memory=estimate(read_shape(path), Loading(context_length=2048)),
        context_length=2048,
        parallel=1,
        threads=1,
        batch_threads=1,
    )
    info = ModelInfo(name="m", model_type="llama", local=True, path=path)
    old_way = ModelInfo(
        name="m",
        model_type="llama",
        local=True,
        path=path,
        load=LoadOptions(flash_attention=False),
    )
    with_it, without = (exact_placement(each, placement) for each in (info, old_way))
    assert with_it is not None
    assert without is not None
    assert without.buffer_bytes > 2 * with_it.buffer_bytes


def test_a_dry_run_of_a_damaged_file_gives_no_answer(tiny: Path) -> None:
    info = ModelInfo(name="m", model_type="llama", local=True, path=tiny)
    placement = Placement(
        device=CPU,
        memory={},
        context_length=512,
        parallel=1,
        threads=1,
        batch_threads=1,
    )
    assert exact_placement(info, placement) is None


def test_llama_cpp_tells_its_devices() -> None:
    found = engine_devices()
    assert found is not None
    assert found.build.startswith("llama-cpp-python ")
    assert bool(found.devices) <= found.supports_gpu


async def resident(load: Load, path: Path, **options: Any) -> float:
    """The worker's memory after answers, as a part of what was told."""
    model = load(path, device="CPU", **options)
    tokens = await model.tokenize("many words, " * 200)
    await model.generate(await model.detokenize(tokens[:600]), max_tokens=8)
    await asyncio.gather(*(model.generate(f"{i}", max_tokens=4) for i in range(8)))
    assert model.info.memory_bytes is not None
    taken = psutil.Process(model.pid).memory_info().rss / model.info.memory_bytes
    await model.aclose()
    return taken


@pytest.mark.skipif(sys.platform != "linux", reason="RSS is counted otherwise elsewhere")
async def test_what_is_told_is_what_the_worker_takes(
    load: Load, bundled_gguf: Path, short_gguf: Path, tmp_path: Path
) -> None:
    wordy = write_tiny("gemma", tmp_path, vocabulary=150_000)
    for path, options in (
        (bundled_gguf, {}),
        (short_gguf, {"context_length": 4096, "kv_type": "q8_0"}),
        (wordy, {}),
    ):
        assert await resident(load, path, **options) == pytest.approx(1, abs=0.05), (path, options)


def test_a_large_vocabulary_bounds_the_tokens_with_logits(bundled_gguf: Path) -> None:
    shape = read_shape(bundled_gguf)
    assert most_outputs(shape) == 40  # of 192 KiB each, a twelfth of 92 MiB
    larger = replace(shape, vocabulary_size=2**18)
    assert most_outputs(larger) == 7
    assert most_outputs(replace(larger, tensor_bytes=2**30)) == 64
    assert most_outputs(replace(shape, vocabulary_size=None)) == 64
    few = Loading(context_length=512, parallel=12)
    assert estimate(larger, few)[CPU].compute >= 12 * 2 * 2**20  # a request's own is always there


def test_adapters_lie_beside_their_layers(tiny_models: dict[str, Path]) -> None:
    shape = read_shape(tiny_models["mistral"])
    bare = Loading(context_length=512, gpus=("GPU 0",), gpu_layers=2)
    plain, adapted = (estimate(shape, each) for each in (bare, replace(bare, adapter_bytes=400)))
    added = {device: adapted[device].weights - plain[device].weights for device in plain}
    assert added == {CPU: 300, "GPU 0": 100}


# ---------------------------------------------------------------- on GPUs


def test_layers_go_to_gpus_from_the_last_on(tiny_models: dict[str, Path]) -> None:
    shape = read_shape(tiny_models["mistral"])
    layers = len(shape.layers)
    sizes = []
    for count in range(layers + 2):
        memory = estimate(shape, Loading(context_length=2048, gpus=("GPU 0",), gpu_layers=count))
        sizes.append(memory.get("GPU 0"))
        weights = sum(parts.weights for parts in memory.values())
        assert weights == shape.tensor_bytes
        assert memory[CPU].weights >= shape.input_bytes
    assert sizes[0] is None
    assert sizes[1] is not None
    assert (sizes[1].weights, sizes[1].kv) == (shape.output_bytes, 0)
    assert sizes[2] is not None
    assert sizes[2].weights == shape.output_bytes + shape.layers[-1].weights


def test_a_shared_table_is_copied_to_the_gpu(tiny_models: dict[str, Path]) -> None:
    shape = read_shape(tiny_models["gemma"])
    assert shape.shares_embeddings
    memory = estimate(shape, Loading(context_length=512, gpus=("GPU 0",), gpu_layers=99))
    assert memory[CPU].weights == shape.input_bytes
    assert memory["GPU 0"].weights == shape.tensor_bytes


def test_what_layers_remember(tiny_models: dict[str, Path]) -> None:
    layers = {name: read_shape(path).layers for name, path in tiny_models.items()}
    plain = (64, 64, False, 0)

    def of(layer: LayerShape) -> tuple[int, int, bool, int]:
        return layer.key, layer.value, layer.sliding, layer.state

    assert [of(layer) for layer in layers["mistral"]] == [plain] * 4
    assert [layer.sliding for layer in layers["gemma2"]] == [True, False, True, False]
    assert [layer.sliding for layer in layers["gemma3"]] == [True] * 4
    assert of(layers["deepseek2"][0]) == (96, 0, False, 0)
    assert of(layers["mamba"][0]) == (0, 0, False, 3 * 256 + 16 * 256)
    drafting = layers.pop("deepseek2-mtp")  # the last layer, which is not loaded
    assert [layer.weights > 0 for layer in drafting] == [True, True, True, False]
    assert all(layer.weights > 0 for shape in layers.values() for layer in shape)
