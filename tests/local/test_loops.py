"""A model that goes round in circles is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.types import FinishReason
from nbllm.local.llama_cpp_model import LlamaCppModel

LA: dict[str, Any] = {"temperature": 0, "logit_bias": {ord("a") + 3: 50}}


@pytest.fixture(scope="module")
def singing(load: Callable[..., LlamaCppModel], tiny_models: dict[str, Path]) -> LlamaCppModel:
    """One with a token for each byte, behind three others."""
    return load(tiny_models["llama-q8_0"], context_length=2048)


async def test_a_loop_is_stopped_and_says_why(singing: LlamaCppModel) -> None:
    result = await singing.generate("Go", max_tokens=1000, **LA)
    assert result.text == "a" * result.usage.completion_tokens
    assert result.finish_reason is FinishReason.REPETITION
    assert result.raw_finish_reason == "repetition"
    assert result.usage.completion_tokens < 500


async def test_a_loop_that_is_wanted_goes_on(singing: LlamaCppModel) -> None:
    result = await singing.generate("Go", max_tokens=450, stop_repetition=False, **LA)
    assert result.finish_reason is FinishReason.LENGTH
    assert result.usage.completion_tokens == 450
