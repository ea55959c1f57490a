"""Conversations as OpenAI's JSON has them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.errors import InvalidOptionError
from nbllm.core.generation_requests import to_messages
from nbllm.core.types import (
    GenerationOptions,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)

PNG = "data:image/png;base64,iVBORw0KGgo="


def message(**turn: Any) -> Message:
    (read,) = to_messages([turn])
    return read


@pytest.mark.parametrize(
    "piece",
    [
        {"type": "text", "text": "Hi"},
        {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}, "annotations": []},
        {"type": "input_text", "text": "Hi"},
        {"type": "output_text", "text": "Hi"},
        {"text": "Hi"},
        {"type": "refusal", "refusal": "Hi"},
        "Hi",
        TextPart("Hi"),
    ],
)
def test_pieces_of_text(piece: Any) -> None:
    assert message(role="user", content=[piece]).parts == (TextPart("Hi"),)


@pytest.mark.parametrize(
    ("piece", "url"),
    [
        ({"type": "image_url", "image_url": {"url": PNG}}, PNG),
        ({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}, PNG),
        ({"type": "image_url", "image_url": "https://e.org/a.png"}, "https://e.org/a.png"),
        ({"type": "input_image", "image_url": PNG, "detail": "auto"}, PNG),
        ({"type": "image", "url": PNG}, PNG),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0"}},
         "data:image/gif;base64,R0"),
        ({"type": "image", "source": {"type": "url", "url": PNG}}, PNG),
    ],
)  # fmt: skip
def test_pieces_with_images(piece: Any, url: str) -> None:
    (part,) = message(role="user", content=[piece]).parts
    assert isinstance(part, ImagePart)
    assert part.url == url


def test_content_may_be_one_piece_or_none() -> None:
    assert message(role="user", content={"type": "text", "text": "Hi"}).text == "Hi"
    assert message(role="assistant", content=None).parts == ()
    assert message(role="user", content="Hi") == Message("user", "Hi")
    assert message(role="user", content=[]) == Message("user", ())


def test_extra_keys_are_passed_over() -> None:
    turn = {
        "role": "user",
        "content": "Hi",
        "name": "ann",
        "id": "msg_1",
        "annotations": [],
        "timestamp": 5,
        "refusal": None,
        "audio": None,
        "tool_calls": None,
    }
    assert message(**turn) == Message("user", "Hi")


def test_roles_by_their_other_names() -> None:
    assert message(role="developer", content="Hi") == Message("system", "Hi")
    result = message(role="function", name="f", content="5")
    assert result == Message("tool", (ToolResult("f", "f", "5"),))


def test_a_conversation_with_tools_as_the_api_gives_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "5"}]},
        {"role": "assistant", "content": "Five.", "reasoning_content": "Hm."},
    ]
    assert to_messages(json.loads(json.dumps(turns))) == (
        Message("user", "?"),
        Message("assistant", (ToolCall("c1", "f", '{"a": 1}'),)),
        Message("tool", (ToolResult("c1", "f", "5"),)),
        Message("assistant", (ReasoningPart("Hm."), TextPart("Five."))),
    )


def test_arguments_may_be_the_object_itself() -> None:
    call = {"function": {"name": "f", "arguments": {"é": 1}}}
    (part,) = message(role="assistant", content="", tool_calls=[call]).parts[1:]
    assert part == ToolCall("", "f", '{"é": 1}')
    old = message(role="assistant", content=None, function_call={"name": "f", "arguments": "{}"})
    assert old.parts == (ToolCall("f", "f", "{}"),)


@pytest.mark.parametrize(
    ("turn", "problem"),
    [
        ({}, "a message needs a role (its keys: none)"),
        ({"content": "Hi"}, "a message needs a role (its keys: 'content')"),
        ({"rolle": "user", "content": "Hi"},
         "a message needs a role (its keys: 'rolle', 'content')"),
        ({"role": "user"}, "a message needs content (its keys: 'role')"),
        ({"role": "narrator", "content": "Hi"}, "role must be one of system, user"),
        ({"role": None, "content": "Hi"}, "must be one of system, user, assistant, tool"),
        ({"role": ["user"], "content": "Hi"}, "must be one of"),
        ({"role": "user", "content": 5}, "must be a string or a list"),
        ({"role": "user", "content": [{"type": "input_audio"}]},
         "the type of a part must be one of 'text'"),
        ({"role": "user", "content": [{"type": "text"}]}, "type 'text' needs text"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "needs text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "needs an address"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]},
         "needs an address"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]},
         "nbllm.image"),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, "a call needs a function"),
        ({"role": "assistant", "content": "", "tool_calls": "f"}, "tool_calls must be a list"),
        ({"role": "user", "content": [None]}, "NoneType is not an image"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(turn: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=re.escape(problem)):
        to_messages([turn])


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "text", "image_url", "url", "function", "name", "id", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["role", "content", "tool_calls", "tool_call_id", "name", "function_call", "reasoning", "x"]
)


@given(st.dictionaries(KEYS, ODD | st.sampled_from(["user", "assistant", "tool", "function"])))
def test_any_mapping_is_read_or_refused(turn: dict[str, Any]) -> None:
    try:
        messages = to_messages([turn])
    except InvalidOptionError:
        return
    assert all(isinstance(read, Message) for read in messages)


def test_token_ids_may_be_texts_as_in_json() -> None:
    biases = json.loads(json.dumps({50256: -100, 7: 2.5}))
    assert GenerationOptions(logit_bias=biases).logit_bias == ((50256, -100), (7, 2.5))
    again = GenerationOptions(logit_bias={"50256": -100}).merged(GenerationOptions(seed=1))  # type: ignore[arg-type]
    assert again.logit_bias == ((50256, -100),)
    texts = {" 7": 1.0, "٣": 1.0, "-1": 1.0, "7.5": 1.0, "Paris": 1.0}
    assert GenerationOptions(logit_bias=texts).logit_bias == tuple(texts.items())  # type: ignore[arg-type]
    assert GenerationOptions(logit_bias=(("7", 1.0),)).logit_bias == (("7", 1.0),)
