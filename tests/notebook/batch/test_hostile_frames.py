"""Tables of all kinds: right, or one clear error; what is given stays as it is."""

from __future__ import annotations

import datetime as dt
import enum
import json
import signal
import warnings
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

import nbllm
from nbllm.core.errors import InvalidOptionError
from nbllm.testing import FakeModel

Frame = pd.DataFrame


def mapped(df: Any, template: str = "{text}", answer: str = "Yes.", **options: Any) -> pd.DataFrame:
    model = FakeModel(text=answer)
    out = nbllm.map_frame(df, template, model=model, progress=lambda *_: None, **options)
    out.attrs["asked"] = [request.messages[-1].text for request in model.requests]
    return out


KEPT: dict[str, pd.DataFrame] = {
    "repeated index": Frame({"text": ["a", "b"]}, index=[1, 1]),
    "levels of rows": Frame(
        {"text": ["a", "b"]}, index=pd.MultiIndex.from_tuples([(1, 2), (1, 2)], names=["i", "j"])
    ),
    "repeated other columns": Frame([["x", "y", "a"], ["z", "w", "b"]], columns=["n", "n", "text"]),
    "categories of columns": Frame(
        [["a", 1], ["b", 2]], columns=pd.CategoricalIndex(["text", "n"], name="which")
    ),
    "a slice": Frame({"text": ["x", "a", "b"]}).iloc[1:],
    "a filtered view": (lambda df: df[df["text"] != "x"])(Frame({"text": ["x", "a", "b"]})),
    "reversed": Frame({"text": ["b", "a"]})[::-1],
    "categories": Frame({"text": pd.Categorical(["a", "b"])}),
    "bytes of text": Frame({"text": pd.array(["a", "b"], dtype="string")}),
    "other dtypes": Frame(
        {
            "text": ["a", "b"],
            "when": pd.to_datetime(["2026-01-01", None]).tz_localize("Europe/Berlin"),
            "n": pd.array([1, None], dtype="Int64"),
            "is": pd.array([True, None], dtype="boolean"),
            "price": [Decimal("1.5"), None],
        }
    ),
}


@pytest.mark.parametrize("df", KEPT.values(), ids=KEPT)
def test_index_order_and_columns_stay_and_the_table_is_not_changed(df: pd.DataFrame) -> None:
    before = df.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = mapped(df)
        out.iloc[0, -1] = "No."
    pd.testing.assert_frame_equal(df, before)
    assert out.attrs["asked"] == ["a", "b"]
    assert out.index.equals(df.index)
    assert out.index.names == df.index.names
    assert [*out.columns] == [*df.columns, "answer"]
    assert [*out.dtypes.iloc[:-1]] == [*df.dtypes]
    assert out["answer"].tolist() == ["No.", "Yes."]


@pytest.mark.parametrize(
    ("value", "template", "asked"),
    [
        (["a", 1], "{text}", "a, 1"),
        (np.array([1, 2]), "{text}", "1, 2"),
        ({"k": 1}, "{text}", "{'k': 1}"),
        (Decimal("1.50"), "{text:.1f}", "1.5"),
        (pd.Timestamp("2026-01-02", tz="Europe/Berlin"), "{text:%d.%m.%Y}", "02.01.2026"),
        (pd.Timedelta("1h"), "{text}", "0 days 01:00:00"),
        (pd.Period("2026-01"), "{text}", "2026-01"),
        (True, "{text}", "True"),
        (7, "{text:03d} {{x}}", "007 {x}"),
    ],
)
def test_values_of_all_kinds_are_text(value: Any, template: str, asked: str) -> None:
    out = mapped(Frame({"text": pd.Series([value, None], dtype="object")}), template)
    assert out.attrs["asked"] == [asked]
    assert out["error"].tolist() == [pd.NA, "InvalidOptionError: the value of 'text' is missing"]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_a_missing_value_fails_its_row_alone(missing: Any) -> None:
    out = mapped(Frame({"text": pd.Series(["a", missing], dtype="object")}))
    assert out["answer"].isna().tolist() == [False, True]


@pytest.mark.parametrize("name", [0, True, ("a", 1), "a.b", "a[0]", "a!r", "a:>10", " a", "self"])
def test_a_column_of_any_name_is_found(name: Any) -> None:
    df = Frame([["v"]], columns=pd.Index([name], dtype="object", tupleize_cols=False))
    assert mapped(df, f"{{{name}}}").attrs["asked"] == ["v"]


class Foreign:
    """A table of another package."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def to_pandas(self) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize(
    "given",
    [
        Foreign(Frame({"text": ["a"]})),
        Foreign(pd.Series(["a"], name="text")),
        pd.Series(["a"], name="text"),
        pd.Series(["a"]),
    ],
)
def test_what_can_be_a_table_of_pandas_becomes_one(given: Any) -> None:
    out = mapped(given)
    assert (out["text"].tolist(), out["answer"].tolist()) == (["a"], ["Yes."])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"text": ["a"]}, "df must be a DataFrame (it is of type dict); make one with pd.DataFr"),
        ([{"text": "a"}], "(it is of type list); make one with pd.DataFrame(df)"),
        (np.array([["a"]]), "make one with pd.DataFrame(df, columns=[…])"),
        ("a.csv", "pd.read_csv(df) if it is a file"),
        (Frame({"text": ["a"]}).groupby("text"), "make one with df.obj"),
        (pd.DataFrame, "(it is of type type)"),
        (Foreign(ImportError("pyarrow is required")), "pandas: pyarrow is required"),
        (Foreign(3), "Foreign.to_pandas() makes an object of type int"),
        (Frame(index=range(3)), "The DataFrame has no columns"),
        (Frame([[1]], columns=pd.MultiIndex.from_tuples([("text", "b")])), "of 2 levels; give"),
        (Frame([[1, 2]], columns=["text", "text"]), "several columns have that name"),
    ],
)
def test_anything_else_is_refused_with_what_to_do(given: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        mapped(given)
    assert problem in str(refused.value)


def test_columns_that_say_how_a_row_went_take_a_free_name() -> None:
    df = Frame({"text": ["a", None], "error": [1, 2], "cost_usd": [3, 4]})
    out = mapped(df, details=True, into="said")
    assert out["error"].tolist() == [1, 2]
    assert out["said_error"].isna().tolist() == [True, False]
    assert {"finish_reason", "prompt_tokens", "said_cost_usd"} <= {*out.columns}
    assert out["cost_usd"].tolist() == [3, 4]


UTC = "datetime64[us, UTC]"


class Size(enum.Enum):
    SMALL = "small"


class Number(enum.IntEnum):
    ONE = 1


@dataclass
class Everything:
    """Of each kind one."""

    text: str
    one_of: Literal["x", "y"]
    whole: Literal[1, 2]
    size: Size | None
    number: Number
    either: int | float
    mixed: int | str
    maybe: bool | None
    day: dt.date
    items: list[int]


@pytest.mark.parametrize("answer", ["no JSON", None])
def test_a_column_has_its_dtype_whether_values_are_there_or_not(answer: str | None) -> None:
    fitting = {
        "text": "t", "one_of": "x", "whole": 2, "size": "small", "number": 1, "either": 1.5,
        "mixed": "m", "maybe": True, "day": "2026-01-02", "items": [1],
    }  # fmt: skip
    out = mapped(
        Frame({"row": ["a", None]}),
        "{row}",
        json.dumps(fitting) if answer is None else answer,
        schema=Everything,
    )
    assert out.iloc[:, 1:-1].dtypes.astype(str).to_dict() == {
        "text": "string", "one_of": "string", "whole": "Int64", "size": "string",
        "number": "Int64", "either": "Float64", "mixed": "object", "maybe": "boolean",
        "day": "datetime64[us]", "items": "object",
    }  # fmt: skip
    if answer is None:
        assert out.iloc[0, 1:-1].to_dict() == {**fitting, "day": pd.Timestamp("2026-01-02")}


@pytest.mark.parametrize(
    ("form", "answer", "dtype", "value"),
    [
        ("date", "2026-01-02", "datetime64[us]", pd.Timestamp("2026-01-02")),
        ("date", "9999-12-31", "datetime64[us]", pd.Timestamp("9999-12-31")),
        ("date", None, "datetime64[us]", pd.NaT),
        ("date", "soon", "datetime64[us]", pd.NaT),
        ("date", "2026-02-30", "datetime64[us]", pd.NaT),
        ("date", "now", "datetime64[us]", pd.NaT),
        ("date-time", "2026-01-02T03:04:05Z", UTC, pd.Timestamp("2026-01-02T03:04:05Z")),
        ("date-time", "2026-01-02T03:04:05+02:00", UTC, pd.Timestamp("2026-01-02T01:04:05Z")),
        ("date-time", "2026-01-02T03:04:05", UTC, pd.Timestamp("2026-01-02T03:04:05Z")),
        ("date-time", "later", UTC, pd.NaT),
        ("time", "03:04", "string", "03:04"),
    ],
)
def test_a_date_is_one_in_its_column_and_what_is_none_is_told(
    form: str, answer: str | None, dtype: str, value: Any
) -> None:
    schema = {"type": "object", "properties": {"d": {"type": ["string", "null"], "format": form}}}
    out = mapped(Frame({"text": ["a"]}), answer=json.dumps({"d": answer}), schema=schema)
    assert str(out["d"].dtype) == dtype
    assert out["d"].iloc[0] is value if value is pd.NaT else out["d"].iloc[0] == value
    assert ("error" in out) == (value is pd.NaT and answer is not None)
    lost = mapped(Frame({"text": ["a"]}), answer="no JSON", schema=schema)
    assert str(lost["d"].dtype) == dtype


@pytest.mark.parametrize(
    ("answer", "dtype", "values"),
    [
        ('{"n": 1.0}', "Int64", [1]),
        ('{"n": 99999999999999999999}', "object", [99999999999999999999]),
        ('{"n": "x"}', "Int64", [pd.NA]),
        ('{"n": 1e400}', "Int64", [pd.NA]),
        ("[1]", "Int64", [pd.NA]),
        ("", "Int64", [pd.NA]),
    ],
)
def test_an_answer_that_breaks_the_schema_is_the_error_of_its_row(
    answer: str, dtype: str, values: list[Any]
) -> None:
    schema = {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}
    schema |= {"$defs": {"N": {"type": "integer"}}}
    out = mapped(Frame({"text": ["a"]}), answer=answer, schema=schema)
    assert (str(out["n"].dtype), out["n"].tolist()) == (dtype, values)
    assert ("error" in out) == (values[0] is pd.NA)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match=r"two columns would be called 'x_probability'"):
        mapped(Frame({"text": ["a"]}), decide={"x": ["a", "b"], "x_probability": ["c", "d"]})


def test_a_table_that_changes_meanwhile_has_the_rows_that_were_asked() -> None:
    df = Frame({"text": ["a", "b", "c"]})

    def tick(progress: Any, row: Any) -> None:
        if len(df) == 3:
            df.loc[3] = ["d"]
            df["more"] = 1

    out = nbllm.map_frame(df, "{text}", model=FakeModel(text="Yes."), progress=tick)
    assert out["text"].tolist() == ["a", "b", "c"]
    assert [*out.columns] == ["text", "answer"]


def test_what_is_finished_is_not_asked_again_after_an_interrupt(tmp_path: Any) -> None:
    df = Frame({"text": [str(number) for number in range(90)]})
    model = FakeModel(text="Yes.", token_seconds=0.01)

    def tick(progress: Any, row: Any) -> None:
        if progress.done == 5:
            signal.raise_signal(signal.SIGINT)

    options: dict[str, Any] = {"model": model, "journal": tmp_path / "j.jsonl", "concurrency": 2}
    with pytest.raises(KeyboardInterrupt) as stop:
        nbllm.map_frame(df, "{text}", progress=tick, **options)
    kept: Any = stop.value
    finished = kept.frame["answer"].notna().sum()
    before = len(model.requests) - model.cancelled
    out = nbllm.map_frame(df, "{text}", progress=lambda *_: None, **options)
    assert 5 <= finished <= before < 90
    assert len(model.requests) - model.cancelled == 90
    assert out["answer"].tolist() == ["Yes."] * 90
