"""Batches over DataFrames: the new columns, their types, and what stays as it was."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm import Budget, ModelManager
from nbllm.core.errors import (
    AuthenticationError,
    BatchError,
    InvalidOptionError,
    RateLimitError,
)
from nbllm.core.types import Event
from nbllm.notebook import extension as magics
from nbllm.testing import FakeModel, FakeOpener, fake_info


@dataclass
class Part:
    """What a part is."""

    name: str
    size: float
    count: int
    new: bool
    kind: Literal["a", "b"]
    tags: list[str]


PART = '{"name": "x", "size": 2, "count": 3, "new": true, "kind": "a", "tags": ["t"]}'
DF = pd.DataFrame({"text": ["one", "two", None], "n": [1, 2, 3]}, index=["x", "x", "y"])


def mapped(text: str = "Yes.", df: pd.DataFrame = DF, **settings: Any) -> pd.DataFrame:
    settings = {"template": "About {text}:", "model": FakeModel(text=text), **settings}
    return nbllm.map_frame(df, progress=lambda *_: None, **settings)


def test_answers_become_a_column_and_the_rest_stays() -> None:
    before = DF.copy()
    out = mapped()
    assert [*out.columns] == ["text", "n", "answer", "error"]
    assert out["answer"].tolist() == ["Yes.", "Yes.", pd.NA]
    assert out["answer"].dtype == "string"
    assert out["error"].isna().tolist() == [True, True, False]
    assert "the value of 'text' is missing" in out["error"].iloc[2]
    assert out.index.equals(DF.index)
    pd.testing.assert_frame_equal(DF, before)
    pd.testing.assert_frame_equal(out[["text", "n"]], DF)


def test_a_schema_s_properties_are_typed_columns() -> None:
    out = mapped(PART, schema=Part)
    kinds = {name: str(out[name].dtype) for name in ("name", "size", "count", "new", "kind")}
    assert kinds == {
        "name": "string",
        "size": "Float64",
        "count": "Int64",
        "new": "boolean",
        "kind": "string",
    }
    assert out.iloc[0][["name", "size", "count", "new", "kind", "tags"]].tolist() == [
        "x", 2.0, 3, True, "a", ["t"]
    ]  # fmt: skip
    assert out["size"].isna().tolist() == [False, False, True]


def test_types_are_right_where_every_value_is_missing() -> None:
    out = mapped("no JSON", schema=Part, into="part")
    assert str(out["part_count"].dtype) == "Int64"
    assert str(out["part_new"].dtype) == "boolean"
    assert out["part_count"].isna().all()
    assert out["error"].str.contains("Error").all()


def test_details_are_columns_too() -> None:
    out = mapped(details=True, df=DF.dropna())
    assert [*out.columns] == [
        "text", "n", "answer", "finish_reason", "prompt_tokens", "completion_tokens", "cost_usd"
    ]  # fmt: skip
    assert out["finish_reason"].tolist() == ["stop", "stop"]


def test_an_empty_frame_has_the_columns_all_the_same() -> None:
    out = mapped(df=DF.iloc[:0], schema=Part)
    assert len(out) == 0
    assert str(out["count"].dtype) == "Int64"


def test_a_dry_run_asks_five_and_says_what_all_would_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    df = pd.DataFrame({"text": [str(n) for n in range(1000)]})
    out = mapped(df=df, dry_run=True)
    assert len(out) == 5
    told = capsys.readouterr().out
    assert "Dry run: 5 of 1,000 rows asked, 0 failed." in told
    assert "The other 995 rows would take about" in told
    assert "tokens of prompts, 995 of answers" in told
    assert "the price is not known" in told or "US dollars" in told


def test_a_large_run_shows_its_first_rows_before_it_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = FakeModel(text="Yes.")
    df = pd.DataFrame({"text": [str(number) for number in range(40)]})
    asked: list[int] = []

    def tick(progress: Any, row: Any) -> None:
        if row.index == 4:
            asked.append(len(model.requests))

    out = nbllm.map_frame(df, "{text}", model=model, preview_above=39, progress=tick)
    assert asked == [5]
    assert out["answer"].notna().all()
    assert "Preview: 5 of 40 rows asked, 0 failed. The other 35" in capsys.readouterr().out
    nbllm.map_frame(df, "{text}", model=model, preview_above=40, progress=tick)
    assert "Preview" not in capsys.readouterr().out


def test_an_interrupt_hands_over_what_is_finished() -> None:
    def tick(progress: Any, row: Any) -> None:
        if row.index == 2:
            signal.raise_signal(signal.SIGINT)

    df = pd.DataFrame({"text": [str(number) for number in range(2_000)]})
    model = FakeModel(text="Yes.", token_seconds=0.01)
    with pytest.raises(KeyboardInterrupt) as stop:
        nbllm.map_frame(df, "{text}", model=model, preview_above=None, progress=tick)
    frame = stop.value.frame  # type: ignore[attr-defined]
    assert len(frame) == 2_000
    assert 3 <= frame["answer"].notna().sum() < 2_000


class Ending(FakeModel):
    """Refuses "wait" for a minute, and then ends the run at "key", beside which "last" goes on."""

    async def _events(self, request: Any) -> AsyncGenerator[Event, None]:
        text = request.messages[-1].text
        for _ in range(10):
            await asyncio.sleep(0)
        if text == "wait":
            raise RateLimitError("m", "too many", retry_after_seconds=60)
        for _ in range(10):
            await asyncio.sleep(0)
        if text == "key":
            raise AuthenticationError("m", "the key is refused")
        for _ in range(10):
            await asyncio.sleep(0)
        async for event in super()._events(request):
            yield event


def test_rows_that_an_ended_run_did_not_ask_are_missing_where_they_stood() -> None:
    df = pd.DataFrame({"text": ["first", "wait", "key", "last", "more"]})
    model = Ending(text="Yes.", info=fake_info("m", local=False, model_type="openai"))
    with pytest.raises(BatchError, match="every row would fail") as ended:
        mapped(df=df, template="{text}", model=model, concurrency=4)
    frame = ended.value.finished
    assert frame["answer"].tolist() == ["Yes.", pd.NA, pd.NA, "Yes.", pd.NA]
    assert frame["error"].notna().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_total_tokens": 0}, "max_total_tokens must be"),
        ({"max_cost": -1}, "max_cost must be"),
        ({"max_cost": "much"}, "max_cost must be"),
        ({"template": "{txt}"}, "is not a column"),
        ({"into": "text"}, "has a column 'text' already"),
        ({"schema": list[str]}, "must describe an object with properties"),
        (
            {"df": pd.DataFrame([[1, 2]], columns=["text", "text"])},
            "several columns have that name",
        ),
        ({"temprature": 1}, "temprature: unknown option"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(settings: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        mapped(**settings)


# ---------------------------------------------------------------- in a cell


@pytest.fixture
def notebook(shell: InteractiveShell, tmp_path: Path) -> InteractiveShell:
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener(text="Yes."))
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = DF
    return shell


def test_a_cell_asks_about_every_row(notebook: InteractiveShell, tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    line = f"tiny --map df --into said -o out --journal {journal}"
    out = notebook.run_cell_magic("llm", line, "About {text} ({n}):\n")
    assert out["said"].tolist()[:2] == ["Yes.", "Yes."]
    assert notebook.user_ns["out"] is out
    assert sum(not line.startswith("{") for line in journal.read_text().splitlines()) == 2


def test_a_cell_that_ends_early_keeps_what_is_finished(
    shell: InteractiveShell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = ModelManager(
        [fake_info("tiny")],
        folder=tmp_path,
        open_model=FakeOpener(text="Yes."),
        budgets=Budget(requests=1),
    )
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = DF
    shell.run_cell("%%llm tiny --map df -o out\nAbout {text} ({n}):")
    assert "budget of 1 requ" in capsys.readouterr().out
    assert shell.user_ns["out"]["answer"].tolist() == ["Yes.", pd.NA, pd.NA]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("tiny --map dff", "there is no variable 'dff'. Did you mean 'df'?"),
        ("tiny --map print", "there is no variable 'print'"),
        ("tiny --into x", "--into needs --map DF"),
        ("tiny --dry-run", "--dry-run needs --map DF"),
        ("tiny --map df --chat c", "cannot be combined with --chat"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    notebook: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, problem: str
) -> None:
    notebook.run_cell(f"%%llm {line}\nAbout {{text}}:")
    assert problem in "".join(capsys.readouterr())


def test_labels_become_typed_columns_with_probabilities() -> None:
    decide = {"team": ["red", "blue"], "urgent": bool, "tone": range(1, 6)}
    answer = '{"team": "blue", "urgent": "yes", "tone": "4"}'
    out = mapped(answer, decide=decide, into="it")
    assert out["it_team"].tolist() == ["blue", "blue", pd.NA]
    assert out["it_urgent"].tolist() == [True, True, pd.NA]
    assert out["it_tone"].tolist() == [4, 4, pd.NA]
    kinds = [str(out[f"it_{name}"].dtype) for name in decide]
    assert kinds == ["string", "boolean", "Int64"]
    shares = out["it_team_probability"]
    assert (str(shares.dtype), shares.isna().all()) == ("Float64", True)  # it tells none
    with pytest.raises(InvalidOptionError, match="cannot be combined with schema"):
        mapped(decide=decide, schema=Part)


def test_a_cell_decides_and_its_journal_keeps_the_probabilities(
    notebook: InteractiveShell, tmp_path: Path
) -> None:
    manager = ModelManager()
    frame = pd.DataFrame({"text": ["It broke on day one.", "I love it."]})
    settings: dict[str, Any] = {
        "decide": {"is": ["good", "bad"]},
        "journal": tmp_path / "run.jsonl",
        "manager": manager,
        "progress": lambda *_: None,
    }
    first = nbllm.map_frame(frame, "Review: {text}", **settings)
    again = nbllm.map_frame(frame, "Review: {text}", **settings)
    pd.testing.assert_frame_equal(first, again)
    assert first["is_probability"].between(0.5, 1).all()
    nbllm.run(manager.aclose())


@pytest.mark.parametrize(
    ("flag", "columns"),
    [
        ("labels", ["x", "x_probability"]),
        ('{"x": ["a", "b"], "y": bool | None}', ["x", "x_probability", "y", "y_probability"]),
        ('{"tone": range(1, 6)}', ["tone", "tone_probability"]),
    ],
)
def test_labels_are_named_or_written_behind_a_flag(
    notebook: InteractiveShell, flag: str, columns: list[str]
) -> None:
    notebook.user_ns |= {"labels": {"x": ["a", "b"]}}
    out = notebook.run_cell_magic("llm", f"tiny --map df --decide {flag}", "About {text}:")
    assert [name for name in columns if name in out.columns] == columns


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ('{"x": open("f")}', "not allowed in a type"),
        ('{"x": range(int)}', "whole numbers"),
        ('{"x":', "not a dict"),
        ("{1: bool}", "a name in quotes"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_behind_the_flag_calls_nothing(
    notebook: InteractiveShell, flag: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run_cell(f"%%llm tiny --map df --decide {flag}\nAbout {{text}}:")
    assert problem in capsys.readouterr().out
