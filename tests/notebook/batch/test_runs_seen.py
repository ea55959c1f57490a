"""A run over a table, as the statistics, the dashboard and a figure show it: as one thing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from matplotlib.axes import Axes

from nbllm.core.generation import Generation
from nbllm.core.history import GenerationRecord
from nbllm.core.runs import Run
from nbllm.core.types import FinishReason, Timings, Usage
from nbllm.notebook.dashboard.activity_panels import LogPanel, RequestPanel
from nbllm.notebook.stats.figure import THEMES, LlmFigure
from nbllm.notebook.stats.plots import draw_run
from nbllm.notebook.stats.stats_table import stats_table

BEGAN = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


def record(
    second: float, run: Run | None = None, reason: FinishReason = FinishReason.STOP, **fields: Any
) -> GenerationRecord:
    return GenerationRecord(
        started=BEGAN + timedelta(seconds=second),
        model="phi",
        device="CPU",
        finish_reason=reason,
        usage=Usage(prompt_tokens=20, completion_tokens=10, cost_usd=0.5),
        timings=Timings(total_seconds=2.0),
        run=run,
        **fields,
    )


def test_a_run_is_one_row_of_the_statistics_with_its_sums() -> None:
    run, other = Run("letters", 3, 3), Run("tickets", 1, 1)
    rows = [record(0), *(record(10 + n, run) for n in range(3)), record(20, other), record(30)]
    table = stats_table([*rows, record(31, run, error="ServerError")])
    assert table["run"].fillna("").tolist() == ["", "letters", "tickets", ""]
    letters = table.iloc[1]
    assert (letters["rows"], letters["answer (tokens)"], letters["cost (USD)"]) == (4, 40, 2.0)
    assert letters["total (s)"] == 23.0
    assert letters["error"] == "ServerError (1)"
    assert "letters" in table._repr_html_()


def test_without_a_run_nothing_is_said_of_runs() -> None:
    assert "<th>run" not in stats_table([record(0)])._repr_html_()


def test_a_figure_shows_rows_and_tokens_of_the_last_run() -> None:
    figure = LlmFigure(8.0, 3.8, THEMES["light"])
    older, run = Run("older"), Run("letters", 3, 3)
    draw_run(figure, [record(0, older), *(record(n, run) for n in range(3))])
    axes: list[Axes] = figure.axes
    assert axes[0].get_title(loc="left") == "letters: 3 of 3 rows"
    assert list(axes[0].lines[0].get_ydata()) == [0, 1, 2, 3]
    assert list(axes[1].lines[0].get_ydata()) == [0, 30, 60, 90]
    assert figure._repr_png_()[0].startswith(b"\x89PNG")


def test_requests_that_were_cancelled_are_no_rows() -> None:
    run = Run("letters", 9, 2)
    records = [record(0, run), record(1, run), record(2, run, FinishReason.CANCELLED)]
    assert stats_table(records)["rows"].tolist() == [2]
    figure = LlmFigure(8.0, 3.8, THEMES["light"])
    draw_run(figure, records)
    assert list(figure.axes[0].lines[0].get_ydata()) == [0, 1, 2, 2]


def test_a_figure_without_a_run_says_what_to_do() -> None:
    figure = LlmFigure(8.0, 3.8, THEMES["light"])
    draw_run(figure, [record(0)])
    assert "%%llm --map" in figure.axes[0].texts[0].get_text()


def test_the_dashboard_has_one_row_for_a_run_with_one_button() -> None:
    stopped: list[int] = []
    run = Run("letters", 200, 40, 2, stop=lambda: stopped.append(1))
    many = [Generation("phi") for _ in range(4)]
    for each in many[:3]:
        each.run = run
    panel = RequestPanel()
    panel.update(many)
    rows = panel.section.rows
    assert len(rows) == 2
    assert rows[0][1:3] == ("letters", "40 of 200 rows, 2 failed")
    panel._rows[id(run)]._press()
    assert stopped == [1]
    panel.update([])
    assert panel.section.rows == ()


def test_the_log_has_one_line_for_a_run() -> None:
    log, run = LogPanel(), Run("letters", 200)
    log.add_record(record(0))
    for done in range(1, 6):
        run.done = done
        log.add_record(record(done, run))
    log.add_record(record(9))
    words = [line[1] for line in log.section.rows]
    assert len(words) == 3
    assert words[1] == "phi worked on letters · 5 of 200 rows"
