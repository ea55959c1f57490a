"""What variables and files look like in a prompt."""

from __future__ import annotations

import io
import math
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.display import Image as ShownImage
from PIL import Image

from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.limits import Refused
from nbllm.notebook.prompts.table_text import TABLE_BYTES
from nbllm.notebook.prompts.texts import Written
from nbllm.notebook.prompts.values import rendered


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
