"""Calls that are forced: what their values may be, and that they are read again."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from call_reading import output_format, shortest

from nbllm.core.answer import Answer
from nbllm.core.types import ToolCall
from nbllm.local.formats.base import CallFormat, Json
from nbllm.local.formats.table import FORMATS
from nbllm.local.llama.grammar import grammar_text
from nbllm.local.reading.output_parser import output_parser

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
