"""Values print short: what is not set is left out, and long texts are cut."""

from __future__ import annotations

from pathlib import Path

from nbllm.core.hardware.resources import CpuInfo, MemoryInfo, Resources
from nbllm.core.model_facts import ModelList
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import (
    FinishReason,
    GenerationOptions,
    GenerationResult,
    LoadOptions,
    ModelInfo,
    Timings,
    Usage,
)
from nbllm.testing import fake_info


def test_only_what_is_set_is_printed() -> None:
    assert repr(GenerationOptions(max_tokens=3)) == "GenerationOptions(max_tokens=3)"
    assert repr(LoadOptions()) == "LoadOptions()"
    assert repr(GenerationOptions(stop_repetition=False)).endswith("(stop_repetition=False)")
    assert repr(Usage(cost_usd=0.0)) == "Usage(cost_usd=0.0)", "0.0 is not None"
    result = GenerationResult(text="Hi " * 500, model="m", finish_reason=FinishReason.STOP)
    assert "None" not in repr(result)
    assert "1,500 characters" in repr(result)
    assert len(repr(result)) < 400
    assert repr(Timings()) == "Timings()"


def test_a_model_has_a_short_repr_and_a_card() -> None:
    info = fake_info("m<b>", path=Path("/home/ann/m.gguf"), size_bytes=3 << 20, parameters=0.5)
    card = info._repr_html_()
    for told in ("0.5 billion", "4,096 tokens", "3 MiB", "m.gguf"):
        assert told in card
    assert "None" not in card + repr(info)
    assert "<b>" not in card
    assert "/home/ann" not in card, "a saved notebook tells no folders"


def test_a_list_of_models_is_a_list_and_a_table() -> None:
    manager = ModelManager([fake_info("a"), fake_info("b", local=False, model_type="openai")])
    models = [m for m in manager.list_available_models() if m.source == "config"]
    listed = ModelList(models)
    assert isinstance(manager.list_available_models(), ModelList)
    assert isinstance(manager.list_loaded_models(), list)
    assert repr(listed) == (
        "<2 models:\n a: fake, context 4,096 tokens, config\n"
        " b: openai, cloud, context 4,096 tokens, config>"
    )
    assert listed._repr_html_().count("<tr>") == 3
    assert repr(ModelList()) == "[]"
    assert listed == models


def test_a_machine_has_a_card() -> None:
    cpu = CpuInfo(
        model="cpu",
        architecture="x86_64",
        sockets=1,
        physical_cores=2,
        logical_cores=2,
        usable_cores=2,
    )
    memory = MemoryInfo(total_bytes=2**34, available_bytes=2**33, machine_bytes=2**34)
    card = Resources(cpu=cpu, memory=memory, absences=("No <AMD> GPU.",))._repr_html_()
    for told in ("2 logical cores", "8.0 GiB of 16.0 GiB available", "No &lt;AMD&gt; GPU."):
        assert told in card
    assert "None" not in card


def test_every_field_that_is_there_can_be_told() -> None:
    assert repr(ModelInfo(name="x", model_type="llama", local=True)) == (
        "ModelInfo(name='x', model_type='llama', local=True)"
    )
