"""What can be refused without the model is refused before it is loaded, as the caller wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm import ModelManager
from nbllm.batches.journal import Journal
from nbllm.core.errors import NbllmError
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

DF = pd.DataFrame({"text": ["one", "two"]})


@pytest.fixture
def opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpener]:
    """In the working directory lie files that are no journals of a run that could go on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "table.csv").write_text("text,answer\none,1\n")
    old = {"nbllm": "batch", "version": 1, "salt": "x"}
    (tmp_path / "old.jsonl").write_text(json.dumps(old, separators=(",", ":")) + "\n")
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)) * 8)
    with Journal(tmp_path / "sent.jsonl") as sent:
        sent.note({"batch": "t", "keys": ["a", "b"], "since": 1.0})
    with ExitStack() as stack:
        stack.enter_context(Journal(tmp_path / "busy.jsonl"))
        yield FakeOpener(text="Yes.")


@pytest.fixture
def manager(opener: FakeOpener, tmp_path: Path) -> ModelManager:
    return ModelManager([fake_info("tiny")], folder=tmp_path, open_model=opener)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"batch_api": True, "concurrency": 3}, "concurrency cannot be combined with batch_api: the v"),
    ({"batch_api": True, "max_total_tokens": 9}, "max_total_tokens cannot be combined with batch"),
    ({"cancel_batch": True, "concurrency": 3}, "concurrency cannot be combined with cancel_batch"),
    ({"cancel_batch": True, "dry_run": True}, "cancel_batch cannot be combined with dry_run; drop"),
    ({"batch_api": True}, "it has no batch API; OpenAI, Anthropic and Gemini have one"),
    ({"cancel_batch": True}, "it has no batch API"),
    ({"batch_api": True, "dry_run": True}, "it has no batch API"),
    ({"calibrate": True}, "calibrate requires decide"),
    ({"system": 3}, "system must be a string (got 3)"),
    ({"title": None}, "title must be a string (got None)"),
    ({"journal": 3}, "journal must be the path of a file (got 3)"),
    ({"progress": 3}, "progress must be a function"),
    ({"preview_above": "many"}, "preview_above must be an integer (got 'many')"),
    ({"preview_above": -1}, "preview_above must be at least 0 (got -1)"),
    ({"dry_run": "no"}, "dry_run must be True or False (got 'no')"),
    ({"batch_api": 1}, "batch_api must be True or False (got 1)"),
    ({"model": 3}, "model must be a model's name, or a loaded model (got 3)"),
    ({"model": "tinny", "batch_api": True}, "tinny"),
]
FILES = [
    ("folder", "folder"),
    ("notes.txt", "notes.txt is not a journal of nbllm; name another file with"),
    ("table.csv", "is not a journal of nbllm"),
    ("binary.bin", "is not a journal of nbllm"),
    ("old.jsonl", "is a journal of another version of nbllm, in the format 1 and not"),
    ("busy.jsonl", "is in use by another run; wait for it, or stop it"),
    ("sent.jsonl", "notes 2 rows that were sent to a vendor's batch API"),
    ("none/run.jsonl", "its folder does not exist; create it"),
    ("notes.txt/run.jsonl", "its folder does not exist; create it"),
    ("", "cannot be written"),
]


@pytest.mark.parametrize(("options", "problem"), OPTIONS)
def test_options_are_refused_before_the_model_is_loaded(
    manager: ModelManager, opener: FakeOpener, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(NbllmError) as refused:
        nbllm.map_frame(DF, "{text}", **{"model": "tiny", "manager": manager, **options})
    assert problem in str(refused.value)
    assert not opener.opened


@pytest.mark.parametrize(("file", "problem"), FILES)
def test_a_wrong_journal_is_refused_before_the_model_is_loaded_and_stays(
    manager: ModelManager, opener: FakeOpener, tmp_path: Path, file: str, problem: str
) -> None:
    before = {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    with pytest.raises(NbllmError) as refused:
        nbllm.map_frame(DF, "{text}", model="tiny", manager=manager, journal=file)
    assert problem in str(refused.value)
    assert not opener.opened
    assert {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()} == before


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("--batch-api --concurrency 3", "--concurrency cannot be combined with --batch-api: the v"),
        ("--batch-api --max-total-tokens 9", "--max-total-tokens cannot be combined with --batch"),
        ("--cancel-batch --concurrency 3", "--concurrency cannot be combined with --cancel-batch"),
        ("--cancel-batch --dry-run", "--cancel-batch cannot be combined with --dry-run; drop one"),
        (
            "--batch-api",
            "it has no batch API; OpenAI, Anthropic and Gemini have one. Leave --batch",
        ),
        ("--calibrate", "--calibrate requires --decide LABELS"),
        *((f"--journal {file}", problem) for file, problem in FILES if file),
    ],
)
@pytest.mark.parametrize("background", ["", " --bg"])
def test_a_cell_is_refused_before_the_model_is_loaded_in_its_own_form(
    shell: InteractiveShell,
    manager: ModelManager,
    opener: FakeOpener,
    capsys: pytest.CaptureFixture[str],
    line: str,
    problem: str,
    background: str,
) -> None:
    magics.load(shell, lambda: manager)
    shell.user_ns["df"] = DF
    assert not shell.run_cell(f"%%llm tiny --map df {line}{background}\n{{text}}").success
    words = "".join(capsys.readouterr())
    assert problem in words
    assert "journal=" not in words
    assert not opener.opened


def test_a_journal_that_may_be_is_not_made_before_the_model_is_there(
    opener: FakeOpener, tmp_path: Path
) -> None:
    place = tmp_path / "new.jsonl"
    failing = FakeOpener(load_error=RuntimeError("no memory"))
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=failing)
    with pytest.raises(Exception, match="no memory"):
        nbllm.map_frame(DF, "{text}", model="tiny", manager=manager, journal=place)
    assert not place.exists()
