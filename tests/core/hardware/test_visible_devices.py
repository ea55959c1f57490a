from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.hardware.visible_devices import (
    CudaDevice,
    choose_cuda_devices,
    choose_rocm_devices,
)

FOUR = [CudaDevice(index, "NVIDIA L4", f"GPU-{index}{index}aa-{index}") for index in range(4)]


def instance(gpu: int, place: int) -> CudaDevice:
    return CudaDevice(
        index=gpu,
        name="MIG 1g.10gb",
        uuid=f"MIG-{gpu}{place}-beef",
        mig_index=place,
        parent_uuid=f"GPU-{gpu}{gpu}aa-{gpu}",
        instance_path=f"{place + 7}/0",
    )


MIXED = [instance(0, 0), instance(0, 1), FOUR[1], instance(2, 0)]
DIVIDED = [instance(0, 0), instance(0, 1), instance(1, 0)]


def chosen(devices: list[CudaDevice], value: str | None, **more: str) -> list[int]:
    environ = more if value is None else {"CUDA_VISIBLE_DEVICES": value, **more}
    return list(choose_cuda_devices(devices, environ).positions)


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("2", [2]),
        (" 3 , 1 ", [3, 1]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("9", []),
        ("1,1", []),
        ("NoDevFiles", []),
        ("1gpu,2", [1, 2]),
        ("+2", [2]),
        ("0,,1", [0]),
        ("GPU-22aa-2", [2]),
        ("GPU-3,GPU-0", [3, 0]),
        ("GPU-", []),
        ("GPU-1,GPU-1", []),
        ("GPU-99,GPU-0", []),
        ("GPU-1,0", [1]),
        ("0,GPU-1", [0]),
        ("MIG-GPU-22aa-2/1/0", []),
    ],
)
def test_cuda(value: str | None, positions: list[int]) -> None:
    assert chosen(FOUR, value) == positions


@pytest.mark.parametrize(
    ("devices", "value", "positions"),
    [
        (MIXED, None, [2]),  # whole GPUs alone
        (MIXED, "0", [2]),  # CUDA counts divided GPUs last
        (MIXED, "1", [0]),
        (MIXED, "2", [3]),
        (MIXED, "1,0", [0]),  # an instance, and nothing beside it
        (MIXED, "GPU-00", [0]),
        (MIXED, "MIG-01-beef", [1]),
        (MIXED, "MIG-01-beef,MIG-00-beef", [1]),
        (MIXED, "MIG-GPU-00aa-0/8/0", [1]),
        (MIXED, "MIG-GPU-00aa-0", []),
        (MIXED, "MIG-0", []),  # could be either
        (DIVIDED, None, [0]),
        (DIVIDED, "1", [2]),
        ([], None, []),
        ([], "0", []),
    ],
)
def test_cuda_with_divided_gpus(
    devices: list[CudaDevice], value: str | None, positions: list[int]
) -> None:
    assert chosen(devices, value) == positions


def test_each_absence_is_explained() -> None:
    choice = choose_cuda_devices(MIXED, {})
    assert set(choice.hidden) == {0, 1, 3}
    assert "CUDA_VISIBLE_DEVICES=MIG-01-beef" in choice.hidden[1]
    choice = choose_cuda_devices(FOUR, {"CUDA_VISIBLE_DEVICES": "1"})
    assert choice.hidden[0] == 'hidden by CUDA_VISIBLE_DEVICES="1"'
    assert choice.problems == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [("0,8", '"8"'), ("GPU-7", '"GPU-7"'), ("2,2", "twice"), ("-1", None), ("", None)],
)
def test_a_list_that_cuda_cuts_short_is_said_so(value: str, words: str | None) -> None:
    problems = choose_cuda_devices(FOUR, {"CUDA_VISIBLE_DEVICES": value}).problems
    assert (not problems) if words is None else (words in problems[0])


def test_numbers_are_doubtful_where_gpus_differ() -> None:
    devices = [FOUR[0], CudaDevice(1, "NVIDIA H100", "GPU-1")]
    (problem,) = choose_cuda_devices(devices, {"CUDA_VISIBLE_DEVICES": "1"}).problems
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in problem
    by_bus = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert not choose_cuda_devices(devices, by_bus).problems
    assert not choose_cuda_devices(devices, {"CUDA_VISIBLE_DEVICES": "GPU-1"}).problems
    assert not choose_cuda_devices(FOUR, {"CUDA_VISIBLE_DEVICES": "1"}).problems
    assert not choose_cuda_devices(devices, {}).problems
    (problem,) = choose_cuda_devices(devices, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}).problems
    assert "another" in problem
    assert not choose_cuda_devices(FOUR, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}).problems


ENTRIES = st.one_of(
    st.integers(-2, 12).map(str),
    st.sampled_from([device.uuid or "" for device in (*FOUR, *MIXED)]),
    st.sampled_from(["GPU-", "MIG-", "", " ", "MIG-GPU-00aa-0/7/0", "all", "²", "1e9", "0x1"]),
    st.text(max_size=8),
)


@settings(deadline=None)
@given(
    st.lists(ENTRIES, max_size=6).map(",".join), st.sampled_from([FOUR, MIXED, DIVIDED, FOUR[:1]])
)
def test_whatever_is_set_the_answer_is_one_that_cuda_can_give(
    value: str, devices: list[CudaDevice]
) -> None:
    choice = choose_cuda_devices(devices, {"CUDA_VISIBLE_DEVICES": value})
    positions = choice.positions
    assert len(set(positions)) == len(positions), "no GPU twice"
    assert sorted([*positions, *choice.hidden]) == list(range(len(devices))), "each one once"
    instances = [devices[place] for place in positions if devices[place].is_instance]
    assert not instances or len(positions) == 1, "a single instance, and nothing beside it"
    assert len(positions) <= len(value.split(","))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True), st.text(max_size=4))
def test_names_and_numbers_mean_the_same(order: list[int], rest: str) -> None:
    names = ",".join(FOUR[place].uuid or "" for place in order)
    numbers = ",".join(map(str, order))
    assert chosen(FOUR, names) == chosen(FOUR, numbers) == order
    assert chosen(FOUR, f"{numbers},-1,{rest}") == order, "what follows an end does not count"


# ---------------------------------------------------------------- ROCm


@pytest.mark.parametrize(
    ("environ", "positions"),
    [
        ({}, [0, 1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-c,0"}, [2, 0]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "2,0", "HIP_VISIBLE_DEVICES": "1"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"HIP_VISIBLE_DEVICES": "0,9,1"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "1,1"}, [1]),
    ],
)
def test_rocm(environ: dict[str, str], positions: list[int]) -> None:
    choice = choose_rocm_devices(["GPU-a", None, "GPU-c"], environ)
    assert list(choice.positions) == positions
    assert sorted([*positions, *choice.hidden]) == [0, 1, 2]


def test_rocms_reasons_name_the_variable() -> None:
    environ = {"ROCR_VISIBLE_DEVICES": "2,0", "HIP_VISIBLE_DEVICES": "1"}
    hidden = choose_rocm_devices(["GPU-a", None, "GPU-c"], environ).hidden
    assert hidden == {
        1: 'hidden by ROCR_VISIBLE_DEVICES="2,0"',
        2: 'hidden by HIP_VISIBLE_DEVICES="1"',
    }


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]), ENTRIES))
def test_rocm_takes_anything(environ: dict[str, str]) -> None:
    choice = choose_rocm_devices(["GPU-a", None, "GPU-c"], environ)
    assert sorted([*choice.positions, *choice.hidden]) == [0, 1, 2]
