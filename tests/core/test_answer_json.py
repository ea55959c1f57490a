"""JSON as models write it: read where it has one meaning, else refused with the place."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbllm.core.answer_json import json_of
from nbllm.core.errors import AnswerFormError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1,2,]", [1, 2]),
        ("{'a': 1}", {"a": 1}),
        ('{"a": True, "b": None,}', {"a": True, "b": None}),
        ("```json\n[1,2,]\n```", [1, 2]),
        ('Here you go:\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ("```json5\n{a: 1}\n```", {"a": 1}),
        ("```python\nx = {'a': 1}\n```", {"a": 1}),
        ('```python\nx = a[0]\n```\n\n{"a": 1, "b": 2}', {"a": 1, "b": 2}),
        ('Sure: {"a": 1,} I hope this helps (see [the docs]).', {"a": 1}),
        ("The answer is [1,2,] as you know [see].", [1, 2]),
        ("Use {x} and [y] and {note: that}: [3]", [3]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('```jsonl\n{"a": 1}\n\n{"a": 2}\n```', [{"a": 1}, {"a": 2}]),
        ("{a: 1, b-c: 'x'}", {"a": 1, "b-c": "x"}),
        ("{1: 'a'}", {"1": "a"}),
        (
            '{"a": 1, // one\n "b": 2, # two\n /* more */ "c": "// no"}',
            {"a": 1, "b": 2, "c": "// no"},
        ),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        (r'{"a": "\d\/\u00e9\ud83c\udf89"}', {"a": "\\d/é🎉"}),
        (r"{'a': 'it\'s \x41 \U0001F389'}", {"a": "it's A 🎉"}),
        ("[.5, +1, -2., 1e3, 0]", [0.5, 1, -2.0, 1000.0, 0]),
        ("[]", []),
        ("null", None),
        ("[1, 2] // done", [1, 2]),
        ("{{'a': 1}}", {"a": 1}),
    ],
)
def test_what_has_one_meaning_is_read(text: str, value: Any) -> None:
    assert json_of(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1 2]", "broken JSON at line 1, column 4: Expecting ',' delimiter"),
        ("[1, 2", "broken JSON at line 1, column 6: Expecting ',' delimiter"),
        ("[1, 2, ...]", "broken JSON at line 1, column 8: Expecting value"),
        ('{"a": 1,\n "b": 2,, "c": 3}', "broken JSON at line 2, column 9: Expecting property name"),
        ('{"a": "he said "hi""}', "broken JSON at line 1, column 17: Expecting ',' delimiter"),
        ('{"price": 1_000}', "broken JSON at line 1, column 11: Expecting value"),
        ('{"a": 01}', "broken JSON at line 1, column 7: Expecting value"),
        ('{"a" 1}', "broken JSON at line 1, column 6: Expecting ':' delimiter"),
        ("['it's']", "broken JSON at line 1, column 6"),
        ("{“a”: 1}", "broken JSON at line 1, column 2: Expecting property name"),
        ("[,1]", "broken JSON at line 1, column 2: Expecting value"),
        ('First [1, 2], then {"a": oops}', "broken JSON at line 1, column 26"),
        ("No rows were found.", "no object or array"),
        ("", "no object or array"),
        (f"[{'9' * 5000}]", "a number that is too long"),
        ("[" * 100_000, "nested too deeply"),
        ("[/*" * 50_000, "broken JSON"),
        ("{'a" * 50_000, "broken JSON"),
        ("[#" * 50_000, "broken JSON"),
    ],
)
def test_what_has_not_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(AnswerFormError, match="(?s)" + problem) as caught:
        json_of(text)
    assert caught.value.text == text


def test_numbers_that_json_does_not_have() -> None:
    assert json_of("{'a': Infinity, 'b': -Infinity}") == {"a": math.inf, "b": -math.inf}
    assert math.isnan(json_of("[NaN]")[0])


@given(st.text("[]{}:,'\"#/* \\na1.-\n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(AnswerFormError):
        json.dumps(json_of(text))


@settings(max_examples=8, deadline=None)
@given(st.text("[{:'#/*)a1 \n", min_size=1, max_size=4))
@example("[/*")
@example("[)")
@example("{a")
def test_the_time_for_any_repeated_text_is_linear(unit: str) -> None:
    """With 100,000 characters a quadratic reader takes ten times as long as is allowed."""
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    with suppress(AnswerFormError):
        json_of(text)
    assert time.process_time() - began < 1.5
