"""Options that only make sense together, and texts that are too long for anybody."""

from __future__ import annotations

from typing import Any

import pytest

from nbllm.core.errors import InvalidOptionError, ModelNotFoundError, NbllmError
from nbllm.core.generation_requests import MOST_TEXT_BYTES, check_size
from nbllm.core.types import Tool
from nbllm.testing import FakeModel

CLOCK = Tool("clock", "Tells the time.", {"type": "object", "properties": {}})


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tools": (CLOCK,), "tool_choice": "clok"},
         "tool_choice must be one of auto, none, required, clock (got 'clok')."
         " Did you mean 'clock'?"),
        ({"tools": (CLOCK,), "tool_choice": "any"},
         "tool_choice must be one of auto, none, required, clock (got 'any')"),
        ({"tools": (CLOCK,), "tool_choice": ""},
         "tool_choice must be one of auto, none, required, clock (got '')"),
        ({"tool_choice": "clock"}, "tool_choice: 'clock' requires tools"),
        ({"tool_choice": "required", "tools": ()}, "tool_choice: 'required' requires tools"),
        ({"tool_choice": 5}, "tool_choice must be a string (got 5)"),
        ({"grammar": "root ::="}, None),
        ({"grammar": "root = 5"},
         "grammar: cannot parse the grammar: line 1, column 6: expecting ::="),
        ({"grammar": "x ::= [a]"},
         "grammar: cannot parse the grammar: grammar does not contain a 'root' symbol"),
        ({"grammar": "root ::= nothing"}, "Undefined rule identifier 'nothing'"),
        ({"grammar": 'root ::= root "a"'}, "left recursion"),
        ({"grammar": "root ::= " + "x" * 10_000}, "Undefined rule identifier"),
        ({"grammar": ""}, "does not contain a 'root' symbol"),
        ({"grammar": "root ::= <think> [a]"}, None),
        ({"logit_bias": "abc"},
         "logit_bias must be a mapping of tokens to numbers, or pairs (got 'abc')"),
        ({"logit_bias": {"a": "x"}}, "logit_bias must be a number (got 'x')"),
        ({"logit_bias": [(1,)]}, "logit_bias must be a mapping"),
        ({"logit_bias": {-1: 1}}, "logit_bias: tokens must be ids or strings (got -1)"),
        ({"stop": ""}, "stop must be a string or a list of strings, none of them empty (got '')"),
        ({"stop": [5]}, "stop must be a string or a list of strings, none of them empty (got 5)"),
        ({"stop": ["a", "b", None]},
         "stop must be a string or a list of strings, none of them empty (got None)"),
        ({"temprature": 1}, "temprature: unknown option. Did you mean 'temperature'?"),
        ({"stop": {"a": 1}},
         "stop must be a string or a list of strings, none of them empty (got {'a': 1})"),
        ({"stop": 1.5}, "stop must be a string or a list of strings, none of them empty (got 1.5)"),
        ({"stop_tokens": [-1]}, "stop_tokens must be token ids or their strings (got [-1])"),
        ({"response_schema": "x"}, "response_schema must be a mapping (got 'x')"),
        ({"response_schema": {"type": "objekt"}}, "response_schema: /type must be one of null"),
        ({"response_schema": {"type": "x" * 100_000}},
         "response_schema: /type must be one of null"),
    ],
)  # fmt: skip
def test_what_cannot_work_names_option_value_and_remedy(
    asked: dict[str, Any], told: str | None
) -> None:
    model = FakeModel()
    if told is None:
        model.stream("Hi", **asked)
        return
    with pytest.raises(InvalidOptionError) as caught:
        model.stream("Hi", **asked)
    assert told in str(caught.value)
    assert caught.value.option == next(reversed(asked)) or caught.value.option in asked
    assert len(str(caught.value)) < 1_100
    assert not model.requests


def test_one_letter_is_near_no_option() -> None:
    with pytest.raises(InvalidOptionError, match=r"^n: unknown option\.$"):
        FakeModel().stream("Hi", n=3)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (None, "prompt must be a string or a list of messages (got None)"),
        (5, "prompt must be a string or a list of messages (got 5)"),
        (b"Hi", "prompt must be a list of messages (got b'Hi')"),
        ([], "prompt must not be empty; give a string or at least one message"),
        (["Hi"], "prompt: each message must be a Message or a mapping with role and content"),
        ({"text": "Hi"}, "prompt: a message needs a role (its keys: 'text')"),
    ],
)
def test_what_is_no_prompt_names_what_is_one(prompt: Any, told: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        FakeModel().stream(prompt)
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["x" * (MOST_TEXT_BYTES + 1), "é" * (MOST_TEXT_BYTES // 2 + 1)])
async def test_texts_have_a_limit_that_is_told(text: str) -> None:
    model = FakeModel()
    for ask in (
        lambda: model.count_tokens(text),
        lambda: model.count_tokens(text, template=False),
        lambda: model.embed(["a", text]),
    ):
        with pytest.raises(
            InvalidOptionError,
            match=r"33,554,432 bytes, or 32 MiB \(got at least 33,55.*\); split it",
        ):
            await ask()
    check_size("text", "x" * MOST_TEXT_BYTES)


def test_messages_are_short_and_printable_whatever_they_hold() -> None:
    for error in (
        InvalidOptionError("o" * 9_000, "x" * 9_000),
        ModelNotFoundError("x" * 90_000),
        NbllmError("x" * 90_000),
        NbllmError("a\udcffb"),
        ModelNotFoundError("caf\udce9.gguf"),
    ):
        assert len(str(error)) < 6_001
        assert str(error).encode()
    assert str(NbllmError("a" * 5_000 + "b" * 5_000)).endswith("b")
