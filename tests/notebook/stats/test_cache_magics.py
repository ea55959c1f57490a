"""``%llm_cache`` in a shell; the cache itself has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllm import ModelManager
from nbllm.core.caching.answer_stores import MemoryStore
from nbllm.core.errors import ConfigError, InvalidOptionError
from nbllm.notebook import extension
from nbllm.testing import FakeOpener, fake_info


@pytest.fixture
def manager(shell: InteractiveShell, tmp_path: Path) -> ModelManager:
    made = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener())
    extension.load(shell, lambda: made)
    return made


def test_a_question_is_asked_once(
    shell: InteractiveShell, manager: ModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("llm_cache", "on")
    assert "temperature 0 or with a seed are kept" in capsys.readouterr().out
    for _ in range(2):
        shell.run_line_magic("llm", "--model tiny -t 0 Say {{it}}.")
    assert manager.cache.counts == {"hits": 1, "misses": 1}
    stats = shell.run_line_magic("llm_stats", "")
    assert stats["from cache"].tolist() == [False, True]
    assert shell.run_line_magic("llm_stats", "--summary")["from cache"].tolist() == [1]
    table = shell.run_line_magic("llm_cache", "find Say")
    assert len(table) == 1
    assert len(shell.run_line_magic("llm_cache", "find other")) == 0
    shell.run_line_magic("llm_cache", "clear")
    assert "1 answer was removed." in capsys.readouterr().out
    shell.run_line_magic("llm_cache", "off")
    assert manager.cache.mode == "off"


def test_a_file_that_cannot_be_used_is_told_when_it_is_chosen(
    shell: InteractiveShell,
    manager: ModelManager,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    shell.run_line_magic("llm_cache", f"on --file {tmp_path / 'file' / 'x'}")
    assert "Answers are kept in memory only" in capsys.readouterr().out


def test_age_and_size_are_bounded(shell: InteractiveShell, manager: ModelManager) -> None:
    shell.run_line_magic("llm_cache", "on --ttl 1h --max-size 2MiB")
    assert isinstance(manager.cache.store, MemoryStore)
    for line in ("on --ttl soon", "on --max-size 5", "on --max-size 0GiB"):
        with pytest.raises(UsageError, match="is not a"):
            shell.run_line_magic("llm_cache", line)


@pytest.mark.parametrize(
    ("flag", "asked"), [("--cache", 1), ("--cache on", 1), ("--cache=force", 1), ("--cache off", 2)]
)
def test_a_request_may_ask_for_it_by_itself(
    shell: InteractiveShell, manager: ModelManager, flag: str, asked: int
) -> None:
    for _ in range(2):
        shell.run_line_magic("llm", f"--model tiny -t 0 {flag} Say it.")
        shell.run_cell_magic("llm", f"tiny -t 0 {flag}", "Say it.")
    assert len(manager.get_model("tiny").requests) == (1 if asked == 1 else 4)


def test_the_setting_turns_it_on(shell: InteractiveShell, manager: ModelManager) -> None:
    shell.run_line_magic("llm_config", "cache=on temperature=0")
    for _ in range(2):
        shell.run_line_magic("llm", "--model tiny Say it.")
    assert len(manager.get_model("tiny").requests) == 1
    with pytest.raises(ConfigError, match="cache must be one of off, on, force"):
        shell.run_line_magic("llm_config", "cache=often")
    with pytest.raises(InvalidOptionError, match="cache must be one of off, on, force"):
        shell.run_line_magic("llm", "--cache=often Say it.")
