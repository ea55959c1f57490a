"""Loads by placement, with real workers: what was predicted, what was wished, what was refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import DoesNotFitError, InvalidOptionError, ModelFileError
from nbllm.core.fitting.memory_estimate import estimate
from nbllm.core.hardware.resources import Resources
from nbllm.core.openers import LoadControl, fit_model, plan_model
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model
from nbllm.local.plans import make_plan, settled

MIB = 2**20
Open = Callable[..., LlamaCppModel]


def entry(path: Path, **load: Any) -> ModelInfo:
    return ModelInfo(
        name=path.stem,
        model_type="llama",
        local=True,
        path=path,
        source="found",
        load=LoadOptions(**load),
    )


def machine(available: int) -> Resources:
    """This machine with so many free bytes and no GPU; 128 MiB of them are left alone."""
    here = ResourceDetector().detect()
    memory = replace(here.memory, total_bytes=available, available_bytes=available, limit=None)
    return replace(here, memory=memory, gpus=())


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    models: list[LlamaCppModel] = []

    def open_with(path: Path, **load: Any) -> LlamaCppModel:
        models.append(open_model(entry(path, **load), LoadControl()))
        return models[-1]

    yield open_with
    await asyncio.gather(*(model.aclose() for model in models))


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("mistral", {"kv_type": "q8_0"}),
        ("phi3", {"flash_attention": False}),
        ("gemma2", {"parallel": 2}),
        ("mixtral", {"device": "CPU"}),
        ("qwen3", {"kv_type": "q4_0", "threads": 1}),
        ("mamba", {"context_length": 512}),
        ("deepseek2", {}),
    ],
)
async def test_every_architecture_loads_and_writes_with_the_memory_that_was_predicted(
    name: str, load: dict[str, Any], opened: Open, tiny_models: dict[str, Path]
) -> None:
    model = opened(tiny_models[name], **{"context_length": 2048, "device": "CPU", **load})
    placement = model.info.placement
    assert placement is not None
    assert model.buffer_bytes == pytest.approx(placement.buffer_bytes, rel=0.05)
    assert model.info.memory_bytes == placement.total_bytes
    assert placement.kv_type == load.get("kv_type", "f16")
    assert placement.flash_attention is load.get("flash_attention", True)
    assert model.info.context_length == placement.context_length
    assert model.info.device == placement.device == "CPU"
    result = await model.generate("1 2 3", max_tokens=4)
    assert result.usage.completion_tokens > 0
    assert result.device == "CPU"


async def test_what_cannot_fit_is_refused_before_a_worker_starts(
    bundled_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaCppModel, "__init__", lambda *_: pytest.fail("a worker was started"))
    with pytest.raises(DoesNotFitError, match="a context length of at most") as caught:
        open_model(entry(bundled_gguf, context_length=2**31 - 1), LoadControl())
    assert caught.value.needed_bytes > caught.value.available_bytes
    with pytest.raises(InvalidOptionError, match="device"):
        open_model(entry(bundled_gguf, device="GPU 7"), LoadControl())


def test_a_plan_is_made_from_the_header(bundled_gguf: Path, tmp_path: Path) -> None:
    placement = plan_model(entry(bundled_gguf), machine(8 * 2**30))
    assert placement is not None
    assert (placement.device, placement.context_length) == ("CPU", 8192)
    assert not placement.exact
    assert plan_model(ModelInfo(name="x", model_type="openai", local=False), machine(MIB)) is None
    with pytest.raises(ModelFileError):
        plan_model(entry(tmp_path / "none.gguf"), machine(2**30))


def test_the_usual_context_is_a_config_s_or_what_was_trained_within_reason(
    tiny_models: dict[str, Path],
) -> None:
    found = entry(tiny_models["mistral"])  # trained for 32,768 tokens
    configured = replace(found, source="config", context_length=16_384)
    for info, usual in (
        (found, 8192),
        (replace(found, source="config"), 8192),
        (configured, 16_384),
    ):
        placement = plan_model(info, machine(8 * 2**30))
        assert placement is not None
        assert placement.context_length == usual


def test_the_context_is_shortened_where_nobody_asked_for_it(bundled_gguf: Path) -> None:
    placement = plan_model(entry(bundled_gguf), machine(400 * MIB))
    assert placement is not None
    assert 1024 <= placement.context_length < 8192
    assert "because 8,192 do not fit" in placement.reason
    with pytest.raises(DoesNotFitError, match="at most"):
        plan_model(entry(bundled_gguf, context_length=8192), machine(400 * MIB))


def test_llama_cpp_is_asked_where_it_is_close_and_corrects_the_arithmetic(
    bundled_gguf: Path,
) -> None:
    info = entry(bundled_gguf)
    roomy = make_plan(info, machine(8 * 2**30))
    assert not settled(roomy, roomy.placement(), info).exact
    close = make_plan(info, machine(500 * MIB))
    exact = settled(close, close.placement(), info)
    assert exact.exact
    assert exact.buffer_bytes == pytest.approx(close.placement().buffer_bytes, rel=0.05)

    def optimist(shape: Any, loading: Any) -> Any:
        return {
            device: replace(parts, compute=0, overhead=parts.overhead)
            for device, parts in estimate(shape, loading).items()
        }

    wrong = replace(make_plan(info, machine(480 * MIB)), measure=optimist)
    assert wrong.placement().context_length == 8192
    corrected = settled(wrong, wrong.placement(), info)
    assert corrected.exact
    assert corrected.context_length < 8192
    assert wrong.room.holds(corrected.memory)


def test_every_option_has_its_memory(bundled_gguf: Path) -> None:
    fit = fit_model(entry(bundled_gguf), machine(400 * MIB))
    assert {option.kv_type for option in fit.options} == {"f16", "q8_0", "q4_0"}
    assert {option.context_length for option in fit.options} == {2048, 4096, 8192}
    assert [option.fits for option in fit.options if option.kv_type == "f16"] == [
        True,
        option_at(fit, 4096).fits,
        False,
    ]
    assert fit.chosen is not None
    assert not any(option.fits for option in fit_model(entry(bundled_gguf), machine(MIB)).options)


def option_at(fit: Any, context_length: int) -> Any:
    return next(o for o in fit.options if (o.context_length, o.kv_type) == (context_length, "f16"))
