"""What variables and files look like in a prompt."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import io
import math
import os
import threading
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.display import Image as ShownImage
from PIL import Image

from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.bounded_texts import VALUE_CHARACTERS, Written
from nbllm.notebook.prompts.evaluation import Refused
from nbllm.notebook.prompts.rendered_values import TABLE_BYTES, rendered


@dataclasses.dataclass
class Box:
    held: list[int]


FRAME = pd.DataFrame({"a": [1, 2]})


def test_a_small_table_is_told_whole() -> None:
    frame = pd.DataFrame({"city": ["Rome", "Oslo"], "people": [2.8e6, np.nan]})
    frame = frame.astype({"city": "string"})
    assert rendered(frame) == (
        "DataFrame: 2 rows, 2 columns\nTypes: city: string, people: float64\n"
        "All rows, separated by |:\ncity|people\nRome|2.8e+06\nOslo|"
    )


def test_a_large_table_is_told_by_its_beginning() -> None:
    told = rendered(pd.DataFrame({"n": range(10_000), "t": "x" * 500}))
    assert isinstance(told, Written)
    assert told.left_out == "9,990 rows left out"
    text = told.text
    assert text.startswith("DataFrame: 10,000 rows, 2 columns\n")
    assert "First 10 rows, separated by |:\nn|t\n0|xxx" in text
    assert "…" in text


@pytest.mark.parametrize("columns", [50, 500, 5_000])
def test_a_table_keeps_within_its_budget(columns: int) -> None:
    frame = pd.DataFrame(np.zeros((20, columns)), columns=[f"column {n}" for n in range(columns)])
    text = rendered(frame).text
    assert len(text.encode()) <= TABLE_BYTES + 2
    assert f"{columns:,} columns" in text


def test_a_series_shows_an_index_that_says_something() -> None:
    text = rendered(pd.Series([1, 2], index=["a", "b"], name="size"))
    assert text.startswith("Series: 2 rows, 1 column\nTypes: size: int64")
    assert text.endswith("|size\na|1\nb|2")


def figure() -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    return figure


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        figure(),
        figure().axes[0],
        Image.new("RGB", (10, 10)),
        np.zeros((9, 12, 3), "uint8"),
        np.full((9, 12, 4), 0.5),
        ShownImage(data=png()),
        ImagePart("image/png", b"x"),
    ],
    ids=["figure", "axes", "PIL", "bytes", "floats", "IPython", "part"],
)
def test_pictures_become_images(value: object) -> None:
    part = rendered(value)
    assert isinstance(part, ImagePart)
    assert part.media_type == "image/png"


@pytest.mark.parametrize("shape", [(9, 12), (3, 3, 3), (9, 12, 5)])
def test_other_arrays_are_numbers(shape: tuple[int, ...]) -> None:
    assert rendered(np.zeros(shape, "uint8")).startswith("[[")
    assert rendered(np.full((9, 9, 3), 7.0)).startswith("[[")


def test_the_pixels_are_those_of_the_array() -> None:
    array = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype="uint8")
    part = rendered(array)
    assert (np.asarray(Image.open(io.BytesIO(part.data))) == array).all()


def test_modules_and_foreign_functions_are_no_values() -> None:
    for value in (math, math.sqrt, Path, types.ModuleType):
        with pytest.raises(Refused):
            rendered(value)


def test_other_values_are_what_str_makes_of_them() -> None:
    assert rendered({"a": [1]}) == "{'a': [1]}"
    assert rendered(None) == "None"
    assert rendered("te{x}t") == "te{x}t"


def test_what_is_long_is_cut_and_says_by_how_much() -> None:
    told = rendered(list(range(1_000_000)))
    assert isinstance(told, Written)
    assert len(told.text) < VALUE_CHARACTERS + 50
    shown = len(told.text.split("…")[0].strip("[, ").split(","))
    assert told.text.endswith(f", … {1_000_000 - shown:,} more]")
    assert told.left_out == f"{1_000_000 - shown:,} elements left out"


@pytest.mark.parametrize(
    "value",
    [
        {n: n for n in range(100_000)},
        {"a": list(range(100_000)), "b": {"c": "x" * 100_000}},
        set(range(100_000)),
        collections.deque(range(100_000)),
        collections.Counter(range(100_000)),
        ["x" * 200_000],
        b"x" * 100_000,
        [[[list(range(100_000))]]],
        (0,) * 100_000,
        dict.fromkeys(range(100_000)).keys(),
        pd.Index(range(100_000)),
        np.arange(100_000),
        np.array([["x"] * 5_000], dtype=object),
        Box(list(range(100_000))),
        types.SimpleNamespace(a=list(range(100_000))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_long_values_of_all_kinds_are_cut(value: object) -> None:
    told = rendered(value)
    assert isinstance(told, Written)
    assert len(told.text) <= VALUE_CHARACTERS + 200
    assert "left out" in told.left_out


def test_other_values_are_as_python_writes_them() -> None:
    values = [
        *([], (), (1,), set(), {1}, frozenset(), frozenset({1}), {"a": (1, [2.5, None])}, b"x"),
        *({"k": {"l": "it's"}}, range(3), 1.5, decimal.Decimal("1.20"), True, Path("a/b")),
        *(datetime.date(2026, 1, 2), collections.deque([1]), Box([1]), 10**400),
    ]
    for value in values:
        assert rendered(value) == str(value)


def test_what_holds_itself_or_is_nested_deeply_ends() -> None:
    cycle: list[object] = [1]
    cycle.append({"again": cycle})
    assert rendered(cycle) == "[1, {'again': …}]"
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert rendered(deep) == "[[[[[[[[…]]]]]]]]"
    twice: object = [1]
    for _ in range(100):
        twice = [twice, twice]
    assert len(str(rendered(twice))) < VALUE_CHARACTERS + 200


class Bare:
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Bare(), "a Bare has no text; assign the text you want to a variable"),
        (object(), "a object has no text"),
        ((n for n in [1]), "a generator gives its elements only once"),
        (map(len, []), "a map gives its elements only once"),
        (iter([1]), "a list_iterator gives its elements only once"),
        (os.environ, "a _Environ has no text"),
        (types.MappingProxyType({}), "a mappingproxy has no text"),
        (threading.Lock(), "a lock has no text"),
        ("x" * (2**20 + 1), "a text of 1,048,577 characters is too long"),
        (10**5000, "a number of 16,610 bits is too long"),
        (FRAME.groupby("a"), "a DataFrameGroupBy gives|a DataFrameGroupBy has no text"),
        (len, "not data"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_what_has_no_text_is_told(value: object, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        rendered(value)


def test_an_iterator_is_not_used_up() -> None:
    numbers = iter([1, 2])
    with pytest.raises(Refused):
        rendered(numbers)
    assert list(numbers) == [1, 2]


def test_objects_within_are_shown_without_addresses() -> None:
    assert rendered([Bare(), len, Bare, math]) == (
        "[<Bare>, <builtin_function_or_method>, <type>, <module>]"
    )


def test_a_styler_is_its_table() -> None:
    pytest.importorskip("jinja2", minversion="3.1.2")  # what pandas asks of it
    assert rendered(FRAME.style) == rendered(FRAME)
