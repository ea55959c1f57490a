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
        (
            "{nn}",
            r"has \{nn\}, which is not a column\. Did you mean 'n'\? The columns are text, n",
        ),
        ("{text.__class__}", "but attributes and items of values are not read"),
        ("{text[0]}", "but attributes and items of values are not read"),
        ("{}", "without a column's name. The columns are text, n"),
        ("{n", "template has a single {"),
        ("n}", "template has a single }"),
        ("{n!r}", r"conversions are not supported; write \{n\}"),
        ("{n!r:>9}", r"conversions are not supported; write \{n\}"),
        ("{n:{x}}", "template has a single {"),
        ('{"n": {n}}', "Braces that are text are doubled: {{ and }}"),
        ("nothing", "has no column in braces, so that every row"),
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


@pytest.mark.parametrize(
    "name", ["a.b", "a[0]", "a b", "a!r", "price: USD", "a:>10", "0", "%", "a-b", "é", "'", " a "]
)
def test_a_column_may_be_called_anything_without_braces(name: str) -> None:
    template = Template.of(f"{{{name}}} {{ {name} :>4}}", [name])
    assert template.fill({name: "x"}) == "x    x"


def test_the_longest_name_that_fits_is_meant() -> None:
    row = {"when": datetime.datetime(2026, 11, 29, 9, 5), "a": 1, "a:b": 2}
    template = Template.of("{when:%H:%M} {a:b} {a:b:>3} {a:02d}", row)
    assert template.fill(row) == "09:05 2   2 01"


def test_a_value_that_cannot_be_text_fails_its_row_alone() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(InvalidOptionError, match="the value of 'x' cannot be made text: no text"):
        Template.of("{x}", ["x"]).fill({"x": Broken()})


def test_a_column_that_is_there_twice_is_refused_where_it_is_named() -> None:
    assert Template.of("{b}", ["a", "a", "b"]).columns == {"b"}
    with pytest.raises(InvalidOptionError, match=r"several columns have that name; rename them"):
        Template.of("{a}", ["a", "a", "b"])
