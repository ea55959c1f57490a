"""Schemas are read as a whole, and what is wrong in one is told with its place."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_keywords import SchemaError
from nbllm.core.schemas.schema_violations import violation

CIRCULAR: dict[str, Any] = {"type": "object"}
CIRCULAR["properties"] = {"a": CIRCULAR}
DEEP: dict[str, Any] = {}
for _ in range(100_000):
    DEEP = {"items": DEEP}
WIDE: dict[str, Any] = {"type": "string"}
for _ in range(40):
    WIDE = {"anyOf": [WIDE, WIDE]}


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        ({"type": "objekt"}, "/type", "must be one of null, boolean"),
        ({"properties": {"a/b": {"type": ["string", "x"]}}}, "/properties/a~1b/type",
         "must be one of null"),
        ({"items": {"type": []}}, "/items/type", "must be one of null"),
        ({"$ref": "http://x.test/y"}, "/$ref", "refers outside the schema; put its target under"),
        ({"$ref": "other.json#/a"}, "/$ref", "refers outside the schema"),
        ({"$ref": "http://[::1"}, "/$ref", "refers outside the schema"),
        ({"$ref": "#/nowhere"}, "/$ref", "does not refer to a schema"),
        ({"$ref": "#nowhere"}, "/$ref", "does not refer to a schema"),
        ({"$ref": "#/enum", "enum": [1]}, "/$ref", "does not refer to a schema"),
        ({"$ref": 5}, "/$ref", "must be a string"),
        ({"$ref": "#"}, "", "refers back to itself"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
            "/$defs/a",
            "refers back to itself",
        ),
        (
            {"properties": {"x": {"$ref": "#/parts/S"}}, "parts": {"S": {"type": "wrong"}}},
            "/parts/S/type",
            "must be one of null",
        ),
        ({"pattern": "^*$"}, "/pattern", r"the pattern '\^\*\$' has nothing to repeat, at"),
        ({"patternProperties": {"(": {}}}, "/patternProperties", r"'\('"),
        ({"pattern": 5}, "/pattern", "must be a string"),
        ({"required": "a"}, "/required", "a list of property names"),
        ({"properties": ["a"]}, "/properties", "must be an object"),
        ({"properties": {"f": len}}, "/properties/f", "builtin_function_or_method is not JSON"),
        ({"properties": {"f": None}}, "/properties/f", "None is not a schema"),
        ({"items": "string"}, "/items", "'string' is not a schema"),
        ({"propertyNames": [1]}, "/propertyNames", "is not a schema"),
        ({"anyOf": []}, "/anyOf", "a list of schemas"),
        ({"anyOf": {"a": 1}}, "/anyOf", "a list of schemas"),
        ({"enum": []}, "/enum", "a list of values"),
        ({"minLength": -1}, "/minLength", "an integer of at least 0"),
        ({"maxItems": True}, "/maxItems", "an integer of at least 0"),
        ({"minimum": "3"}, "/minimum", "a number"),
        ({"multipleOf": 0}, "/multipleOf", "a number above 0"),
        ({"const": 10**5000}, "/const", "must have at most 400 digits"),
        ({"const": float("nan")}, "/const", "not a JSON number"),
        ({"enum": ["a", "\ud83d"]}, "/enum/1", r"lone surrogate \(U\+D83D\)"),
        ({"properties": {"\ud83d": {}}}, "/properties", "lone surrogate"),
        ({"properties": {1: {}}}, "/properties", r"keys must be strings \(got 1\)"),
        ({"const": {1, 2}}, "/const", "type set is not JSON"),
        ({"pattern": "a" * 30_000}, "/pattern",
         r"the pattern 'a+\.\.\.a+' has more than 20,000 characters"),
        ({"pattern": "*"}, "/pattern", r"the pattern '\*' has nothing to repeat, at character 1"),
        (CIRCULAR, "/properties/a", "levels deep, or contains itself"),
        (DEEP, "/items/items", "100 levels deep"),
        (WIDE, "/anyOf", "too large"),
        ({"description": "x" * 5_000_000}, "/description", "too large"),
        (5, "", "5 is not a schema"),
        (None, "", "None is not a schema"),
        ([], "", "is not a schema"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_schema_is_told_with_its_place(
    schema: Any, place: str, reason: str
) -> None:
    began = time.process_time()
    with pytest.raises(SchemaError, match=reason) as caught:
        Document(schema)
    assert caught.value.place.startswith(place)
    assert "\n" not in str(caught.value)
    assert time.process_time() - began < 5


NAMED = {"type": "string", "maxLength": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": NAMED}},
        {"$ref": "#/definitions/a", "definitions": {"a": NAMED}},
        {"$ref": "#/components/schemas/a", "components": {"schemas": {"a": NAMED}}},
        {"$ref": "#/$defs/a~1b%25~0%C3%A9", "$defs": {"a/b%~é": NAMED}},
        {"$ref": "#/$defs/l/anyOf/1", "$defs": {"l": {"anyOf": [{}, NAMED]}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": NAMED}},
        {"$ref": "#name", "$defs": {"a": {"$anchor": "name", **NAMED}}},
        {"$dynamicRef": "#name", "$defs": {"a": {"$dynamicAnchor": "name", **NAMED}}},
        {"$ref": "#name", "definitions": {"a": {"$id": "#name", **NAMED}}},
        {"$id": "http://x.test/y", "$ref": "#/$defs/a", "$defs": {"a": NAMED}},
        {"$id": "http://x.test/y", "$ref": "y#/$defs/a", "$defs": {"a": NAMED}},
        {"$id": "http://x.test/y", "$ref": "/z", "$defs": {"a": {"$id": "/z", **NAMED}}},
        {"$id": "x:y", "$ref": "x:y#n", "$defs": {"a": {"$anchor": "n", **NAMED}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"id": "odd", "$ref": "#/$defs/b"}, "b": NAMED}},
        {"$ref": "#/$defs/free", "maxLength": 1, "type": "string", "$defs": {"free": True}},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": NAMED}},
    ],
)  # fmt: skip
def test_references_within_a_schema_are_followed(schema: dict[str, Any]) -> None:
    document = Document(schema)
    assert violation(document, [document.root], "a") is None
    assert violation(document, [document.root], "ab") is not None
    assert violation(document, [document.root], 1) is not None


def test_a_schema_may_be_in_itself_below_a_property() -> None:
    document = Document({"type": "object", "properties": {"inner": {"$ref": "#"}}})
    assert violation(document, [document.root], {"inner": {"inner": {}}}) is None
    found = violation(document, [document.root], {"inner": {"inner": 5}})
    assert found == "inner.inner must be of type object (got 5)"


def test_many_references_take_little_time() -> None:
    properties = {f"p{n}": {"$ref": "#/$defs/all"} for n in range(5_000)}
    everything = {"properties": {f"q{n}": {"$ref": "#"} for n in range(5_000)}}
    began = time.process_time()
    Document({"properties": properties, "$defs": {"all": everything}})
    assert time.process_time() - began < 5


def test_the_users_schema_is_not_changed_or_shared() -> None:
    shared = {"type": "string"}
    schema = {"properties": {"a": shared, "b": shared}}
    document = Document(schema)
    assert schema == {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    root: Any = document.root
    assert root["properties"]["a"] is not root["properties"]["b"]
