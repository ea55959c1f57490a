"""``%llm_budget`` in a shell; budgets have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm import Budget, ModelManager
from nbllm.core.budgets.budgets import Budgets
from nbllm.errors import BudgetError
from nbllm.notebook import extension
from nbllm.testing import FakeOpener, fake_info


@pytest.fixture
def manager(shell: InteractiveShell, tmp_path: Path) -> ModelManager:
    made = ModelManager(
        [fake_info("tiny")],
        folder=tmp_path,
        open_model=FakeOpener(),
        budgets=Budgets(file=tmp_path / "spent.json"),
    )
    extension.load(shell, lambda: made)
    return made


def test_a_budget_is_set_shown_and_held(shell: InteractiveShell, manager: ModelManager) -> None:
    shell.run_line_magic("llm_budget", "--requests 1 --usd $2.50")
    shell.run_line_magic("llm", "--model tiny Hi.")
    table = shell.run_line_magic("llm_budget", "")
    assert table.to_dict("list") == {
        "budget": ["this kernel"] * 2,
        "model": ["all"] * 2,
        "unit": ["US dollars", "requests"],
        "limit": [2.5, 1],
        "spent": [0, 1],
        "reserved": [0, 0],
        "left": [2.5, 0],
    }
    with pytest.raises(BudgetError, match="budget of 1 request has 0 requests left"):
        shell.run_line_magic("llm", "--model tiny Hi.")
    shell.run_line_magic("llm_budget", "--requests 2")  # which leaves the dollars as they are
    assert manager.budgets.chosen() == [Budget(usd=2.5, requests=2)]
    shell.run_line_magic("llm", "--model tiny Hi.")


def test_a_cell_gets_what_is_left(
    shell: InteractiveShell, manager: ModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("llm_budget", "--tokens 20")
    manager._loader._open_model = FakeOpener(text="word " * 100)
    result = shell.run_line_magic("llm", "--model tiny Say a lot.")
    assert (result.finish_reason, result.usage.completion_tokens) == ("length", 17)
    assert "the budget had 17 tokens left for it: %llm_budget" in capsys.readouterr().out
    with pytest.raises(BudgetError, match="has 0 tokens left"):
        shell.run_line_magic("llm", "--model tiny Say more.")


def test_several_are_told_apart(
    shell: InteractiveShell, manager: ModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("llm_budget", "--tokens 1.5M --per day")
    shell.run_line_magic("llm_budget", "--usd 1 --unknown 3 --model gpt-4o")
    assert manager.budgets.chosen() == [
        Budget(tokens=1_500_000, per="day"),
        Budget(usd=1, unknown=3, model="gpt-4o"),
    ]
    assert "count as $3 for a million tokens" in repr(shell.run_line_magic("llm_budget", ""))
    shell.run_line_magic("llm_budget", "off --model gpt-4o")
    assert "Removed: this kernel's budget for gpt-4o." in capsys.readouterr().out
    shell.run_line_magic("llm_budget", "reset --per day")
    shell.run_line_magic("llm_budget", "off --model gpt-4o")
    assert "No budget was removed." in capsys.readouterr().out
    assert len(manager.budgets.chosen()) == 1


def test_a_damaged_file_is_told_in_the_table(
    shell: InteractiveShell, manager: ModelManager, tmp_path: Path
) -> None:
    (tmp_path / "spent.json").write_text("{")
    shown = repr(shell.run_line_magic("llm_budget", "--usd 1 --per day"))
    assert "spent.json: it is damaged, so what was spent is not known" in shown


def test_nothing_is_set_at_first(shell: InteractiveShell, manager: ModelManager) -> None:
    assert "No budget is set" in repr(shell.run_line_magic("llm_budget", ""))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--tokens many", "'many' is not a number such as 500, 20k or 1.5M"),
        ("--tokens 1.5", "'1.5' is not a number"),
        ("--usd 5e", "'5e' is not an amount in US dollars such as 2.50"),
        ("--usd -1", "usd must be between 0 and"),
        ("--unknown 3", "needs a limit"),
        ("off --usd 3", "takes --per and --model only"),
    ],
)
def test_what_makes_no_sense_is_refused(
    shell: InteractiveShell, manager: ModelManager, line: str, message: str
) -> None:
    with pytest.raises((UsageError, ValueError), match=message):
        shell.run_line_magic("llm_budget", line)
