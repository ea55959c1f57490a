"""Prompt caching, which Claude has to be asked for, and sampling options, which it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.vendors.anthropic import AnthropicAdapter
from nbllm.cloud.vendors.anthropic.messages_requests import (
    count_body,
    messages_body,
    refuses_sampling,
)
from nbllm.cloud.vendors.request_errors import LearntRefusals
from nbllm.core.errors import BadRequestError, InvalidOptionError, RateLimitError
from nbllm.core.types import (
    ContentPart,
    GenerationOptions,
    GenerationRequest,
    ImagePart,
    Message,
    ModelInfo,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
    VendorPart,
)

ADAPTER = AnthropicAdapter()
MARK = {"type": "ephemeral"}


def body_of(model: Any, request: Any) -> dict[str, Any]:
    return dict(ADAPTER.generation_request(model, request, stream=True).body or {})


def marks(value: Any) -> int:
    """How many blocks are marked, wherever they are."""
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(marks, value.values()))
    return sum(map(marks, value)) if isinstance(value, list) else 0


# ---------------------------------------------------------------- prompt caching


def test_tools_system_and_the_last_turns_are_marked(info: Any, ask: Any) -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "One."),
        Message("assistant", "Two."),
        Message("user", (TextPart("Three."), TextPart("Four."))),
        Message("assistant", (TextPart("Hm."), ToolCall("t1", "f", "{}"))),
        Message("tool", (ToolResult("t1", "f", "5"),)),
    )
    tools = (Tool("f", "F.", {"type": "object"}), Tool("g", "G.", {"type": "object"}))
    sent = body_of(info("anthropic"), ask(messages, tools=tools))
    assert sent["system"] == [{"type": "text", "text": "Be brief.", "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in sent["tools"]] == [None, MARK]
    turns = [[block.get("cache_control") for block in turn["content"]] for turn in sent["messages"]]
    assert turns == [[None], [None], [None, MARK], [None, None], [MARK]]
    assert marks(sent) == 4


def test_caching_is_off_where_it_is_switched_off(info: Any, ask: Any) -> None:
    messages = (Message("system", "Be brief."), Message("user", "Hi"))
    sent = body_of(info("anthropic"), ask(messages, prompt_caching=False))
    assert (marks(sent), sent["system"]) == (0, "Be brief.")
    model = info("anthropic", options=GenerationOptions(prompt_caching=False))
    merged = model.options.merged(GenerationOptions(max_tokens=5))
    request = GenerationRequest(messages, merged, model=model)
    assert marks(messages_body(model, request, stream=True)) == 0
    assert marks(body_of(info("anthropic"), ask(messages, prompt_caching=True))) == 2
    with pytest.raises(InvalidOptionError, match="prompt_caching"):
        ask(prompt_caching="5m")


def test_marks_of_the_readers_own_are_the_only_ones(info: Any, ask: Any) -> None:
    sent = body_of(info("anthropic"), ask(extra={"cache_control": {"type": "ephemeral"}}))
    assert marks(sent) == 1


def test_a_count_needs_no_marks(info: Any, ask: Any) -> None:
    assert marks(count_body(info("anthropic"), ask())) == 0


PARTS: st.SearchStrategy[ContentPart] = st.one_of(
    st.builds(TextPart, st.sampled_from(["", "a", " "])),
    st.builds(ImagePart, st.just("image/png"), st.just(b"x")),
    st.builds(ReasoningPart, st.just("Hm."), st.sampled_from([None, "c2ln"])),
    st.just(ToolCall("t", "f", "{}")),
    st.just(ToolResult("t", "f", "x")),
    st.just(VendorPart("anthropic", '{"type": "redacted_thinking", "data": "x"}')),
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.lists(
    st.builds(Message, ROLES, st.lists(PARTS, max_size=4).map(tuple)), min_size=1, max_size=8
)


@given(MESSAGES, st.integers(0, 3))
def test_four_marks_at_most_and_none_where_none_may_be(messages: list[Message], tools: int) -> None:
    model = ModelInfo(name="claude-x", model_type="anthropic", local=False)
    offered = tuple(Tool(f"f{n}", "", {"type": "object"}) for n in range(tools)) or None
    marked, plain = (
        messages_body(
            model,
            GenerationRequest(
                tuple(messages),
                GenerationOptions(tools=offered, prompt_caching=caching),
                model=model,
            ),
            stream=False,
        )
        for caching in (None, False)
    )
    assert marks(marked) <= 4
    for turn in marked["messages"]:
        for block in turn["content"]:
            if "cache_control" in block:
                assert block["type"] in ("text", "image", "tool_use", "tool_result")
    assert without_marks(marked) == without_marks(plain)


def without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: without_marks(v) for k, v in value.items() if k != "cache_control"}
        if isinstance(kept.get("system"), str):
            kept["system"] = [{"type": "text", "text": kept["system"]}]
        return kept
    return list(map(without_marks, value)) if isinstance(value, list) else value


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("name", "refuses"),
    [
        ("claude-opus-4-7", True),
        ("claude-opus-4-7-20260401", True),
        ("claude-opus-4.7", True),
        ("anthropic.claude-opus-4-8-v1:0", True),
        ("claude-opus-5", True),
        ("claude-opus-5-5@20261001", True),
        ("claude-sonnet-5", True),
        ("claude-sonnet-5-20260801", True),
        ("claude-haiku-5-5", True),
        ("claude-fable-5", True),
        ("claude-opus-10-1", True),
        ("claude-opus-4-6", False),
        ("claude-opus-4-20250514", False),
        ("claude-opus-4@20250514", False),
        ("claude-opus-4-5-20251101", False),
        ("claude-sonnet-4-6", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-haiku-4-5-20251001", False),
        ("claude-3-5-sonnet-20241022", False),
        ("claude-3-opus-20240229", False),
        ("claude-2.1", False),
        ("claude-x", False),
        ("gpt-5", False),
    ],
)
def test_a_models_name_tells_whether_it_takes_sampling(name: str, refuses: bool) -> None:
    assert refuses_sampling(name) is refuses


@pytest.mark.parametrize("name", ["claude-opus-4-7", "claude-opus-4-6"])
def test_what_a_model_refuses_is_left_out_and_told(
    info: Any, ask: Any, read: Any, name: str
) -> None:
    model = info("anthropic", model=name)
    request = ask(temperature=0.5, top_k=5, max_tokens=9)
    sent, refuses = body_of(model, request), refuses_sampling(name)
    assert ("temperature" in sent, "top_k" in sent) == (not refuses, not refuses)
    events = [
        {"type": "message_start", "message": {}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    body = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)
    notes = ("temperature and top_k not sent: the model chooses its own sampling",)
    assert read(ADAPTER, model, body, request=request)[1].notes == (notes if refuses else ())
    assert read(ADAPTER, model, body, request=ask())[1].notes == ()


REFUSALS = [
    ("`temperature` is deprecated for this model.", {"temperature"}),
    ("top_p: Extra inputs are not permitted", {"top_p"}),
    ("temperature, top_p and top_k are not supported for this model", {"temperature", "top_p"}),
    ("`temperature` may only be set to 1 when thinking is enabled.", {"temperature"}),
    ("temperature: range: 0..1", set()),
    ("temperature: Input should be less than or equal to 1", set()),
    ("`temperature` and `top_p` cannot both be specified for this model.", set()),
    ("max_tokens: 100000 > 8192, which is the maximum allowed", set()),
    ("messages: at least one message is required", set()),
    ("unknown field: foo", set()),
]


@pytest.mark.parametrize(("message", "names"), REFUSALS)
def test_a_refusal_is_learnt_and_nothing_else_is(
    info: Any, ask: Any, message: str, names: set[str]
) -> None:
    model, request, learnt = info("anthropic", model="claude-new"), ask(
        temperature=0.5, top_p=0.9
    ), LearntRefusals()  # fmt: skip
    error = ADAPTER.parse_error(
        model,
        400,
        {},
        json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode(),
    )
    assert isinstance(error, BadRequestError)
    assert learnt.learn(model, error, request) is bool(names)
    sent, notes = learnt.without(request)
    left = {name for name in ("temperature", "top_p") if getattr(sent.options, name) is None}
    assert left == names
    assert bool(notes) is bool(names)
    assert not learnt.learn(model, error, sent)  # asked again without it: no third time


def test_other_models_and_other_errors_teach_nothing(info: Any, ask: Any) -> None:
    told, request = "temperature is not supported", ask(temperature=0.5)
    learnt = LearntRefusals()
    assert not learnt.learn(info(model="gpt-9"), BadRequestError("m", told), request)
    claude = info("anthropic", model="claude-new")
    assert not learnt.learn(claude, RateLimitError("m", told), request)
    assert not learnt.learn(claude, BadRequestError("m", told), ask())
    assert learnt.without(request) == (request, ())
    router = info(model="anthropic/claude-opus-9", base_url="https://router.example.org/v1")
    assert learnt.learn(router, BadRequestError("m", told), request)
