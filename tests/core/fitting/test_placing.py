"""Where models go, on machines that nobody here owns."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.errors import DoesNotFitError, InvalidOptionError
from nbllm.core.fitting import fit_explanation
from nbllm.core.fitting.fit_options import fits_of
from nbllm.core.fitting.machine_room import room_of
from nbllm.core.fitting.memory_estimate import estimate, estimate_with_draft
from nbllm.core.fitting.model_shape import LayerShape, ModelShape
from nbllm.core.fitting.placing import Plan, place, thread_counts
from nbllm.core.fitting.planned_load import CPU, Loading
from nbllm.core.hardware.engine_devices import EngineDevice, EngineDevices
from nbllm.core.hardware.resources import CpuInfo, GpuInfo, MemoryInfo, Resources
from nbllm.core.placement import ContextSettings, MemoryParts, Placement, ThreadCounts
from nbllm.core.types import LoadOptions
from nbllm.core.words import size_words

MIB, GIB = 2**20, 2**30


def model(billions: float = 8.0, *, layers: int = 32, bits: float = 4.9) -> ModelShape:
    """A model like Llama 3 8B, or one with other numbers."""
    size = int(billions * 1e9 * bits / 8)
    table = size // 20
    each = (size - 2 * table) // layers
    return ModelShape(
        architecture="llama",
        kind="model",
        name="Invented",
        file_size_bytes=size,
        context_length=131_072,
        block_count=layers,
        embedding_length=4096,
        feed_forward_length=14_336,
        head_count=32,
        head_counts_kv=(8,) * layers,
        key_length=128,
        value_length=128,
        kv_lora_rank=0,
        sliding_window=0,
        layers=(LayerShape(key=1024, value=1024, weights=each),) * layers,
        expert_count=0,
        expert_used_count=0,
        vocabulary_size=128_256,
        vocabulary_bytes=55 * 2**20,
        parameter_count=int(billions * 1e9),
        quantization="Q4_K_M",
        tensor_bytes=2 * table + each * layers,
        input_bytes=table,
        output_bytes=table,
        shares_embeddings=False,
        chat_template=None,
        split=None,
        byte_order="little",
        tensors=(),
        metadata={},
    )


def machine(
    ram_gib: float, *gpus_gib: float, free: float = 1.0, cores: float = 8, **fields: Any
) -> Resources:
    cpu = CpuInfo(
        model="Invented",
        architecture="x86_64",
        sockets=1,
        physical_cores=8,
        logical_cores=16,
        usable_cores=cores,
    )
    ram = int(ram_gib * GIB)
    gpus = tuple(
        GpuInfo(
            index=index,
            name="Invented RTX",
            vendor="nvidia",
            vram_total_bytes=int(size * GIB),
            vram_free_bytes=int(size * GIB * free),
        )
        for index, size in enumerate(gpus_gib)
    )
    memory = MemoryInfo(total_bytes=ram, available_bytes=int(ram * free), machine_bytes=ram)
    return Resources(cpu=cpu, memory=memory, gpus=gpus, **fields)


def placed(resources: Resources, shape: ModelShape | None = None, **wish: Any) -> Placement:
    return place("m", shape or model(), resources, LoadOptions(**wish))


def refused(resources: Resources, **wish: Any) -> DoesNotFitError:
    with pytest.raises(DoesNotFitError) as caught:
        placed(resources, **wish)
    return caught.value


# ---------------------------------------------------------------- the order of preference


def test_whole_on_the_gpu_with_the_most_room() -> None:
    placement = placed(machine(32, 12, 24))
    assert (placement.device, placement.gpus, placement.gpu_layers) == ("GPU 1", (1,), 33)
    assert (placement.context_length, placement.kv_type) == (8192, "f16")
    assert placement.tensor_split == ()
    assert set(placement.memory) == {"CPU", "GPU 1"}
    assert "All layers fit" in placement.reason


def test_over_two_gpus_by_what_is_free_on_each() -> None:
    placement = placed(machine(32, 6, 4))
    assert (placement.device, placement.gpus) == ("GPU 0 + GPU 1", (0, 1))
    first, second = placement.tensor_split
    assert first > second
    assert placement.memory["GPU 0"].weights > placement.memory["GPU 1"].weights


def test_a_shorter_context_before_a_gpu_is_given_up() -> None:
    placement = placed(machine(32, 6))
    assert placement.device == "GPU 0"
    assert 4096 <= placement.context_length < 8192
    assert "because 8,192 do not fit" in placement.reason
    assert placement.is_compromise
    assert not placed(machine(32, 24)).is_compromise


def test_a_context_beyond_the_training_is_told() -> None:
    trained = model().context_length
    longer = placed(machine(64), context_length=trained + 1)
    assert longer.is_compromise
    assert f"trained with a context length of {trained:,} tokens" in longer.reason
    assert not placed(machine(64), context_length=trained).is_compromise


def test_partly_on_a_small_gpu() -> None:
    placement = placed(machine(32, 4))
    assert placement.device == "GPU 0 + CPU"
    assert 0 < placement.gpu_layers < 33
    assert f"{placement.gpu_layers} of 33 layers" in placement.reason
    assert placement.threads == 8
    assert placement.is_compromise
    assert not placed(machine(32, 4), device="CPU").is_compromise
    assert not placed(machine(32)).is_compromise


def test_on_the_cpu_where_there_is_no_gpu_or_a_tiny_one() -> None:
    for resources in (machine(32), machine(32, 0.6)):
        placement = placed(resources)
        assert (placement.device, placement.gpu_layers, placement.gpus) == ("CPU", 0, ())
        assert placement.reason.startswith("It runs on the CPU")


def test_a_build_for_the_cpu_is_told_with_the_line_that_helps() -> None:
    engine = EngineDevices((), supports_gpu=False, build="llama-cpp-python 0.3.36")
    placement = placed(machine(32, 24, engine=engine))
    assert placement.device == "CPU"
    assert "pip install" in placement.reason
    assert placement.is_compromise
    with pytest.raises(InvalidOptionError, match="pip install"):
        placed(machine(32, 24, engine=engine), device="GPU")
    with pytest.raises(InvalidOptionError, match="pip install"):
        placed(machine(32, 24, engine=engine), gpu_layers=8)


def test_a_gpu_goes_by_its_place_in_llama_cpps_list() -> None:
    names = ("NVIDIA A100", "NVIDIA T4")
    sizes = (40 * GIB, 16 * GIB)
    gpus = tuple(
        GpuInfo(
            index=i, name=names[i], vendor="nvidia", vram_total_bytes=size, vram_free_bytes=size
        )
        for i, size in enumerate(sizes)
    )
    turned = tuple(
        EngineDevice(f"CUDA{i}", names[1 - i], total_bytes=sizes[1 - i]) for i in range(2)
    )
    engine = EngineDevices(turned, supports_gpu=True, build="x")
    both = replace(machine(8), gpus=gpus, engine=engine)
    assert (placed(both).device, placed(both).gpus) == ("GPU 0", (1,))
    assert placed(both, device="GPU 1").gpus == (0,)
    large = place("large", model(70), both)
    assert (large.device, large.gpus) == ("GPU 1 + GPU 0", (0, 1))
    assert large.tensor_split[0] < large.tensor_split[1]


def mixture(*, experts: float = 0.8) -> ModelShape:
    """A mixture of experts, of whose layers so much is experts; the first layer is dense."""
    shape = model(30)
    first, *others = shape.layers
    sparse = [replace(layer, experts=int(layer.weights * experts)) for layer in others]
    return replace(shape, layers=(first, *sparse), expert_count=64, expert_used_count=4)


def test_a_mixtures_experts_stay_in_main_memory_where_all_else_fits_on_the_gpu() -> None:
    resources = machine(64, 12)
    placement = place("moe", mixture(), resources)
    assert placement.device == "GPU 0 + CPU"
    assert placement.gpu_layers == 33
    assert 0 < placement.cpu_experts < 32
    assert f"the experts of {placement.cpu_experts} stay in main memory" in placement.reason
    assert placement.is_compromise
    assert placement.threads == 8
    fewer = place("moe", mixture(), resources, LoadOptions(cpu_experts=placement.cpu_experts - 1))
    assert fewer.context_length < placement.context_length
    small = place("moe", mixture(), machine(64, 3.5))
    assert small.cpu_experts == 0
    assert 0 < small.gpu_layers < 33
    large = place("moe", mixture(), machine(64, 24))
    assert (large.device, large.cpu_experts) == ("GPU 0", 0)


def test_as_many_layers_keep_their_experts_in_main_memory_as_are_asked_for() -> None:
    asked = place("moe", mixture(), machine(64, 24), LoadOptions(cpu_experts=5, gpu_layers=-1))
    assert (asked.gpu_layers, asked.cpu_experts, asked.is_compromise) == (33, 5, False)
    every = place("moe", mixture(), machine(64, 24), LoadOptions(cpu_experts=-1))
    assert (every.gpu_layers, every.cpu_experts) == (33, 32)
    whole = place("moe", mixture(), machine(64, 24), LoadOptions(cpu_experts=0))
    assert (whole.device, whole.cpu_experts) == ("GPU 0", 0)
    moved = sum(layer.experts for layer in mixture().layers[:5])
    assert asked.memory[CPU].weights == whole.memory[CPU].weights + moved
    assert asked.memory["GPU 0"].weights == whole.memory["GPU 0"].weights - moved
    dense = placed(machine(64, 24), cpu_experts=-1)
    assert (dense.device, dense.cpu_experts) == ("GPU 0", 0)
    assert placed(machine(64), cpu_experts=-1).cpu_experts == 0


def test_ways_with_experts_in_main_memory_are_listed() -> None:
    plan = Plan("moe", mixture(), machine(64, 12), LoadOptions())
    found = [option for option in fits_of(plan, None).options if option.cpu_experts]
    assert found
    assert all(option.fits and option.device == "GPU 0 + CPU" for option in found)


def test_a_server_that_calls_all_of_its_memory_free_is_not_filled() -> None:
    def free(free_gib: int, **facts: Any) -> float:
        size, left = 32 * GIB, free_gib * GIB
        gpu = GpuInfo(
            index=0, name="x", vendor="x", vram_total_bytes=size, vram_free_bytes=left, **facts
        )
        return room_of(replace(machine(8), gpus=(gpu,)), None).free[gpu.label] / GIB

    server = "10.0.0.5:50052"
    assert free(32, server=server) == pytest.approx(28.8)
    assert free(31, server=server) == free(31) == pytest.approx(31 - 0.96)


@pytest.mark.parametrize("sizes", [(24, 24), (24, 12), (12, 24), (10, 20, 30)])
def test_gpus_share_bytes_not_layers(sizes: tuple[int, ...]) -> None:
    """The output of this model weighs as much as eight of its layers."""
    shape = model(60)
    large = replace(shape, output_bytes=8 * shape.layers[0].weights)
    asked = LoadOptions(context_length=4096, gpu_layers=-1)
    gpus = tuple(
        GpuInfo(index=i, name="T", vendor="x", vram_total_bytes=n * GIB, vram_free_bytes=n * GIB)
        for i, n in enumerate(sizes)
    )
    placement = Plan("large", large, replace(machine(64), gpus=gpus), asked)
    way = placement.on([gpu.label for gpu in gpus], 33)
    room, memory = placement.room, estimate(large, way)
    kept = [memory[gpu.label].weights + memory[gpu.label].kv for gpu in gpus]
    free = [room.free[gpu.label] for gpu in gpus]
    for size, space in zip(kept, free, strict=True):
        assert size / sum(kept) == pytest.approx(space / sum(free), abs=0.11)
    assert sum(way.split) == 33


def test_memory_that_a_gpu_shares_is_counted_once() -> None:
    gpu = GpuInfo(index=0, name="M3", vendor="apple", unified_memory=True)
    shared = replace(machine(16), gpus=(gpu,))
    placement = placed(shared)
    assert placement.device == "GPU 0"
    assert placement.total_bytes <= 16 * GIB
    assert refused(replace(machine(6), gpus=(gpu,)), context_length=8192).needed_bytes > 5 * GIB


# ---------------------------------------------------------------- wishes


SHARES = {"kv_unified": False}  # where either setting may be the faster


def plan_measured(resources: Resources, **wish: Any) -> Plan:
    measured = ContextSettings(flash_attention=False, batch_tokens=128)
    return Plan("m", model(), resources, LoadOptions(**SHARES | wish), context=measured)


@pytest.mark.parametrize(
    "wish",
    [{}, {"kv_type": "f16"}, {"context_length": 4096}, {"device": "CPU"}, {"gpu_layers": 0}],
)
def test_the_measured_settings_are_used_where_the_cpu_computes(wish: dict[str, Any]) -> None:
    placement = plan_measured(machine(64), **wish).placement()
    assert (placement.flash_attention, placement.batch_tokens) == (False, 128)
    assert "As measured on this machine: flash attention off, batches of 128" in placement.reason
    usual = placed(machine(64), **SHARES, **wish)
    assert "measured" not in usual.reason


@pytest.mark.parametrize(
    "wish",
    [
        {"flash_attention": True},
        {"flash_attention": False},
        {"kv_type": "q8_0"},
        {"kv_unified": None},
        {"kv_unified": True},
        {"kv_unified": None, "batch_invariant": True},
    ],
)
def test_an_option_or_what_needs_flash_attention_wins_over_what_was_measured(
    wish: dict[str, Any],
) -> None:
    placement = plan_measured(machine(64), **wish).placement()
    assert placement == placed(machine(64), **SHARES | wish)
    assert "measured" not in placement.reason


def test_what_was_measured_on_the_cpu_is_no_matter_on_a_gpu() -> None:
    for resources in (machine(64, 24), machine(64, 4)):
        assert plan_measured(resources).placement() == placed(resources, **SHARES)


def test_a_measured_batch_is_no_longer_than_the_context() -> None:
    assert plan_measured(machine(64), context_length=100).placement().batch_tokens == 100


def test_wishes_are_kept() -> None:
    everything = machine(64, 24, 24)
    assert placed(everything, device="cpu").device == "CPU"
    assert placed(everything, device="gpu1").device == "GPU 1"
    assert placed(everything, device="GPU 0 + GPU 1").device in ("GPU 0", "GPU 0 + GPU 1")
    assert placed(everything, context_length=32_768).context_length == 32_768
    assert placed(everything, kv_type="q4_0").kv_type == "q4_0"
    assert placed(everything, gpu_layers=7).gpu_layers == 7
    assert placed(everything, gpu_layers=0).device == "CPU"
    assert placed(everything, gpu_layers=-1).gpu_layers == 33
    assert placed(everything, parallel=3).parallel == 3
    assert placed(machine(64), threads=3).threads == 3
    assert not placed(everything, flash_attention=False).flash_attention


def test_what_cannot_be_wished_is_told() -> None:
    with pytest.raises(InvalidOptionError, match="GPU 2 is not available, only GPU 0"):
        placed(machine(32, 24), device="GPU 2")
    with pytest.raises(InvalidOptionError, match="there is no GPU"):
        placed(machine(32), device="GPU")
    with pytest.raises(InvalidOptionError, match="there is no GPU"):
        placed(machine(32), gpu_layers=1)


def test_a_refusal_says_what_would_fit() -> None:
    error = refused(machine(32, 8), device="GPU", context_length=32_768)
    assert error.needed_bytes > error.available_bytes - 32 * GIB
    text = str(error)
    assert "a context length of at most" in text
    assert "without device and gpu_layers it runs on" in text
    longest = int(text.split("at most ")[1].split(" ")[0].replace(",", ""))
    assert placed(machine(32, 8), device="GPU", context_length=longest).device == "GPU 0"
    with pytest.raises(DoesNotFitError):
        placed(machine(32, 8), device="GPU", context_length=longest + 256)


def test_a_refusal_names_an_eight_bit_cache_that_fits() -> None:
    resources = machine(16, 8)
    error = refused(resources, device="GPU", context_length=32_768)
    assert any("--kv q8_0" in remedy for remedy in error.remedies)
    assert placed(resources, device="GPU", context_length=32_768, kv_type="q8_0").exact is False


def test_a_refusal_names_a_smaller_quantization_with_its_size() -> None:
    with pytest.raises(DoesNotFitError, match=r"such as Q4_K_M, with weights of 4\.[0-9] GiB"):
        place("m", model(bits=16), machine(6), LoadOptions(context_length=2048))


def test_what_the_worker_may_put_aside_counts() -> None:
    without, with_it = placed(machine(32)), placed(machine(32), prefix_cache_mib=1024)
    assert with_it.total_bytes - without.total_bytes == GIB
    assert with_it.buffer_bytes == without.buffer_bytes


def drafted(resources: Resources, draft: ModelShape, **wish: Any) -> Plan:
    def measure(shape: ModelShape, loading: Loading) -> dict[str, MemoryParts]:
        return estimate_with_draft(shape, draft, loading)

    options = LoadOptions(draft_model="small.gguf", **wish)
    return Plan("m", model(), resources, options, measure=measure)


def test_a_draft_model_goes_beside_the_model_and_its_bytes_count() -> None:
    small = replace(model(), layers=model().layers[:4])
    for resources, device in ((machine(32, 12, 24), "GPU 1"), (machine(32), CPU)):
        alone, both = placed(resources), drafted(resources, small).placement()
        assert both.device == alone.device == device
        own, added = alone.memory[device], both.memory[device]
        assert own.kv < added.kv < 1.5 * own.kv
        assert own.weights < added.weights < 1.5 * own.weights
        assert added.overhead - own.overhead < 100 * MIB, "they share a process"


def test_a_refusal_names_a_draft_model_that_takes_the_room() -> None:
    plan = drafted(machine(32, 8), model(), device="GPU", context_length=2048)
    with pytest.raises(DoesNotFitError, match=r"without a draft model \(draft_model, --draft\)"):
        plan.placement()


def test_a_model_that_is_to_be_batch_invariant_goes_on_the_cpu() -> None:
    found = placed(machine(64, 24), batch_invariant=True)
    assert (found.device, found.gpu_layers, found.is_compromise) == (CPU, 0, False)
    assert "batch_invariant" in found.reason
    assert found.sequences == found.parallel + 2
    usual = placed(machine(64, 24), device="CPU")
    cells = usual.memory[CPU].kv
    told = found.memory[CPU]
    assert told.kv == cells, "cells are moved a few at a time, not through a second cache"
    assert found.total_bytes - usual.total_bytes < cells / 64


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("fields", "threads"),
    [
        ({"usable_cores": 16.0}, 8),
        ({"usable_cores": 3.7}, 3),
        ({"usable_cores": 0.5}, 1),
        ({"usable_cores": 16.0, "performance_cores": 6}, 6),
        ({"usable_cores": 8.0, "usable_physical_cores": 4}, 4),
        ({"usable_cores": 16.0, "physical_cores": None}, 16),
    ],
)
def test_a_thread_for_each_fast_core_that_may_be_used(fields: dict[str, Any], threads: int) -> None:
    assert thread_counts(replace(machine(8).cpu, **fields)) == ThreadCounts(threads, threads)


def test_measured_threads_are_used_and_a_wish_is_stronger() -> None:
    measured = ThreadCounts(decode=3, batch=5)
    placement = place("m", model(), machine(32), threads=measured)
    assert (placement.threads, placement.batch_threads) == (3, 5)
    placement = place("m", model(), machine(32), LoadOptions(threads=2), threads=measured)
    assert (placement.threads, placement.batch_threads) == (2, 2)
    on_gpu = place("m", model(), machine(32, 24), threads=measured)
    assert (on_gpu.threads, on_gpu.batch_threads) == (2, 2)


# ---------------------------------------------------------------- for any machine

SIZES = st.floats(0.3, 96)
MACHINES = st.builds(
    lambda ram, gpus, free: machine(ram, *gpus, free=free),
    SIZES,
    st.lists(SIZES, max_size=4),
    st.floats(0.1, 1),
)
SHAPES = st.builds(
    lambda billions, layers, bits: model(billions, layers=layers, bits=bits),
    st.floats(0.1, 120),
    st.integers(1, 90),
    st.sampled_from([4.5, 4.9, 8.5, 16]),
)
WISHES = st.builds(
    LoadOptions,
    context_length=st.none() | st.integers(512, 200_000),
    kv_type=st.sampled_from([None, "f16", "q8_0", "q4_0"]),
    device=st.sampled_from([None, "CPU", "GPU", "GPU 0", "GPU 0 + GPU 1"]),
    gpu_layers=st.none() | st.integers(-1, 100),
    parallel=st.none() | st.integers(1, 32),
)


def attempt(shape: ModelShape, resources: Resources, wish: LoadOptions) -> Placement | Exception:
    try:
        return place("m", shape, resources, wish)
    except (DoesNotFitError, InvalidOptionError) as error:
        return error


@settings(deadline=None, max_examples=200)
@given(SHAPES, MACHINES, WISHES)
def test_a_placement_fits_and_keeps_the_wish(
    shape: ModelShape, resources: Resources, wish: LoadOptions
) -> None:
    result = attempt(shape, resources, wish)
    if isinstance(result, DoesNotFitError):
        assert result.remedies
        assert result.needed_bytes > 0
    if not isinstance(result, Placement):
        return
    free = {CPU: resources.memory.available_bytes} | {
        gpu.label: gpu.vram_free_bytes or 0 for gpu in resources.gpus
    }
    for device, parts in result.memory.items():
        assert parts.total < free[device]
    assert sum(parts.weights for parts in result.memory.values()) >= shape.tensor_bytes
    assert wish.context_length in (None, result.context_length)
    assert wish.kv_type in (None, result.kv_type)
    assert wish.parallel in (None, result.parallel)
    if wish.device == "CPU" or wish.gpu_layers == 0:
        assert result.device == "CPU"
    if wish.device == "GPU 0":
        assert set(result.device.split(" + ")) <= {"GPU 0", "CPU"}
    if wish.gpu_layers is not None and wish.gpu_layers > 0 and result.gpu_layers:
        assert result.gpu_layers == min(wish.gpu_layers, len(shape.layers) + 1)
    assert result.reason


@settings(deadline=None, max_examples=100)
@given(SHAPES, SIZES, st.floats(1, 4), st.booleans())
def test_more_memory_never_makes_it_worse(
    shape: ModelShape, size: float, factor: float, on_gpu: bool
) -> None:
    def on(gib: float) -> Placement | Exception:
        resources = machine(256, gib) if on_gpu else machine(gib)
        return attempt(shape, resources, LoadOptions())

    small, large = on(size), on(size * factor)
    if isinstance(small, Placement):
        assert isinstance(large, Placement)
        whole = small.gpu_layers == len(shape.layers) + 1
        assert large.gpu_layers >= small.gpu_layers
        assert large.context_length >= small.context_length or not whole


@settings(deadline=None, max_examples=50)
@given(SHAPES, MACHINES)
def test_what_fits_on_paper_is_what_is_placed(shape: ModelShape, resources: Resources) -> None:
    plan = Plan(name="m", shape=shape, resources=resources, requested=LoadOptions())
    fit = fits_of(plan, None)
    assert {option.device for option in fit.options} >= {"CPU"}
    for option in fit.options[:6]:
        if option.fits and option.device == CPU:
            wish = LoadOptions(
                device="CPU", context_length=option.context_length, kv_type=option.kv_type
            )
            assert place("m", shape, resources, wish).memory == option.memory


def test_headroom_is_left_on_every_device() -> None:
    room = room_of(machine(32, 24), None)
    assert room.free[CPU] <= 31 * GIB
    assert room.free["GPU 0"] <= 23.5 * GIB


def test_a_report_that_differs_much_corrects_the_memory() -> None:
    placement = placed(machine(32, 24))
    buffers = placement.buffer_bytes
    assert placement.corrected(buffers) is placement
    assert placement.corrected(round(1.05 * buffers)) is placement, "rounding changes no figure"
    more = placement.corrected(2 * buffers)
    assert more.total_bytes == placement.total_bytes + buffers
    assert more.buffer_bytes == 2 * buffers


def test_a_search_makes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a dozen placements are tried for one admission, text is made of what is read only."""
    told = []
    monkeypatch.setattr(fit_explanation, "size_words", lambda size: told.append(size) or "1 B")
    placement, error = placed(machine(32, 12)), refused(machine(1))
    assert (error.needed_bytes > error.available_bytes, told) == (True, [])
    assert "1 B" in placement.reason
    assert "1 B" in str(error)
    assert error.remedies


def test_a_refusal_and_a_placement_are_copied_with_their_texts() -> None:
    error, placement = refused(machine(1)), placed(machine(32, 6))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.remedies) == (str(error), error.remedies)
    assert pickle.loads(pickle.dumps(placement)).reason == placement.reason
    assert replace(placement, device="elsewhere").reason == placement.reason


def test_the_reason_has_the_figures_of_the_placement_that_it_is_read_from() -> None:
    placement = placed(machine(64))
    corrected = placement.corrected(2 * placement.buffer_bytes)
    assert size_words(corrected.total_bytes) in corrected.reason
    assert size_words(placement.total_bytes) in placement.reason
