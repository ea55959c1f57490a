"""Prompts from rows: only columns and formats, whatever stands in them."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.batches.template import Template
from nbllm.core.errors import InvalidOptionError

ROW: dict[str, Any] = {
    "text": "a {b} {{c}}",
    "n": 3,
    "x": 2.5,
    "numpy": np.float64(1.25),
    "day": datetime.date(2026, 11, 28),
    "tags": ["a", "b"],
    "two words": "x",
}


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("Say {text}.", "Say a {b} {{c}}."),
        ("{{n}} is {n}", "{n} is 3"),
        ("{n:03d} {x:.2f} {numpy:.1f}", "003 2.50 1.2"),
        ("{day:%d.%m.%Y} {day}", "28.11.2026 2026-11-28"),
        ("{tags}", "a, b"),
        ("{ n } {two words}", "3 x"),
    ],
)
def test_a_row_fills_the_prompt(template: str, prompt: str) -> None:
    assert Template.of(template, ROW).fill(ROW) == prompt


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{nn}", r"\{nn\} is not a column\. Did you mean 'n'\? The columns are text, n"),
        ("{text.__class__}", r"\{text\.__class__\} is not a column"),
        ("{text[0]}", r"\{text\[0\]\} is not a column"),
        ("{}", r"\{\} is not a column"),
        ("{n", "template: "),
        ("n}", "template: "),
        ("{n!r}", r"\{n!…\} is not supported"),
        ("{n:{x}}", r"\{n!…\} is not supported"),
        ("nothing", "names no column, so that every row would ask the same"),
    ],
)
def test_what_is_no_column_is_refused(template: str, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        Template.of(template, ROW)


@pytest.mark.parametrize("value", [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
def test_a_missing_value_fails_its_row(value: Any) -> None:
    with pytest.raises(InvalidOptionError, match="the value of 'n' is missing"):
        Template.of("{n}", ["n"]).fill({"n": value})


@pytest.mark.parametrize("spec", ["9999999999d", "5000d", "z", "%Y", ".9999f", ">99999"])
def test_a_format_is_bounded(spec: str) -> None:
    with pytest.raises(InvalidOptionError, match="template: "):
        Template.of(f"{{n:{spec}}}", ["n"]).fill({"n": 3})


@given(text=st.text(alphabet="{}ab!:.[]0% ", max_size=20))
def test_any_template_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidOptionError):
        Template.of(text, ["a", "b"]).fill({"a": 1, "b": "x"})
