"""What vendors and servers tell of tokens and costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.vendors.anthropic.messages_parser import messages_usage
from nbllm.cloud.vendors.gemini.contents_parser import gemini_usage
from nbllm.cloud.vendors.openai.answer_parts import chat_usage, responses_usage
from nbllm.cloud.vendors.token_counts import cost_of, embedding_usage
from nbllm.core.types import Usage

READERS = (chat_usage, responses_usage, messages_usage, gemini_usage)


@pytest.mark.parametrize("read", READERS)
def test_what_is_not_told_is_not_known(read: Any) -> None:
    usage = read({})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (None, None, None)
    assert usage.cost_usd is None


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        ({"cost": 0.00125}, 0.00125),  # OpenRouter
        ({"cost": 0}, 0.0),
        ({"cost": "0.0000375"}, 0.0000375),  # Vercel
        ({"cost": {"input_tokens_cost": 0.1, "request_cost": 0.2, "total_cost": 0.3}}, 0.3),
        ({"cost": 0.1, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.4}}, 0.5),
        ({"cost": 0.1, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.1}}, 0.1),
        ({"cost": 0.1, "is_byok": True, "cost_details": None}, 0.1),
        ({"cost_in_usd_ticks": 318_319_000}, 0.0318319),  # xAI
        ({"estimated_cost": 0.002}, 0.002),  # DeepInfra
        ({"cost": None}, None),
        ({"cost": -1}, None),
        ({"cost": "free"}, None),
        ({"cost": float("nan")}, None),
        ({"cost": True}, None),
        ({"cost": []}, None),
        ({"cost": {}}, None),
        ({}, None),
    ],
)
def test_a_cost_that_is_told(told: dict[str, Any], cost: float | None) -> None:
    assert cost_of(told) == (None if cost is None else pytest.approx(cost))
    for read in (chat_usage, responses_usage):
        assert read({**told, "prompt_tokens": 1}).cost_usd == cost_of(told)


def test_reasoning_that_stands_outside_the_completion_is_added() -> None:
    xai = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }
    usage = chat_usage(xai)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (103, 94)
    assert usage.total_tokens == 135
    responses = {
        "input_tokens": 32,
        "output_tokens": 9,
        "total_tokens": 135,
        "output_tokens_details": {"reasoning_tokens": 94},
    }
    assert responses_usage(responses).completion_tokens == 103
    perplexity = {"prompt_tokens": 33, "completion_tokens": 7163, "reasoning_tokens": 73_997}
    assert chat_usage({**perplexity, "total_tokens": 7196}).completion_tokens == 81_160


def test_reasoning_that_is_part_of_the_completion_stays_so() -> None:
    for total in ({"total_tokens": 30}, {}, {"total_tokens": None}, {"total_tokens": 5000}):
        openai = {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "completion_tokens_details": {"reasoning_tokens": 15},
            **total,
        }
        assert chat_usage(openai).completion_tokens == 20


@pytest.mark.parametrize(
    ("told", "prompt", "completion"),
    [
        ({"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}, 10, 5),
        ({"candidatesTokenCount": 5, "thoughtsTokenCount": 20, "totalTokenCount": 35}, 10, 25),
        ({"candidatesTokenCount": 5}, None, 5),
        ({"promptTokenCount": 10}, 10, 0),
        ({"promptTokenCount": 10, "toolUsePromptTokenCount": 3}, 13, 0),
        ({"candidatesTokenCount": 5, "totalTokenCount": 2}, None, 5),
    ],
)
def test_gemini_leaves_counts_out(told: Any, prompt: int | None, completion: int) -> None:
    usage = gemini_usage(told)
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, completion)


def test_anthropic_tells_what_it_put_into_its_cache() -> None:
    usage = messages_usage(
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 30,
            "output_tokens": 7,
        }
    )
    assert usage == Usage(
        prompt_tokens=60, completion_tokens=7, cached_tokens=30, cache_write_tokens=20
    )


def test_vectors_have_a_prompt_and_nothing_is_written() -> None:
    assert embedding_usage([5, None, 2]) == Usage(prompt_tokens=7, completion_tokens=0)
    assert embedding_usage([None]) == Usage(prompt_tokens=None, completion_tokens=0)


ODD = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4)
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cost",
     "promptTokenCount", "totalTokenCount", "cost_in_usd_ticks", "prompt_tokens_details",
     "completion_tokens_details", "reasoning_tokens", "cached_tokens", "is_byok", "cost_details"]
)  # fmt: skip


@given(st.dictionaries(NAMES, ODD | st.dictionaries(NAMES, ODD)))
def test_odd_figures_break_nothing(told: dict[str, Any]) -> None:
    for read in READERS:
        usage: Usage = read(told)
        for tokens in (usage.prompt_tokens, usage.completion_tokens):
            assert tokens is None or tokens >= 0
