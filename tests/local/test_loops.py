"""A real model that goes round in circles is stopped."""

from __future__ import annotations

from nbllm.core.types import FinishReason
from nbllm.local.llama_cpp_model import LlamaCppModel


async def test_a_loop_is_stopped_and_says_why(model: LlamaCppModel) -> None:
    result = await model.generate("Go", temperature=0, max_tokens=1000, logit_bias={" la": 50})
    assert result.finish_reason is FinishReason.REPETITION
    assert result.raw_finish_reason == "repetition"
    assert result.usage.completion_tokens < 500


async def test_a_loop_that_is_wanted_goes_on(model: LlamaCppModel) -> None:
    options = {"temperature": 0, "logit_bias": {" la": 50}, "stop_repetition": False}
    result = await model.generate("Go", max_tokens=450, **options)
    assert result.finish_reason is FinishReason.LENGTH
