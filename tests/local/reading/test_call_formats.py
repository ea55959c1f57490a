"""What models of many families write, and what it means: ``written.json`` beside this file."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.answer import Answer
from nbllm.core.grammars.automaton import Automaton
from nbllm.core.grammars.program import compiled
from nbllm.core.types import ToolCall
from nbllm.local.formats.base import CallFormat, Json, NoCallError
from nbllm.local.formats.json_calls import decoded
from nbllm.local.formats.parameters import typed
from nbllm.local.formats.table import FORMATS, PROBE, call_format
from nbllm.local.formats.tagged import QWEN_CODER
from nbllm.local.llama.grammar import grammar_text
from nbllm.local.reading.output_format import BLOCKS, WRAPPERS, Dialect, OutputFormat, format_of
from nbllm.local.reading.output_parser import output_parser

WRITTEN = json.loads(Path(__file__).with_name("written.json").read_text(encoding="utf-8"))
TOOLS = WRITTEN["tools"]
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


DIALECTS: dict[str, Dialect] = {
    "harmony": "harmony",
    "muse": "muse",
    "functionary-3.2": "functionary",
}


def output_format(form: CallFormat, **blocks: Any) -> OutputFormat:
    return OutputFormat(**blocks, calls=form, dialect=DIALECTS.get(form.name, "marks"))


def read(form: OutputFormat, pieces: list[str]) -> tuple[str, str, list[Any], list[Any]]:
    answer, events = Answer(), []
    parser = output_parser(form, answer, TOOLS)
    for piece in pieces:
        events += parser.take(piece, final=False)
    events += parser.take("", final=True)
    calls = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
    made = [[call.name, call.parsed_arguments()] for call in calls]
    return answer.joined("reasoning"), answer.joined("text"), made, events


def cut(text: str, places: set[int]) -> list[str]:
    ends = sorted(places)
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


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


PLACES = {
    "type": "object",
    "properties": {
        "city": {"$ref": "#/$defs/City"},
        "kind": {"const": "k"},
        "html": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "max results": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "kind", "html", "tags", "max results"],
    "additionalProperties": False,
    "$defs": {"City": {"enum": ["Paris", "Rome"]}},
}


def shortest(grammar: str) -> str:
    """The shortest text that follows a grammar, of its own characters and an "a"."""
    automaton = Automaton(compiled(grammar, lambda text: None))
    letters = sorted({*grammar, "a", "1"} - set("^*+?;"))
    todo = deque([(automaton.begin(), "")])
    seen = {id(todo[0][0])}
    while todo:
        state, text = todo.popleft()
        if state.accepts:
            return text
        for letter in (*letters, "\n"):
            automaton.earn()
            onward = automaton.walk(state, letter.encode())
            if onward is not None and id(onward) not in seen:
                seen.add(id(onward))
                todo.append((onward, text + letter))
    raise AssertionError("nothing follows the grammar")


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_forced_call_is_read_again_and_follows_its_schema(form: Any) -> None:
    tool = {"function": {"name": "find", "parameters": PLACES}}
    asked = {"tools": [tool], "tool_choice": "find"}
    text = grammar_text(asked, output_format(form))
    assert text is not None
    answer = Answer()
    parser = output_parser(
        output_format(form),
        answer,
        {"find": PLACES},
    )
    assert list(parser.take(shortest(text), final=True))
    (call,) = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
    assert call.name == "find"
    jsonschema.validate(call.parsed_arguments(), PLACES)


def bound(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


BOUND = {
    "a pattern": bound(a={"type": "string", "pattern": "^[A-Z][a-z]{2}$"}),
    "a pattern with a length": bound(a={"type": "string", "pattern": "^[ab]+$", "minLength": 3}),
    "a length": bound(a={"type": "string", "minLength": 2, "maxLength": 3}),
    "a format": bound(a={"type": "string", "format": "date"}),
    "line breaks": bound(a={"enum": ["\n", "\n\n"]}),
    "a blank in a pattern": bound(a={"type": "string", "pattern": "^\\s{1,2}x"}),
    "values of many types": bound(a={"enum": ["1", 2, None]}),
    "numbers": bound(a={"type": "integer", "minimum": 3, "maximum": 17}),
    "a text or null": bound(a={"type": ["string", "null"], "minLength": 3}),
    "a text or a number": bound(a={"anyOf": [{"type": "string"}, {"type": "integer"}]}),
    "lists of objects": bound(a={"type": "array", "minItems": 1, "items": bound(b={"const": "x"})}),
    "branches": {"oneOf": [bound(a={"const": "one"}), bound(b={"type": "boolean"})]},
    "a reference": {
        "$ref": "#/$defs/R",
        "$defs": {"R": bound(a={"$ref": "#/$defs/S"}), "S": {"enum": ["p"]}},
    },
    "parts": {
        "allOf": [bound(a={"enum": ["x", "y"]}), bound(a={"enum": ["y", "z"]}, b={"type": "null"})]
    },
}


OWN = [form for form in FORMATS if form.name == "hermes" or Json() not in form.forced]
"""The formats that write arguments in a way of their own, and one that writes them as JSON."""


@pytest.mark.parametrize("form", OWN, ids=lambda form: form.name)
@pytest.mark.parametrize("schema", BOUND.values(), ids=list(BOUND))
def test_a_forced_call_follows_what_binds_its_values(form: CallFormat, schema: Any) -> None:
    tool = {"function": {"name": "find", "parameters": schema}}
    text = grammar_text({"tools": [tool], "tool_choice": "find"}, output_format(form))
    assert text is not None
    answer = Answer()
    parser = output_parser(output_format(form), answer, {"find": schema})
    written = shortest(text)
    assert list(parser.take(written, final=True, cut=True)), written
    (call,) = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
    jsonschema.validate(call.parsed_arguments(), schema)
    assert not answer.joined("text").strip()


@pytest.mark.parametrize("form", OWN, ids=lambda form: form.name)
def test_every_branch_of_parameters_can_be_forced(form: CallFormat) -> None:
    branches = [bound(a={"const": "two"}), bound(b={"const": 345})]
    tool = {"function": {"name": "find", "parameters": {"anyOf": branches}}}
    text = grammar_text({"tools": [tool], "tool_choice": "find"}, output_format(form))
    assert text is not None
    assert "two" in text
    assert "345" in text


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
F = {"f": bound(a={"type": "string"}, b={"type": "integer"})}


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
