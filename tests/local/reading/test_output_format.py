from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.answer import Answer
from nbllm.core.types import ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from nbllm.local.formats.table import call_format
from nbllm.local.reading.output_format import OutputFormat, format_of
from nbllm.local.reading.output_parser import output_parser

QWEN = "{{ tools }}<tool_call>…</tool_call> <think> </think>"
MISTRAL = "[TOOL_CALLS] [AVAILABLE_TOOLS] [THINK]"
LLAMA = "<|start_header_id|>ipython <|python_tag|>"
HARMONY = "<|start|> <|channel|>analysis<|message|>"
PLAIN = "{{ messages }}"
CALL = '{"name": "f", "arguments": {"x": "</é>", "n": [1]}}'
ARGUMENTS = {"x": "</é>", "n": [1]}

CASES: dict[str, tuple[str, str, str, str, list[Any]]] = {
    # what was written: template, text; what it means: reasoning, text, calls
    "a call of Hermes": (QWEN, f"<tool_call>\n{CALL}\n</tool_call>", "", "", [ARGUMENTS]),
    "two of them behind text and reasoning": (
        QWEN,
        "<think>\nhm <b\n</think>\n\nSure.\n"
        f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
        "hm <b",
        "Sure.\n",
        [ARGUMENTS, ARGUMENTS],
    ),
    "a call in Qwen3-Coder's XML": (
        QWEN + "<function=<parameter=",
        "<tool_call>\n<function=f>\n<parameter=x>\n</é>\n</parameter>\n<parameter=n>\n[1]\n"
        "</parameter>\n</function>\n</tool_call>",
        "",
        "",
        [ARGUMENTS],
    ),
    "a broken call is text": (
        QWEN,
        "<tool_call>{'a</tool_call> x",
        "",
        "<tool_call>{'a</tool_call> x",
        [],
    ),
    "a call that was cut off is text": (
        QWEN,
        '<tool_call>{"name": "f',
        "",
        '<tool_call>{"name": "f',
        [],
    ),
    "marks behind text are text": (
        QWEN,
        "Use <think> and </think>.",
        "",
        "Use <think> and </think>.",
        [],
    ),
    "what only looks like a mark": (QWEN, "a <tool_cal> <thin", "", "a <tool_cal> <thin", []),
    "reasoning that was cut off": (QWEN, "<think>so <", "so <", "", []),
    "a list of Mistral": (MISTRAL, f"[TOOL_CALLS][{CALL}, {CALL}]", "", "", [ARGUMENTS] * 2),
    "Mistral's newer way": (
        MISTRAL,
        f"[THINK]hm[/THINK]ok[TOOL_CALLS]f[CALL_ID]abc[ARGS]{json.dumps(ARGUMENTS)}",
        "hm",
        "ok",
        [ARGUMENTS],
    ),
    "Llama's whole answer": (
        LLAMA,
        f'{{"name": "f", "parameters": {json.dumps(ARGUMENTS)}}}',
        "",
        "",
        [ARGUMENTS],
    ),
    "Llama's mark": (LLAMA, f"<|python_tag|>{CALL}", "", "", [ARGUMENTS]),
    "an answer in JSON that is no call": (LLAMA, '{"a": 1}', "", '{"a": 1}', []),
    "the JSON that is asked for": (PLAIN, f'{{"tool_call": {CALL}}}', "", "", [ARGUMENTS]),
    "a response in it": (PLAIN, '{"response": "Hi \\u00e9"}', "", "Hi é", []),
    "a text all the same": (PLAIN, "Hi [x]", "", "Hi [x]", []),
    "a call of gpt-oss": (
        HARMONY,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.f <|constrain|>json<|message|>{json.dumps(ARGUMENTS)}",
        "hm",
        "",
        [ARGUMENTS],
    ),
    "an answer of gpt-oss": (
        HARMONY,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi <|",
        "hm",
        "Hi <|",
        [],
    ),
}


def parsed(form: OutputFormat, pieces: list[str]) -> tuple[Answer, list[Any]]:
    answer, events = Answer(), []
    parser = output_parser(form, answer, {"f": {}})
    for piece in pieces:
        events += parser.take(piece, final=False)
    events += parser.take("", final=True)
    return answer, events


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
@given(data=st.data())
def test_however_it_is_cut_an_answer_means_the_same(case: Any, data: st.DataObject) -> None:
    template, text, reasoning, said, calls = case
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    answer, events = parsed(format_of(template, "", call_format(template, None)), pieces)
    assert (answer.joined("reasoning"), answer.joined("text")) == (reasoning, said)
    parts = [segment.part() for segment in answer.calls]
    made = [part for part in parts if isinstance(part, ToolCall)]
    assert [(call.name, call.parsed_arguments()) for call in made] == [("f", c) for c in calls]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == said
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == reasoning
    assert [e.id for e in events if isinstance(e, ToolCallDelta)] == [call.id for call in made]


@given(text=st.text(alphabet='<>thinkol_ca/[]{}"|:\n ', max_size=60), cut=st.integers(0, 60))
def test_nothing_of_any_text_is_lost_or_depends_on_the_cut(text: str, cut: int) -> None:
    form = format_of(QWEN, "", call_format(QWEN, None))
    whole, _ = parsed(form, [text])
    halves, _ = parsed(form, [text[:cut], text[cut:]])
    assert [s.part() for s in whole.segments] == [s.part() for s in halves.segments]


def test_a_template_may_open_the_reasoning_itself() -> None:
    form = format_of(QWEN, "<|im_start|>assistant\n<think>\n", None)
    answer, _ = parsed(form, ["so", "</thi", "nk>\n\nHi"])
    assert (answer.joined("reasoning"), answer.joined("text")) == ("so", "Hi")


def test_without_tools_calls_are_text() -> None:
    answer, _ = parsed(format_of(QWEN, "", None), [f"<tool_call>{CALL}</tool_call>"])
    assert answer.joined("text") == f"<tool_call>{CALL}</tool_call>"


def test_marks_that_may_be_special_tokens_are_named() -> None:
    assert "<|python_tag|>" in format_of(LLAMA, "", call_format(LLAMA, None)).marks
    assert {"[TOOL_CALLS]", "[ARGS]", "[/THINK]"} <= format_of(
        MISTRAL, "", call_format(MISTRAL, None)
    ).marks
    harmony = format_of(HARMONY, "", call_format(HARMONY, None)).marks
    assert {"<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|constrain|>"} <= harmony
    assert format_of(PLAIN, "", None).marks == set()
