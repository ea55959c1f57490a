"""Tools and grammars around them, with the real model."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import copy_model, write_tiny

from nbllm.core.errors import EngineError, InvalidOptionError
from nbllm.core.types import (
    FinishReason,
    Message,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    ToolResult,
)
from nbllm.local.llama.grammar import grammar_text
from nbllm.local.llama_cpp_model import LlamaCppModel
from nbllm.local.reading.output_format import format_of

WEATHER = Tool(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
)
CLOCK = Tool("get_time", "The time.", {"type": "object", "properties": {}})
ASKED = "What is the weather in Rome?"


async def test_a_call_that_is_asked_for_is_made(model: LlamaCppModel) -> None:
    events = [
        event
        async for event in model.stream(
            ASKED, tools=(WEATHER, CLOCK), tool_choice="get_weather", temperature=0, max_tokens=80
        )
    ]
    result: Any = getattr(events[-1], "result", None)
    (call,) = result.tool_calls
    assert call.name == "get_weather"
    assert call.parsed_arguments()["city"] in ("Paris", "Rome")
    assert result.finish_reason is FinishReason.TOOL_CALLS
    assert result.text == ""
    assert [e.name for e in events if isinstance(e, ToolCallDelta)] == ["get_weather"]
    turns = [
        Message("user", ASKED),
        result.message,
        Message("tool", (ToolResult(call.id, call.name, "Sunny, 31 degrees"),)),
    ]
    answered = await model.generate(turns, temperature=0, max_tokens=30)
    assert answered.text


async def test_tools_that_need_not_be_called_leave_an_answer(model: LlamaCppModel) -> None:
    result = await model.generate("Say hello.", tools=(CLOCK,), temperature=0, max_tokens=60)
    assert result.tool_calls or result.text
    assert "tool_call" not in result.text
    free = await model.generate("Hi", tools=(CLOCK,), tool_choice="none", max_tokens=4)
    assert not free.tool_calls


async def test_what_tools_cannot_be_combined_with_is_said(model: LlamaCppModel) -> None:
    with pytest.raises(InvalidOptionError, match=r"tools cannot be combined .*leave one out"):
        await model.generate(
            "Hi", tools=(CLOCK,), tool_choice="required", response_schema={"type": "object"}
        )
    with pytest.raises(InvalidOptionError, match=r"tool_choice must be one of .*'nothing'"):
        await model.generate("Hi", tools=(CLOCK,), tool_choice="nothing")
    with pytest.raises(EngineError, match="reasoning_effort"):
        await model.generate("Hi", reasoning_effort="low")


async def test_a_result_keeps_text_as_a_part(model: LlamaCppModel) -> None:
    result = await model.generate("Hi", temperature=0, max_tokens=4)
    assert result.parts == (TextPart(result.text),)


@pytest.mark.parametrize(
    ("template", "prompt", "begin"),
    [
        ("<think></think> tools", "…<think>\n", "(([^<]"),
        ("<think></think> tools", "…", '("<think>" ([^<]'),
        ("tools", "…", "answer"),
    ],
)
def test_a_schema_binds_the_answer_and_not_the_reasoning(
    template: str, prompt: str, begin: str
) -> None:
    form = format_of(template, prompt, None)
    text = grammar_text({"response_schema": {"enum": ["a"]}}, form)
    assert text is not None
    root = next(line for line in text.splitlines() if line.startswith("root ::="))
    assert root.removeprefix("root ::= ").startswith(begin)


THINKS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>{% endif %}"
)


@pytest.fixture(scope="module")
def thinker(load: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    tiny = write_tiny("mistral", tmp_path_factory.mktemp("thinker"))
    keys = {"tokenizer.chat_template": THINKS}
    return load(copy_model(tiny, tiny.with_name("thinker.gguf"), keys))


async def test_reasoning_is_apart_from_the_answer(thinker: LlamaCppModel) -> None:
    events = [e async for e in thinker.stream("Hi", grammar='root ::= "hm <b</think>\\n\\nok"')]
    result: Any = getattr(events[-1], "result", None)
    assert (result.reasoning, result.text) == ("hm <b", "ok")
    assert result.parts == (ReasoningPart("hm <b"), TextPart("ok"))
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "hm <b"
    said = [e for e in events if isinstance(e, TextDelta)]
    assert "".join(e.text for e in said) == "ok"
    pieces = [e for e in events if isinstance(e, TextDelta | ReasoningDelta)]
    assert sum(e.tokens or 0 for e in pieces) == result.usage.completion_tokens


async def test_reasoning_can_be_turned_off(thinker: LlamaCppModel) -> None:
    asked = {"grammar": 'root ::= "ok"', "max_tokens": 8}
    result = await thinker.generate("Hi", reasoning_effort="none", **asked)
    assert (result.reasoning, result.text) == ("", "ok")
