"""What models of many families write, and what it means: ``written.json`` beside this file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from call_reading import TOOLS, WRITTEN, cut, output_format, read
from hypothesis import given
from hypothesis import strategies as st

from nbllm.local.formats.argument_values import typed
from nbllm.local.formats.base import NoCallError
from nbllm.local.formats.json_calls import decoded
from nbllm.local.formats.table import FORMATS, PROBE, call_format
from nbllm.local.reading.output_format import BLOCKS, WRAPPERS, OutputFormat, format_of

PIECES = sorted(
    {mark for form in FORMATS for block in form.blocks for mark in block if mark}
    | {mark for pair in (*BLOCKS, *WRAPPERS) for mark in (pair.open, pair.close)}
    | {
        '{"name": "get_time", "arguments": ',
        '{"city": "x"}',
        "}",
        "[",
        "]",
        "(",
        '"',
        "\\",
        "get_time",
    }
    | {
        "<function=get_time>",
        "<parameter=city>",
        "</parameter>",
        "<arg_key>",
        "call:get_time{",
        "a ",
    }
    | {"<|message|>", "<|start|>", " to=functions.get_time", "\n", "é", "[get_time(city=", ","}
)


@pytest.mark.parametrize("case", WRITTEN["cases"], ids=lambda case: case["written"][:40])
def test_what_is_written_means_the_same_however_it_is_cut(case: Any) -> None:
    text = case["written"]
    form = format_of(case["template"], case.get("prompt", ""), call_format(case["template"], None))
    expected = case.get("reasoning", ""), case.get("text", ""), case.get("calls", [])
    for pieces in ([text], list(text), *(cut(text, {n, n + 7}) for n in range(1, len(text) - 7))):
        assert read(form, pieces)[:3] == expected


@given(
    form=st.sampled_from(FORMATS),
    pieces=st.lists(st.sampled_from(PIECES), max_size=12),
    data=st.data(),
)
def test_any_mixture_of_marks_is_read_the_same_however_it_is_cut(
    form: Any, pieces: list[str], data: st.DataObject
) -> None:
    text = "".join(pieces)
    whole = output_format(form, blocks=BLOCKS, wrappers=WRAPPERS)
    places = data.draw(st.sets(st.integers(0, len(text)), max_size=6))
    assert read(whole, cut(text, places))[:3] == read(whole, [text])[:3]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@given(body=st.text(alphabet="{}[]()\":,\\'= \nafgt1.-<>/|", max_size=200))
def test_no_body_breaks_a_reader(form: Any, body: str) -> None:
    for text in (body, body * 50, "[" * 5_000 + body, '{"a":' * 5_000):
        try:
            calls = form.read(text, TOOLS)
        except NoCallError:
            continue
        assert all(isinstance(p, str) or isinstance(decoded(p.arguments), dict) for p in calls)


@pytest.mark.parametrize(
    ("value", "schema", "meant"),
    [
        ("5123123", {"type": "string"}, "5123123"),
        ("1e5", {"type": "string"}, "1e5"),
        ("true", {"type": "string"}, "true"),
        ("5", {"type": "integer"}, 5),
        ("5.0", {"type": "number"}, 5.0),
        ("True", {"type": "boolean"}, True),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("hm", {"type": ["string", "null"]}, "hm"),
        ("7", {"enum": ["7", "8"]}, "7"),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("[1, 2]", {"$ref": "#/$defs/L"}, [1, 2]),
        ("so", {"type": "integer"}, "so"),
        ("12", True, 12),
        ("12a", True, "12a"),
    ],
)
def test_a_value_has_the_type_that_the_schema_says(value: str, schema: Any, meant: Any) -> None:
    root = {"$defs": {"L": {"type": "array"}}}
    assert json.loads(typed(value, schema, root)) == meant


CALL = '{"name": "nbllm_probe", "arguments": {"nbllm_key": "nbllm value"}}'


@pytest.mark.parametrize(
    ("template", "written", "name"),
    [
        (
            "<tool_call>",
            f"<|im_start|>assistant\n<tool_call>\n{CALL}\n</tool_call><|im_end|>",
            "hermes",
        ),
        (
            "tools <tool_call> <function= <parameter=",
            "<tool_call>\n<function=nbllm_probe>\n<parameter=nbllm_key>\nnbllm value\n"
            "</parameter>\n</function>\n</tool_call>",
            "qwen-coder",
        ),
        ("[TOOL_CALLS]", f"<s>[INST] x[/INST][TOOL_CALLS] [{CALL}]</s>", "mistral"),
        (
            "[TOOL_CALLS] [ARGS]",
            '[TOOL_CALLS]nbllm_probe[ARGS]{"nbllm_key": "nbllm value"}</s>',
            "mistral-named",
        ),
        (
            "<|start_header_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
            '{"name": "nbllm_probe", "parameters": {"nbllm_key": "nbllm value"}}<|eot_id|>',
            "llama",
        ),
        (
            "",
            '<|tool_call>call:nbllm_probe{nbllm_key:<|"|>nbllm value<|"|>}<tool_call|><turn|>',
            "gemma",
        ),
        ("", f"<TOOLCALL>[{CALL}]</TOOLCALL><SPECIAL_12>", "nemotron"),
        (
            "",
            '<|tools_prefix|>[{"nbllm_probe": {"nbllm_key": "nbllm value"}}]<|tools_suffix|>',
            "apertus",
        ),
        ("", f"assistant: [{CALL}]<|endoftext|>", "bare-list"),
        (
            "",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.nbllm_probe:0"
            '<|tool_call_argument_begin|>{"nbllm_key": "nbllm value"}<|tool_call_end|>'
            "<|tool_calls_section_end|>",
            "kimi",
        ),
        (
            "",
            '<function name="nbllm_probe"><param name="nbllm_key">nbllm value</param></function>',
            "minicpm5",
        ),
        ("", '>>>nbllm_probe\n{"nbllm_key": "nbllm value"}<|eot_id|>', "functionary-3.2"),
        (
            "",
            '<tool_call>\n{"name": "nbllm_probe, "arguments": {"nbllm_key": "nbllm value"}"}\n'
            "</tool_call><|im_end|>",
            "generic",
        ),
        ("{{ tools }}", "Calls nbllm_probe with nbllm value.", "generic"),
        ("{{ tools }}", None, "generic"),
        ("{{ tools }} <|tool_call_start|>", None, "lfm2"),
        ("<|channel|> <|message|>", None, "harmony"),
    ],
)
def test_a_template_has_the_format_that_reads_what_it_writes(
    template: str, written: str | None, name: str
) -> None:
    assert PROBE.name in CALL
    assert call_format(template, written).name == name


def test_the_tool_may_be_described_before_its_call() -> None:
    described = '{"name": "nbllm_probe", "parameters": {"properties": {"nbllm_key": {}}}}'
    written = f"<tools>{described}</tools>\n<tool_call>\n{CALL}\n</tool_call><|im_end|>\n"
    assert call_format("<tools> <tool_call>", written).name == "hermes"
    numbered = f'[TOOL_CALLS] [{CALL[:-1]}, "id": "probe0000"}}]</s>'
    assert (
        call_format("[TOOL_CALLS]", f"[AVAILABLE_TOOLS] [{described}]{numbered}").name == "mistral"
    )


@pytest.mark.parametrize("name", ["generic", "llama", "bare-list"])
def test_brackets_in_a_text_that_is_still_open_end_no_call(name: str) -> None:
    form = next(form for form in FORMATS if form.name == name)
    text = '{"name": "python", "arguments": {"code": "}}} ] end"}}'
    assert read(OutputFormat(calls=form), list(text))[2] == [["python", {"code": "}}} ] end"}]]
