"""Values held against schemas, beside jsonschema where that knows the keyword."""

from __future__ import annotations

import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_violations import violation


def problem(schema: Any, value: Any) -> str | None:
    document = Document(schema)
    return violation(document, [document.root], value)


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "integer"}, 1.5, "the value must be of type integer (got 1.5)"),
        ({"type": ["integer", "null"]}, "a", "the value must be of type integer or null (got 'a')"),
        ({"type": "number"}, True, "the value must be of type number (got True)"),
        ({"const": 1}, True, "the value must be 1 (got True)"),
        ({"enum": ["a", "b"]}, "c", "the value must be one of 'a', 'b' (got 'c')"),
        ({"minLength": 2}, "a", "the value must have at least 2 characters (got 'a')"),
        ({"pattern": "^b"}, "a", "the value: 'a' does not match the pattern ^b"),
        ({"exclusiveMinimum": 3}, 3, "the value must be above 3 (got 3)"),
        ({"minimum": 3, "exclusiveMinimum": True}, 3, "the value must be above 3 (got 3)"),
        ({"maximum": 3}, 3.5, "the value must be at most 3 (got 3.5)"),
        ({"multipleOf": 0.1}, 0.35, "the value must be a multiple of 0.1 (got 0.35)"),
        ({"multipleOf": 2}, float("inf"), "the value must be a multiple of 2 (got inf)"),
        ({"required": ["a"]}, {}, "the value: 'a' is missing"),
        (
            {"properties": {"a": {"items": {"type": "string"}}}},
            {"a": ["x", 1]},
            "a[1] must be of type string (got 1)",
        ),
        ({"additionalProperties": False}, {"b": 1}, "b must not be present"),
        ({"minItems": 2}, [1], "the value must have at least 2 items (got 1)"),
        ({"uniqueItems": True}, [1, 1.0], "the value must not have duplicate items"),
        ({"not": {"type": "null"}}, None, "the value: None matches the schema in not"),
        ({"oneOf": [{}, True]}, 1, "the value: 1 matches 2 schemas in oneOf, not exactly one"),
        ({"anyOf": [{"type": "string"}, False]}, 1, "the value: 1 matches none of the "
"2 schemas in anyOf"),
        ({"contains": {"const": 1}}, [2], "the value must contain at least 1 items "
"that match contains (got 0)"),
        ({"if": {"minimum": 5}, "then": {"const": 7}}, 6, "the value must be 7 (got 6)"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "the value: 'b' is required "
"when 'a' is present"),
        ({"propertyNames": {"enum": ["a"]}}, {"b": 1}, "the value must be one of 'a' (got 'b')"),
        (
            {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
            {"a": 1, "b": 2},
            "b must not be present",
        ),
        ({"prefixItems": [True], "unevaluatedItems": False}, [1, 2], "[1] must not be present"),
    ],
)  # fmt: skip
def test_a_violation_is_told_with_its_place(schema: Any, value: Any, told: str) -> None:
    assert problem(schema, value) == told


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 1.0),
        ({"const": 1}, 1.0),
        ({"multipleOf": 0.1}, 0.3),
        ({"type": "string", "nullable": True}, None),
        ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}]),
        ({"enum": [[1, {"a": None}]]}, [1.0, {"a": None}]),
    ],
)
def test_what_json_holds_for_the_same_is(schema: Any, value: Any) -> None:
    assert problem(schema, value) is None


LEAVES: list[Any] = [
    True,
    False,
    {},
    {"type": "string"},
    {"type": ["integer", "null"]},
    {"minimum": 1, "exclusiveMaximum": 5},
    {"minLength": 1, "maxLength": 2},
    {"pattern": "^a"},
    {"enum": [1, "a", None]},
    {"const": {"a": 1}},
    {"multipleOf": 2},
    {"required": ["a"]},
    {"minItems": 1, "uniqueItems": True},
    {"minProperties": 1, "maxProperties": 2},
    {"propertyNames": {"pattern": "^[ab]$"}},
    {"dependentRequired": {"a": ["b"]}},
    {"$ref": "#/$defs/x"},
]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=2)
    maps = st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": maps,
            "additionalProperties": inner,
            "patternProperties": inner.map(lambda schema: {"^b": schema}),
            "items": inner,
            "prefixItems": several,
            "contains": inner,
            "anyOf": several,
            "oneOf": several,
            "allOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "unevaluatedProperties": inner,
            "unevaluatedItems": inner,
            "dependentSchemas": maps,
        },
    )


SCHEMAS = st.builds(
    lambda schema, extra: {"allOf": [schema], "$defs": {"x": extra}},
    st.recursive(st.sampled_from(LEAVES), nested, max_leaves=5),
    st.sampled_from(LEAVES[:-1]),
)
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2.0, 4.5, "", "a", "ab", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=600, deadline=None)
@given(SCHEMAS, VALUES)
def test_jsonschema_finds_the_same(schema: dict[str, Any], value: Any) -> None:
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (problem(schema, value) is None) is expected


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"not": {"$ref": "#"}},
        {"if": {"$ref": "#"}, "then": {"$ref": "#"}},
        {"items": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}], "type": "null"}},
    ],
)
def test_a_check_ends_whatever_the_schema(schema: Any) -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    began = time.process_time()
    problem(schema, value)
    assert time.process_time() - began < 10


def test_what_is_too_deep_to_be_checked_says_so() -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    told = "it is too large or nested too deeply to be checked against the schema"
    assert problem({"items": {"$ref": "#"}, "type": "array"}, value) == told
    assert problem({"items": {"minimum": 1}}, [2] * 200_000) == told
    for _ in range(700):
        value = [value]
    assert problem({"const": 1}, value) == told
    assert problem({"uniqueItems": True}, [value, value]) == told


def test_a_schema_among_its_own_alternatives_adds_nothing() -> None:
    schema = {"anyOf": [{"$ref": "#"}, {"type": "string"}]}
    assert problem(schema, "a") is None
    assert problem(schema, 1) is not None
