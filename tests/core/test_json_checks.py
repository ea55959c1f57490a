"""Schemas and their like: what JSON cannot hold is refused at the door, naming the place."""

from __future__ import annotations

import datetime
import json
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.errors import InvalidOptionError
from nbllm.core.json_checks import json_object, json_problem
from nbllm.core.options import GenerationOptions, Tool


def circular() -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "object"}
    inner["properties"] = {"again": [inner]}
    return inner


def wide() -> list[Any]:
    """A small structure that is 2**60 values as JSON."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"items": value}
    return value


HOSTILE: dict[str, tuple[Any, str]] = {
    "circular": (circular(), "contains itself"),
    "doubled": ({"x": wide()}, "100,000 values"),
    "deep": (deep(100_000), "200 levels"),
    "huge": ({"const": 10**5000}, "too large"),
    "huge below zero": ({"const": -(10**5000)}, "too large"),
    "nan": ({"const": float("nan")}, "nan is not a JSON number"),
    "infinite": ({"maximum": float("inf")}, "inf is not a JSON number"),
    "half": ({"const": "caf\ud83d"}, "lone surrogate"),
    "half a key": ({"\udc80": 1}, "lone surrogate"),
    "bytes": ({"const": b"x"}, "b'x' is not a JSON value"),
    "set": ({"enum": {1}}, "is not a JSON value"),
    "number of numpy": ({"const": np.int64(1)}, "is not a JSON value"),
    "array": ({"enum": np.zeros(2)}, "is not a JSON value"),
    "date": ({"const": datetime.date(2026, 1, 1)}, "is not a JSON value"),
    "object": ({"const": object()}, "is not a JSON value"),
    "class": ({"const": int}, "is not a JSON value"),
    "key of another type": ({1: "x"}, "keys must be strings"),
    "no mapping": ([1], "must be a mapping"),
    "a text": ("{}", "must be a mapping"),
    "a number": (5, "must be a mapping"),
}


@pytest.mark.parametrize("option", ["response_schema", "extra"])
@pytest.mark.parametrize(("value", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_what_json_cannot_hold_is_refused_by_the_option(
    option: str, value: Any, problem: str
) -> None:
    with pytest.raises(InvalidOptionError, match=problem) as caught:
        GenerationOptions(**{option: value})
    assert caught.value.option == option
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("value", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_a_tool_is_refused_as_soon_as_it_is_made(value: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        Tool("f", "Does it.", value)


def test_the_place_is_named() -> None:
    schema = {"properties": {"when": {"enum": ["now", datetime.date(2026, 1, 1)]}}}
    with pytest.raises(InvalidOptionError, match=r"properties\.when\.enum\.\[1\]"):
        GenerationOptions(response_schema=schema)


def test_what_is_kept_is_a_plain_copy() -> None:
    given_schema = MappingProxyType({"enum": ("a", np.str_("b"), np.float64(0.5))})
    kept = GenerationOptions(response_schema=given_schema).response_schema
    assert kept == {"enum": ["a", "b", 0.5]}
    assert json.dumps(kept) == '{"enum": ["a", "b", 0.5]}'


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANYTHING = st.recursive(
    JSON | st.binary() | st.floats() | st.text(st.characters(codec=None)) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_stays_what_it_is(value: dict[str, Any]) -> None:
    assert json_object("extra", value) == value
    assert json_problem(value) is None


@given(st.dictionaries(st.text(), ANYTHING, max_size=4))
def test_whatever_passes_can_be_sent(value: dict[str, Any]) -> None:
    try:
        kept = json_object("extra", value)
    except InvalidOptionError:
        return
    text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
    text.encode()
    assert json.loads(text) == kept
