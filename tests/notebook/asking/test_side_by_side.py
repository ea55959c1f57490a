"""``%%llm --models a,b``: several answers in one cell, of which each ends in its own way."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm import FinishReason, ModelManager
from nbllm.core.errors import BudgetError, InvalidOptionError, ModelError, RateLimitError
from nbllm.core.openers import LoadControl
from nbllm.core.types import ModelInfo
from nbllm.notebook import extension
from nbllm.notebook.asking.side_by_side import Columns
from nbllm.notebook.forms.diffs import word_diffs
from nbllm.notebook.running_cell import Stopped
from nbllm.notebook.views.markdown_view import MarkdownView
from nbllm.testing import FakeModel, fake_info

ANSWERS: dict[str, dict[str, Any]] = {
    "north": {"text": "The **quick** fox jumps."},
    "south": {"text": "The slow fox sleeps <b>here</b>."},
    "broken": {"text": "It began", "error": ModelError("broken", "it broke"), "fail_after": 2},
    "refused": {"error": RateLimitError("refused", "too many requests", status=429)},
    "json": {"text": '{"n": 1}'},
    "endless": {"text": "word " * 5_000, "token_seconds": 0.01},
}


def open_fake(info: ModelInfo, control: LoadControl) -> FakeModel:
    return FakeModel(info, **ANSWERS[info.name])


@pytest.fixture
def manager(shell: InteractiveShell, tmp_path: Path) -> ModelManager:
    made = ModelManager(map(fake_info, ANSWERS), folder=tmp_path, open_model=open_fake)
    extension.load(shell, lambda: made)
    return made


@pytest.fixture
def page(shell: InteractiveShell, manager: ModelManager, front_end: Any) -> Any:
    """What a notebook shows."""
    shell.display_pub = front_end
    return front_end


def ask(shell: InteractiveShell, line: str, cell: str = "Say it.") -> Any:
    return shell.run_cell_magic("llm", line, cell)


def test_the_answers_stand_in_columns_and_come_back_as_a_list(
    shell: InteractiveShell, page: Any
) -> None:
    results = ask(shell, "--models north,south -o answers -t 0")
    assert [each.model for each in results] == ["north", "south"]
    assert shell.user_ns["answers"] is results
    assert shell.user_ns["_llm"] is results
    ((_, data),) = page.outputs
    html = data["text/html"]
    assert html.index(">north<") < html.index("<strong>quick</strong>") < html.index(">south<")
    assert "&lt;b&gt;here&lt;/b&gt;" in html
    assert "5 tokens" in html
    assert data["text/plain"].startswith("── north ──\n\nThe **quick** fox jumps.\n\nnorth")


@pytest.mark.parametrize("line", ["--models south -o answer", "--models ' south, ' -o answer"])
def test_one_name_asks_that_model(shell: InteractiveShell, page: Any, line: str) -> None:
    result = ask(shell, line)
    assert result.model == "south"
    assert shell.user_ns["answer"] is result


def test_a_failure_ends_its_own_answer_alone(shell: InteractiveShell, page: Any) -> None:
    results = ask(shell, "--models broken,north,refused,nobody")
    reasons = [each.finish_reason for each in results]
    failed = FinishReason.FAILED
    assert reasons == [failed, FinishReason.STOP, failed, failed]
    assert results[0].text == "It began"
    assert "too many requests" in results[2].notes[-1]
    assert "No model is called 'nobody'" in results[3].notes[-1]
    html = page.outputs[-1][1]["text/html"]
    for words in ("it broke", "too many requests", "No model is called", "quick"):
        assert words in html


def test_where_all_fail_the_cell_fails(shell: InteractiveShell, page: Any) -> None:
    with pytest.raises(RateLimitError):
        ask(shell, "--models refused,nobody")
    assert "No model is called" in page.outputs[-1][1]["text/html"]


def test_a_stop_stops_all(shell: InteractiveShell, manager: ModelManager, page: Any) -> None:
    def stop() -> None:
        while len(manager.activity.running("endless")) < 2 or not len(manager.history):
            time.sleep(0.01)
        session = shell.magics_manager.registry["AskMagics"].session
        for job in session.loop._jobs:
            job.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped, match="texts so far are in _llm"):
        ask(shell, "--models endless,north,endless")
    stopper.join()
    results = shell.user_ns["_llm"]
    assert [each.finish_reason for each in results] == ["cancelled", "stop", "cancelled"]
    assert page.outputs[-1][1]["text/html"].count("■ stopped") == 2
    assert manager.activity.running() == []


def test_a_cut_answer_is_not_to_be_continued_alone(shell: InteractiveShell, page: Any) -> None:
    ask(shell, "--models north,south --max-tokens 2")
    html = page.outputs[-1][1]["text/html"]
    assert html.count("cut off at the token limit") == 2
    assert "--continue" not in html
    with pytest.raises(InvalidOptionError, match="--models cannot be continued"):
        shell.run_line_magic("llm", "--continue")


def test_a_diff_shows_words(shell: InteractiveShell, page: Any) -> None:
    ask(shell, "--models north,south,north --diff")
    data = page.outputs[-1][1]
    assert "From north to south" in data["text/html"]
    assert "slow</ins>" in data["text/html"]
    assert "quick" in data["text/html"].partition("<del")[2]
    assert "north and north are equal" in data["text/html"]
    assert "The [-**quick**-]{+slow+} fox" in data["text/plain"]
    assert "<b>" not in data["text/html"]


def test_a_diff_leaves_out_who_has_no_answer(shell: InteractiveShell, page: Any) -> None:
    ask(shell, "--models refused,north,south --diff")
    shown = page.outputs[-1][1]["text/plain"]
    assert "From north to south" in shown
    assert "refused to" not in shown
    assert "From refused" not in shown


def test_words_that_everybody_uses_do_not_tear_a_change_apart() -> None:
    shown = word_diffs([("a", "Go to a big town now."), ("b", "Walk in a small park now.")])
    assert "[-Go to a big town-]{+Walk in a small park+} now." in shown.data["text/plain"]


def test_long_texts_are_compared_by_lines() -> None:
    long = "\n".join(f"line {number} of the text" for number in range(2_000))
    began = time.monotonic()
    shown = word_diffs([("a", long), ("b", long.replace("line 77 ", "line LXXVII "))])
    assert time.monotonic() - began < 2
    assert "{+line LXXVII of the text\n+}" in shown.data["text/plain"]


def test_a_terminal_has_the_answers_below_each_other(
    shell: InteractiveShell, manager: ModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(shell, "--models north,south")
    shown = capsys.readouterr().out
    assert shown.index("── north ──") < shown.index("quick") < shown.index("── south ──")


def test_what_is_long_is_drawn_less_often(front_end: Any) -> None:
    page, now = front_end, [0.0]
    columns = Columns(MarkdownView(page, is_alone=True, clock=lambda: now[0]), ["a", "b"])
    for _ in range(600):  # two minutes in which each model writes 40 words a second
        now[0] += 0.2
        for column in columns.columns:
            column.add("word " * 8)
        columns.look("")
    assert page.bytes_sent < 120 * 18_000 * 1.1
    assert page.outputs[-1][1]["text/html"].count("word") > 2 * 600 * 8 * 0.9


def test_each_request_counts_in_budgets(
    shell: InteractiveShell, manager: ModelManager, page: Any
) -> None:
    shell.run_line_magic("llm_budget", "--requests 1")
    results = ask(shell, "--models north,south")
    assert sorted(each.finish_reason for each in results) == ["failed", "stop"]
    with pytest.raises(BudgetError):
        ask(shell, "--models north,south")


def test_a_schema_is_for_all_and_a_wrong_form_for_one(shell: InteractiveShell, page: Any) -> None:
    shell.user_ns["N"] = {"type": "object", "properties": {"n": {"type": "integer"}}}
    results = ask(shell, "--models json,north --schema N")
    assert results[0].value == {"n": 1}
    assert "no valid" in results[1].notes[-1]
    assert "no valid" in page.outputs[-1][1]["text/html"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--models a north", "two models given: north and a; give one"),
        ("--models a --model north", "two models given: north and a; give one"),
        ("--models a --diff", "--diff needs --models A,B"),
        ("--models a,b,c,d,e,f,g,h,i,j,k,l,m", r"takes up to 12 models, as in a,b,c \(got 13\)"),
        ("--models ,", "has no name in it"),
        ("--models a,b --bg", "cannot be combined with --bg"),
        ("--models a,b --chat c", "cannot be combined with --chat"),
        ("--models a,b --as json", "cannot be combined with --as"),
        ("--models a,b north", "cannot be combined with a model's name"),
        ("--diff", "--diff needs --models A,B"),
    ],
)
def test_what_does_not_go_together_is_refused(
    shell: InteractiveShell, manager: ModelManager, line: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ask(shell, line)
