"""What a wrong ``%%llm --map`` cell is told: in the form in which it was typed, never Python's."""

from __future__ import annotations

import re
import signal
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm import ModelManager
from nbllm.core.errors import BatchError, InvalidOptionError
from nbllm.notebook import extension as magics
from nbllm.notebook.batch.frame_request import FrameRequest
from nbllm.testing import FakeOpener, fake_info

KIND: Any = FrameRequest
NAMES = [each.name for each in fields(KIND)]
PYTHONS = re.compile(
    "|".join(rf"\b{name}=|\b{name}\b" if "_" in name else rf"\b{name}=" for name in NAMES)
)
"""Options as Python writes them: with "=", or with an underscore, which no flag has."""


@dataclass
class Part:
    """What a part is."""

    size: int


@pytest.fixture
def notebook(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> InteractiveShell:
    monkeypatch.chdir(tmp_path)
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener(text="Yes."))
    magics.load(shell, lambda: manager)
    (tmp_path / "notes.txt").write_text("hello\n")
    shell.user_ns |= {
        "df": pd.DataFrame({"text": ["one", "two"], "n": [1, 2]}),
        "twice": pd.DataFrame([[1, 2]], columns=["text", "text"]),
        "levels": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("text", "x")])),
        "empty": pd.DataFrame(),
        "records": [{"text": "one"}],
        "Part": Part,
        "labels": {"x": ["a", "b"]},
    }
    return shell


def told(notebook: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    capsys.readouterr()
    outcome = notebook.run_cell(cell)
    assert not outcome.success
    return next(line for line in "".join(capsys.readouterr()).splitlines() if "Error" in line)


@pytest.mark.parametrize(
    ("line", "prompt", "message"),
    [
        ("--map dff", "{text}", "--map: there is no variable 'dff'. Did you mean 'df'?"),
        ("--map records", "{text}", "records must be a DataFrame (it is of type list); make one"),
        ("--map records", "{text}", "with pd.DataFrame(records)"),
        ("--map twice", "{text}", "the prompt has {text}, but several columns have that name"),
        ("--map levels", "{text}", "levels has columns of 2 levels; give them one first"),
        ("--map empty", "{text}", "the prompt has {text}, which is not a column. The DataFrame"),
        ("--map df", "nothing", "the prompt has no column in braces, so that every row would"),
        ("--map df", "{txt}", "which is not a column. Did you mean 'text'?"),
        ("--map df", "{}", "the prompt has {}, without a column's name"),
        ("--map df", "{text", "the prompt has a single {"),
        ("--map df", "{text.x}", "attributes and items of values are not read"),
        ("--map df --into text", "{n}", "df has a column 'text' already; give the new one"),
        ("--map df --into text", "{n}", "with --into NAME"),
        ('--map df --decide {"n":bool}', "{text}", "df has a column 'n' already; give the new one"),
        ("--map df --into ''", "{n}", "--into must not be empty"),
        ("--map df --schema Prt", "{n}", "--schema: there is no variable Prt"),
        ("--map df --schema list[int]", "{n}", "--schema must describe an object"),
        ("--map df --schema Part --decide labels", "{n}", "--decide cannot be combined with --sch"),
        ("--map df --decide {}", "{n}", "--decide must name what to decide"),
        ("--map df --decide lables", "{n}", "--decide: there is no variable lables"),
        ("--map df --calibrate", "{n}", "--calibrate requires --decide LABELS"),
        ("--map df --dry-run --cancel-batch", "{n}", "--cancel-batch cannot be combined with --dr"),
        ("--map df --max-cost much", "{n}", "--max-cost must be a number (got 'much')"),
        ("--map df --max-cost -1", "{n}", "--max-cost must be at least 0"),
        ("--map df --max-total-tokens 1.5", "{n}", "--max-total-tokens must be an integer"),
        ("--map df --max-failures 200%", "{n}", "--max-failures must be a number (got '200%')"),
        ("--map df --max-failures 7", "{n}", "--max-failures must be between 0 and 1 (got 7)"),
        ("--map df --concurrency 0", "{n}", "--concurrency must be between 1 and 1,000 (got 0)"),
        ("--map df --max-tokens 0", "{n}", "--max-tokens must be at least 1 (got 0)"),
        ("--map df --top-p 2", "{n}", "--top-p must be between 0 and 1"),
        ("--map df --journal notes.txt", "{n}", "is not a journal of nbllm; name another file"),
        ("--map df --journal notes.txt", "{n}", "with --journal FILE"),
        ("--map df --batch-api", "{n}", "Leave --batch-api out to ask it row by row"),
        (
            "--map df --batch-api --concurrency 3",
            "{n}",
            "--concurrency cannot be combined with --b",
        ),
        ("--map df --batch-api --max-total-tokens 9", "{n}", "cannot be combined with --batch-api"),
        ("--map df --max-total-tokens 1", "{text} {n}", "the next answer could exceed --max-total"),
        ("--map df --chat trip", "{n}", "--map cannot be combined with --chat; drop one"),
        ("--map df --raw", "{n}", "--map cannot be combined with --raw; drop one"),
        ("--into x", "{n}", "--into needs --map DF"),
        ("--max-failures 10%", "{n}", "--max-failures needs --map DF"),
    ],
)
def test_a_wrong_cell_is_told_in_its_own_form(
    notebook: InteractiveShell,
    capsys: pytest.CaptureFixture[str],
    line: str,
    prompt: str,
    message: str,
) -> None:
    words = told(notebook, capsys, f"%%llm tiny {line}\n{prompt}")
    assert message in words
    assert not PYTHONS.search(words)


def test_the_same_in_python_is_told_in_python_s_form(notebook: InteractiveShell) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        nbllm.map_frame(notebook.user_ns["df"], "{n}", into="text")
    wanted = "df has a column 'text' already; give the new one another name with into=…"
    assert str(refused.value) == wanted


def test_a_background_run_is_told_in_the_cell_s_form_too(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    manager = ModelManager(
        [fake_info("tiny")],
        folder=tmp_path,
        open_model=FakeOpener(text="Yes.", load_seconds=0.2),
    )
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = pd.DataFrame({"text": ["one", "two"]})
    shell.run_cell("%%llm tiny --map df --bg -o job --max-total-tokens 1\n{text}")
    job = shell.user_ns["job"]
    assert job.state in ("waiting", "loading")
    with pytest.raises(BatchError, match=r"could exceed --max-total-tokens: .* the same --journal"):
        job.result(10)


def test_a_load_that_fails_is_the_failure_of_the_job(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    opener = FakeOpener(load_error=RuntimeError("no memory"))
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=opener)
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = pd.DataFrame({"text": ["one", "two"]})
    assert shell.run_cell("%%llm tiny --map df --bg -o job\n{text}").success
    with pytest.raises(Exception, match="no memory"):
        shell.user_ns["job"].result(10)
    assert shell.user_ns["job"].state == "failed"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5.0, "Loading tiny was stopped. No row was asked."),
        (0.0, "What is finished is shown but not kept: -o VAR keeps it, and with --journal FILE"),
    ],
)
def test_an_interrupt_says_what_is_kept(
    shell: InteractiveShell,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seconds: float,
    words: str,
) -> None:
    opener = FakeOpener(text="Yes.", load_seconds=seconds, token_seconds=0.2)
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=opener)
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = pd.DataFrame({"text": [str(number) for number in range(50)]})
    timer = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
    timer.start()
    shell.run_cell("%%llm tiny --map df --concurrency 2\n{text}")
    assert words in "".join(capsys.readouterr())
