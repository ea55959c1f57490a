from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from nbllm.cloud.vendors.anthropic.messages_requests import closed_schema
from nbllm.cloud.vendors.openai.strict_schemas import (
    WrappedAnswer,
    openai_schema,
    strict_schema,
    wraps,
)
from nbllm.core.types import FinishReason, TextDelta

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}},
    },
    "required": ["name"],
    "$defs": {"pet": {"type": "object", "properties": {"legs": {"type": "integer"}}}},
}


def test_strict_mode_closes_every_object_and_requires_every_property() -> None:
    schema, strict = strict_schema(PERSON)
    assert strict
    assert schema["required"] == ["name", "pets"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["pet"]["required"] == ["legs"]
    assert schema["$defs"]["pet"]["additionalProperties"] is False
    assert "additionalProperties" not in PERSON


def test_a_closed_schema_leaves_properties_optional() -> None:
    schema = closed_schema(PERSON)
    assert schema["required"] == ["name"]
    assert schema["$defs"]["pet"] == {**PERSON["$defs"]["pet"], "additionalProperties": False}


@pytest.mark.parametrize(
    "free",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "properties": {}, "patternProperties": {"^x": {}}},
        {"type": ["object", "null"]},
    ],
)
def test_free_keys_cannot_be_strict(free: dict[str, Any]) -> None:
    assert strict_schema(free) == (free, False)
    outer = {"type": "object", "properties": {"inner": {"anyOf": [free, {"type": "null"}]}}}
    assert strict_schema(outer) == (outer, False)


@pytest.mark.parametrize("schema", [{"type": "string"}, {"enum": [1, 2]}, {"anyOf": "odd"}])
def test_other_schemas_stay_as_they_are(schema: dict[str, Any]) -> None:
    assert strict_schema(schema) == (schema, True)
    assert closed_schema(schema) == schema


@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_alternatives_are_tightened_too(key: str) -> None:
    inner = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema, strict = strict_schema({key: [inner, {"type": "null"}], "discriminator": {}})
    assert strict
    assert schema["anyOf"][0]["required"] == ["a"]
    assert "oneOf" not in schema


def test_one_of_all_is_taken_out_of_its_list() -> None:
    schema, strict = strict_schema({"allOf": [{"$ref": "#/$defs/pet"}], "description": "A pet."})
    assert (schema, strict) == ({"$ref": "#/$defs/pet"}, True)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"title": "F"},
        {"type": "object", "properties": {"f": {"title": "F"}}},
        {"not": {"type": "string"}},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
    ],
)
def test_what_strict_mode_cannot_say_is_asked_for_without_it(said: dict[str, Any]) -> None:
    assert strict_schema(said) == (said, False)


@pytest.mark.parametrize("schema", [PERSON, {"type": "object", "properties": {}}])
def test_an_object_is_not_wrapped(schema: dict[str, Any]) -> None:
    assert not wraps(schema)
    assert openai_schema(schema) == strict_schema(schema)


def test_a_list_goes_into_an_object_with_its_references() -> None:
    tree = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/pet"}]}}
    schema, strict = openai_schema({**tree, "$defs": PERSON["$defs"]})
    assert strict
    assert schema["required"] == ["value"]
    assert schema["properties"] == {"value": {"$ref": "#/$defs/value"}}
    first, second = schema["$defs"]["value"]["items"]["anyOf"]
    assert (first, second) == ({"$ref": "#/$defs/value"}, {"$ref": "#/$defs/pet"})
    assert schema["$defs"]["pet"]["additionalProperties"] is False
    jsonschema.validate({"value": [[], {"legs": 4}, [[]]]}, schema)


def test_claude_reads_what_its_schemas_cannot_say() -> None:
    asked = {"type": "integer", "minimum": 1, "maximum": 5, "description": "Stars."}
    schema = closed_schema({"type": "object", "properties": {"stars": asked}})
    described = "Stars.\n\n{minimum: 1, maximum: 5}"
    assert schema["properties"]["stars"] == {"type": "integer", "description": described}


# ------------------------------------------------------------ wrapped answers

VALUES: list[Any] = [[], [1, {"a": "}"}], 'a "}{ \\', 5, None, True, {"value": {"value": 1}}, "é"]


def unwrapped(pieces: list[str]) -> tuple[str, str]:
    answer = WrappedAnswer()
    events = [event for piece in pieces for event in answer.text(piece)]
    answer.ended(FinishReason.STOP, None)
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    return answer.joined("text"), shown


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_a_wrapped_value_is_the_answer_however_it_is_cut(value: Any, style: Any) -> None:
    text = json.dumps({"value": value}, ensure_ascii=False, **style)
    for cut in range(len(text) + 1):
        text_of_all, shown = unwrapped([text[:cut], text[cut:]])
        assert json.loads(text_of_all) == value
        assert text_of_all == shown
    assert json.loads(unwrapped(list(text))[0]) == value


@pytest.mark.parametrize("text", ["[1, 2]", "Sorry, no.", '{"values": 1}', '{"name": 1}', ""])
def test_an_answer_that_is_not_wrapped_stays(text: str) -> None:
    assert unwrapped(list(text)) == (text, text)


def test_what_was_cut_off_is_kept() -> None:
    assert unwrapped(['{"value": [1, '])[0] == "[1, "
    assert unwrapped(['{"val'])[0] == '{"val'
