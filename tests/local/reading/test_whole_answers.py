"""Whole answers with calls: values that hold marks, calls that are cut off, newer families."""

from __future__ import annotations

import time
from typing import Any

import pytest
from call_reading import cut, output_format, read

from nbllm.core.answer import Answer
from nbllm.core.types import ToolCall
from nbllm.local.formats.base import CallFormat
from nbllm.local.formats.table import FORMATS, format_named
from nbllm.local.formats.tagged import QWEN_CODER
from nbllm.local.reading.output_format import format_of
from nbllm.local.reading.output_parser import output_parser

# what was written by a model of Qwen3-Coder's format, whether it was cut off, and what it means
VALUES = {
    "marks in a value": (
        "<tool_call>\n<function=f>\n<parameter=a>\nuse </tool_call> and </function> here"
        "\n</parameter>\n</function>\n</tool_call>",
        False,
        [("f", {"a": "use </tool_call> and </function> here"})],
        "",
    ),
    "a value's own closing mark in it": (
        "<tool_call>\n<function=f>\n<parameter=a>\nx</parameter>y\n</parameter>\n</function>\n"
        "</tool_call>",
        False,
        [("f", {"a": "x</parameter>y"})],
        "",
    ),
    "a lost closing mark of the last value": (
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>",
        False,
        [("f", {"a": "1"})],
        "",
    ),
    "a lost closing mark, and another call": (
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=f>\n<parameter=a>\n2\n</parameter>\n</function>\n</tool_call>",
        False,
        [("f", {"a": "1"}), ("f", {"a": "2"})],
        "",
    ),
    "a lost closing mark before a declared parameter": (
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n<parameter=b>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        False,
        [("f", {"a": "1", "b": 2})],
        "",
    ),
    "a value that ignores its type": (
        "<tool_call>\n<function=f>\n<parameter=b>\nmany\n</parameter>\n</function>\n</tool_call>",
        False,
        [("f", {"b": "many"})],
        "",
    ),
    "cut off in a value": (
        "<tool_call>\n<function=f>\n<parameter=a>\nPar",
        True,
        [],
        "<tool_call>\n<function=f>\n<parameter=a>\nPar",
    ),
    "cut off behind a value": (
        "Hm.<tool_call>\n<function=f>\n<parameter=a>\nParis\n</parameter>",
        True,
        [],
        "Hm.<tool_call>\n<function=f>\n<parameter=a>\nParis\n</parameter>",
    ),
    "ended without the block's mark": (
        "<tool_call>\n<function=f>\n<parameter=a>\nParis\n</parameter>",
        False,
        [("f", {"a": "Paris"})],
        "",
    ),
    "cut off in the second call": (
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n"
        "<function=f>\n<parameter=a>\n2",
        True,
        [("f", {"a": "1"})],
        "<function=f>\n<parameter=a>\n2",
    ),
    "a broken JSON call before a whole one": (
        '<tool_call>{"name": "f", "arguments": {"a": "x}}</tool_call>\n'
        '<tool_call>{"name": "f", "arguments": {"a": "y"}}</tool_call>',
        False,
        [("f", {"a": "y"})],
        '<tool_call>{"name": "f", "arguments": {"a": "x}}</tool_call>\n',
    ),
}
F: dict[str, Any] = {
    "f": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
}


@pytest.mark.parametrize("case", VALUES.values(), ids=list(VALUES))
def test_values_may_hold_marks_and_half_a_call_is_none(case: Any) -> None:
    written, is_cut, wanted, said = case
    for pieces in ([written], list(written), *(cut(written, {n}) for n in range(1, len(written)))):
        answer = Answer()
        parser = output_parser(output_format(QWEN_CODER), answer, F)
        for piece in pieces:
            list(parser.take(piece, final=False))
        list(parser.take("", final=True, cut=is_cut))
        calls = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
        assert [(call.name, call.parsed_arguments()) for call in calls] == wanted
        assert answer.joined("text") == said


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_many_marks_take_time_in_proportion(form: CallFormat) -> None:
    """Twenty thousand characters of marks, which would take minutes if each were looked behind."""
    opening = form.blocks[0][0] if form.blocks else "["
    begun = time.process_time()
    for mark in (opening, '{"a":"'):
        text = opening + mark * (20_000 // len(mark))
        read(output_format(form), [text[n : n + 19] for n in range(0, len(text), 19)])
    assert time.process_time() - begun < 10


# by format: a template, what is written behind a prompt, and what it means
FAMILIES: dict[str, tuple[str, str, str, str, str, list[Any]]] = {
    "Kimi K3": (
        "kimi-k3",
        "<|open|>",
        "<|open|>think<|sep|>",
        "hm<|close|>think<|sep|><|open|>response<|sep|>Sure.<|close|>response<|sep|>"
        '<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|><|open|>argument key="a" '
        'type="string"<|sep|>5<|close|>argument<|sep|><|open|>argument key="b" type="number"<|sep|>'
        "5<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>",
        "Sure.",
        [["f", {"a": "5", "b": 5}]],
    ),
    "Solar Open": (
        "solar",
        "<|think|> <|content|>",
        "<|begin|>assistant",
        "<|think|>hm<|end|><|begin|>assistant<|content|>Sure.<|end|><|begin|>assistant<|tool_calls|>"
        '<|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>f<|tool_call:args|>{"a": "5"}'
        "<|tool_call:end|>",
        "Sure.",
        [["f", {"a": "5"}]],
    ),
    "Hunyuan 3": (
        "hunyuan:opensource",
        ":opensource",
        "<think:opensource>",
        "hm</think:opensource>Sure.<tool_calls:opensource>\n<tool_call:opensource>f"
        "<tool_sep:opensource>\n<arg_key:opensource>a</arg_key:opensource>\n"
        "<arg_value:opensource>5</arg_value:opensource>\n</tool_call:opensource>\n"
        "</tool_calls:opensource>",
        "Sure.",
        [["f", {"a": "5"}]],
    ),
    "Functionary 3.2": (
        "functionary-3.2",
        ">>>${recipient}",
        ">>>",
        'all\nSure.>>>f\n{"a": "5"}',
        "Sure.",
        [["f", {"a": "5"}]],
    ),
    "Muse": (
        "muse",
        "<|message|> to=self",
        "<|start|>assistant",
        " to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>Sure.<|eom|><|start|>"
        'assistant to=f<|message|><atem:function_calls>\n<atem:invoke name="f">\n'
        '<atem:parameter name="a">5</atem:parameter>\n</atem:invoke>\n</atem:function_calls>',
        "Sure.",
        [["f", {"a": "5"}]],
    ),
    "Command R": (
        "command-r",
        "Action:",
        "",
        'Action:\n```json\n[\n    {"tool_name": "f", "parameters": {"a": "5"}}\n]```',
        "",
        [["f", {"a": "5"}]],
    ),
    "MiniCPM 5": (
        "minicpm5",
        "<think>",
        "<think>",
        'hm</think>Sure.<function name="f"><param name="a"><![CDATA[</param></function>]]></param>'
        '<param name="b">5</param></function>',
        "Sure.",
        [["f", {"a": "</param></function>", "b": 5}]],
    ),
    "MiniMax M3": (
        "minimax-m3",
        "<mm:think>",
        "<mm:think>",
        'hm</mm:think>Sure.]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="f">'
        "]<]minimax[>[<a>5"
        "]<]minimax[>[</a>]<]minimax[>[<c>]<]minimax[>[<item>1]<]minimax[>[</item>]<]minimax[>[</c>"
        "]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
        "Sure.",
        [["f", {"a": "5", "c": [1]}]],
    ),
}


@pytest.mark.parametrize("case", FAMILIES.values(), ids=list(FAMILIES))
def test_a_whole_answer_of_a_family_means_the_same_however_it_is_cut(case: Any) -> None:
    name, template, prompt, written, said, wanted = case
    form = format_of(template, prompt, format_named(name))
    for pieces in ([written], list(written), *(cut(written, {n}) for n in range(1, len(written)))):
        answer = Answer()
        parser = output_parser(form, answer, F)
        for piece in pieces:
            list(parser.take(piece, final=False))
        list(parser.take("", final=True))
        calls = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
        assert [[call.name, call.parsed_arguments()] for call in calls] == wanted
        assert answer.joined("text") == said
        assert answer.joined("reasoning") == (
            "" if said == "" or name == "functionary-3.2" else "hm"
        )


# a format's name, what was written, the arguments of the one call in it; None where it is none
LENIENT = {
    "GLM, the value's mark lost": (
        "glm",
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n<arg_key>b</arg_key>\n"
        "<arg_value>3\n</tool_call>",
        {"a": "x", "b": 3},
    ),
    "GLM, the key's mark lost": (
        "glm",
        "<tool_call>f\n<arg_key>a<arg_value>x</arg_value>\n</tool_call>",
        {"a": "x"},
    ),
    "GLM, the value's first mark lost": (
        "glm",
        "<tool_call>f\n<arg_key>a</arg_key>x</arg_value>\n</tool_call>",
        {"a": "x"},
    ),
    "Qwen, two marks lost": (
        "qwen-coder",
        "<tool_call>\n<function=f>\n<parameter=a>\nx\n</tool_call>",
        {"a": "x"},
    ),
    "Qwen, names as attributes": (
        "qwen-coder",
        '<tool_call>\n<function name="f">\n<parameter name="a">\nx\n</parameter>\n</function>\n'
        "</tool_call>",
        {"a": "x"},
    ),
    "Qwen, names in quotes": (
        "qwen-coder",
        '<tool_call>\n<function="f">\n<parameter="a">\nx\n</parameter>\n</function>\n</tool_call>',
        {"a": "x"},
    ),
    "Qwen, arguments in tags that nobody knows": (
        "qwen-coder",
        "<tool_call>\n<function=f>\n<argument a>x</argument>\n</function>\n</tool_call>",
        None,
    ),
    "MiniCPM, the last value's mark lost": (
        "minicpm5",
        '<function name="f"><param name="a">x</param><param name="b">3</function>',
        {"a": "x", "b": 3},
    ),
    "MiniMax, the block's opening mark lost": (
        "minimax",
        '<invoke name="f">\n<parameter name="a">5</parameter>\n</invoke>\n</minimax:tool_call>',
        {"a": "5"},
    ),
    "DeepSeek, the block's opening mark lost": (
        "dsml",
        '<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="a" string="true">5'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        {"a": "5"},
    ),
    "no number of JSON": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"b": NaN}}</tool_call>',
        None,
    ),
    "too large a number": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"b": 1e999}}</tool_call>',
        None,
    ),
    "too large a number of Python": (
        "lfm2",
        "<|tool_call_start|>[f(b=+1.e999)]<|tool_call_end|>",
        None,
    ),
}


@pytest.mark.parametrize("case", LENIENT.values(), ids=list(LENIENT))
def test_no_argument_is_lost_and_arguments_are_json(case: Any) -> None:
    name, written, wanted = case
    for pieces in ([written], list(written)):
        answer = Answer()
        parser = output_parser(output_format(format_named(name)), answer, F)
        for piece in pieces:
            list(parser.take(piece, final=False))
        list(parser.take("", final=True))
        calls = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
        assert [call.parsed_arguments() for call in calls] == ([] if wanted is None else [wanted])
        assert answer.joined("text") == ("" if calls else written)
