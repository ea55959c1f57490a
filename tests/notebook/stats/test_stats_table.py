"""What was generated, as tables and files."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.history import GenerationRecord
from nbllm.core.model_manager import ModelManager
from nbllm.core.routing.route import Route, RouteTry
from nbllm.core.types import FinishReason, Timings, Usage
from nbllm.notebook.extension import load
from nbllm.notebook.stats.stats_table import stats_summary, stats_table
from nbllm.testing import FakeOpener, fake_info

BEGAN = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))


def record(number: int = 0, **fields: Any) -> GenerationRecord:
    values: dict[str, Any] = {
        "started": BEGAN + timedelta(seconds=number),
        "model": "m",
        "device": "CPU",
        "finish_reason": FinishReason.STOP,
        "usage": Usage(prompt_tokens=10, cached_tokens=5, completion_tokens=100, cost_usd=0.5),
        "timings": Timings(first_token_seconds=0.2, decode_seconds=2.0, total_seconds=2.2),
        "tokens_per_second": 50.0,
    }
    return GenerationRecord(**{**values, **fields})


def test_each_generation_is_a_row_with_units_in_the_columns() -> None:
    table = stats_table([record(), record(1, error="EngineError", tokens_per_second=None)])
    assert list(table["answer (tokens)"]) == [100, 100]
    assert table["first token (s)"].sum() == pytest.approx(0.4)
    assert table["started"].iloc[1] - table["started"].iloc[0] == pd.Timedelta(seconds=1)
    assert pd.isna(table["speed (tokens/s)"].iloc[1])
    assert table["error"].iloc[1] == "EngineError"
    assert "12:00:01" in table._repr_html_(), "in the zone of the record"
    assert "queue (s)" not in repr(table), "what nobody knows is not shown"
    assert repr(table).endswith("The DataFrame also has: decode (s).")


def test_routed_answers_name_the_router_and_who_was_passed_over() -> None:
    tries = (
        RouteTry(member="big", why="first in order", failure="rate_limit", problem="big: slow"),
        RouteTry(member="m", why="next in order"),
    )
    route = Route(router="any", strategy="in-order", member="m", tries=tries)
    records = [record(), record(1, route=route), record(2, route=route)]
    table = stats_table(records)
    assert table["router"].fillna("").tolist() == ["", *["any (big: rate limit)"] * 2]
    for shown in (repr(table), repr(stats_summary(records))):
        assert "Answers of any by m 2. Passed over: big: rate limit (2)." in shown
    assert "router" not in repr(stats_table(records[:1]))


def test_long_tables_show_their_end_and_say_so() -> None:
    table = stats_table([record(n, model=f"model-{n:03}") for n in range(100)])
    assert len(table) == 100
    view = table._repr_html_()
    assert "model-099" in view
    assert "model-001" not in view
    assert "of 100 rows" in view


def test_empty_tables_say_what_to_do() -> None:
    assert "%%llm" in repr(stats_table([]))
    assert "%%llm" in stats_summary([])._repr_html_()


def test_the_summary_has_medians_and_totals_by_model_and_device() -> None:
    records = [
        *(record(n, tokens_per_second=float(n)) for n in range(1, 102)),
        record(model="other", device="GPU 0", finish_reason=FinishReason.CANCELLED),
        record(model="other", device="GPU 0", finish_reason=FinishReason.FAILED),
    ]
    mine, other = stats_summary(records).to_dict("records")
    assert (mine["generations"], mine["speed, median (tokens/s)"]) == (101, 51.0)
    assert mine["speed, 95 % (tokens/s)"] == pytest.approx(96.0)
    assert (mine["answer (tokens)"], mine["cached (%)"]) == (10_100, 50.0)
    assert mine["cost (USD)"] == pytest.approx(50.5)
    assert (other["device"], other["stopped"], other["failed"]) == ("GPU 0", 1, 1)


@pytest.fixture
def asked(shell: InteractiveShell) -> InteractiveShell:
    """A shell in which one question was answered."""
    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener(text="a b c"))
    load(shell, lambda: manager)
    shell.run_line_magic("llm", "-m tiny Hello there.")
    return shell


def test_the_magic_tells_of_questions_asked_by_magics(asked: InteractiveShell) -> None:
    stats = asked.run_line_magic("llm_stats", "")
    assert list(stats["model"]) == ["tiny"]
    assert list(stats["answer (tokens)"]) == [3]
    assert "Hello" not in stats.to_csv()


def test_saving_to_csv_and_json(asked: InteractiveShell, tmp_path: Path) -> None:
    asked.run_line_magic("llm_stats", f"--save {tmp_path}/stats.csv")
    assert pd.read_csv(tmp_path / "stats.csv")["model"].tolist() == ["tiny"]
    asked.run_line_magic("llm_stats", f"--summary --save {tmp_path}/stats.json")
    (row,) = json.loads((tmp_path / "stats.json").read_text())
    assert row["generations"] == 1


@pytest.mark.parametrize(
    ("magic", "file", "message"),
    [
        ("llm_stats", "stats.txt", r"must end in \.csv or \.json"),
        ("llm_stats", "nowhere/stats.csv", r"stats\.csv: cannot be written"),
        ("llm_stats", "nowhere/stats.json", r"stats\.json: cannot be written"),
        ("llm_plot", "plot.txt", r"must end in \.png or \.svg or \.pdf"),
        ("llm_plot", "nowhere/plot.png", r"plot\.png: cannot be written: No such file"),
    ],
)
def test_what_cannot_be_saved_is_told_in_one_line(
    asked: InteractiveShell, tmp_path: Path, magic: str, file: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        asked.run_line_magic(magic, f"--save {tmp_path}/{file}")


def test_clearing_forgets_after_showing(asked: InteractiveShell) -> None:
    assert len(asked.run_line_magic("llm_stats", "--clear")) == 1
    assert asked.run_line_magic("llm_stats", "").empty
