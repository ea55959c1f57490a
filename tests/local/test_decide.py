"""Labels scored by the bundled model, and by models whose memory cannot be cut."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import ContextLengthError, InvalidOptionError
from nbllm.core.schemas.answer_schemas import decision_schema
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.local.worker_requests import decide_operation
from nbllm.testing import FakeModel

PLACES = ["Paris", "the city of Berlin", "Rome"]
QUESTION = "The capital of France is"


async def test_the_most_probable_label_is_the_value(model: LlamaCppModel) -> None:
    result = await model.decide("What is the capital of France?", {"capital": PLACES})
    assert result.value == {"capital": "Paris"}
    assert result.usage.completion_tokens == 0
    (likeliest, *_), shares = result.probabilities["capital"], result.probabilities["capital"]
    assert likeliest == "Paris"
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


async def test_a_model_without_probabilities_is_asked_for_json() -> None:
    vendor = FakeModel(text='{"urgent": "yes"}')
    result = await vendor.decide("Help!", {"urgent": bool})
    assert result.value == {"urgent": True}
    assert result.probabilities == {}
    assert "tells no probabilities" in result.notes[0]
    (request,) = vendor.requests
    assert request.messages[0].text.endswith("Question: urgent? Answer with yes or no only.")
    assert request.options.response_schema["properties"]["urgent"]["enum"] == ["yes", "no"]


async def test_the_labels_that_a_large_model_is_told_are_read_once(model: LlamaCppModel) -> None:
    """The model is small, and said to be large: what all rows begin with is in the prefix cache."""
    large = replace(model.info, parameters=8.0)
    labels = {"team": ["the red team", "the blue team"], "urgent": bool}
    schema, seen = decision_schema(labels), []
    for text in ("My parcel is late.", "Where is my invoice?"):
        request = model.request(text, schema=schema)
        first, second = (decide_operation(large, request, each) for each in schema.questions)
        assert first.messages[0] == second.messages[0]
        assert "the red team or the blue team" in str(first.messages[0])
        seen.append(first.messages[0])
    assert seen[0] == seen[1]


async def test_probabilities_are_those_of_the_answers_tokens(model: LlamaCppModel) -> None:
    """With ``raw`` labels follow the text itself, so that each can be scored by another way."""
    labels = ["Paris", "a city", "a river", "the"]
    result = await model.decide(QUESTION, {"x": labels}, raw=True)
    again = await model.decide(QUESTION, {"x": labels[::-1]}, raw=True)
    for label, share in result.probabilities["x"].items():
        assert again.probabilities["x"][label] == pytest.approx(share, abs=0.01)
    expected = {label: await _share(model, QUESTION, label) for label in labels}
    whole = sum(expected.values())
    for label, share in result.probabilities["x"].items():
        assert share == pytest.approx(expected[label] / whole, abs=0.05)


async def _share(model: LlamaCppModel, prompt: str, label: str) -> float:
    """That an answer begins with ``label`` behind a space, token by token."""
    before, logprob = prompt, 0.0
    for token in await model.tokenize(f" {label}"):
        text = await model.detokenize([token])
        result = await model.generate(before, raw=True, max_tokens=1, logprobs=20, temperature=0)
        found = [top.logprob for top in result.logprobs[0].top if top.text == text]
        logprob += found[0] if found else -math.inf
        before += text
    return math.exp(logprob)


async def test_many_at_a_time_decide_as_one_alone(model: LlamaCppModel) -> None:
    texts = [f"Parcel {number} has not come. Where is it?" for number in range(4)]
    decide = {"about": ["delivery", "an invoice", "a defect"], "urgent": bool}
    alone = [await model.decide(text, decide) for text in texts]
    together = await asyncio.gather(
        *(model.decide(text, decide) for text in texts),
        model.generate("Count to ten.", max_tokens=20),
    )
    for one, other in zip(alone, together, strict=False):
        assert other.value == one.value
        for name, shares in one.probabilities.items():
            assert other.probabilities[name] == pytest.approx(shares, abs=0.1)  # kernels differ


async def test_what_is_asked_in_between_is_answered_as_ever(model: LlamaCppModel) -> None:
    """Cells of labels must not be taken for those of the prompt that they stood behind."""
    text = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,"
    for labels in (["15, 16", "15, 99", "red"], ["99, 98", "15, 17, 18", "blue"]):
        await model.decide(text, {"x": labels}, raw=True)
        result = await model.generate(text, raw=True, max_tokens=8, temperature=0.0)
        assert result.text.startswith(" 15, 16")


@pytest.mark.parametrize(
    ("labels", "problem"), [(["a", "a "], "twice"), ([""], "characters"), ([], "no labels")]
)
async def test_labels_that_cannot_be_are_refused(
    model: LlamaCppModel, labels: Any, problem: str
) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        await model.decide("x", {"x": labels})


async def test_labels_look_like_special_tokens_and_are_text(model: LlamaCppModel) -> None:
    labels = ["<|im_end|>", "<|im_start|>", "é\u0301", "日本", "\U0001f600", "line\nbreak"]
    result = await model.decide("Say something.", {"x": labels})
    assert result.value["x"] in labels


async def test_many_labels_of_many_tokens(short_model: LlamaCppModel) -> None:
    labels = [f"product number {number}" for number in range(2_000)]
    result = await short_model.decide("I bought product number 1234.", {"product": labels})
    assert result.value["product"] in labels
    assert len(result.probabilities["product"]) == 2_000


async def test_a_prompt_that_leaves_labels_no_room_is_refused(model: LlamaCppModel) -> None:
    with pytest.raises(ContextLengthError):
        await model.decide("word " * 5_000, {"x": ["a", "b"]})


async def test_cancelling_ends_it_and_leaves_the_model_free(model: LlamaCppModel) -> None:
    task = asyncio.ensure_future(model.decide("word " * 2_000, {"x": ["a", "b"], "y": bool}))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await model.decide("x", {"x": bool})).value["x"] in (True, False)


@pytest.mark.parametrize("name", ["mamba", "gemma2", "qwen3"])
async def test_other_architectures_decide_too(
    load: Any, tiny_models: dict[str, Path], name: str
) -> None:
    tiny = load(tiny_models[name], context_length=256)
    result = await tiny.decide("ab", {"x": ["abc", "abd", "b", "ab", "c d e"]}, raw=True)
    assert sum(result.probabilities["x"].values()) == pytest.approx(1, abs=1e-4)
