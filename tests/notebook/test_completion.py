"""What the shell's completer offers behind the magics."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info


@pytest.fixture
def complete(shell: InteractiveShell, tmp_path: Path):
    infos = [fake_info("tiny"), fake_info("Other-7B")]
    manager = ModelManager(infos, folder=tmp_path, open_model=FakeOpener())
    magics.load(shell, lambda: manager)

    def complete(text: str, before: int | None = None) -> list[str]:
        with provisionalcompleter():
            found = shell.Completer.completions(text, len(text) if before is None else before)
            return [completion.text for completion in found]

    return complete


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%%llm ti", ["tiny"]),
        ("%%llm oth", ["Other-7B"]),
        ("%llm_load ti", ["tiny"]),
        ("model = %llm_load ti", ["tiny"]),
        ("%llm -m ti", ["tiny"]),
        ("%%llm --model=ti", ["tiny"]),
        ("%%llm --models ti", ["tiny"]),
        ("%%llm --models Other-7B,ti", ["tiny"]),
        ("%%llm --models=Other-7B,ti", ["tiny"]),
        ("%%llm --temperature 0 ti", ["tiny"]),
        ("%%llm --max-tok", ["--max-tokens"]),
        ("%%llm tiny --se", ["--seed"]),
        ("%llm_load tiny --gpu", ["--gpu-layers"]),
        ("%llm_jobs st", ["stop"]),
        ("%%llm gpt-5-m", ["gpt-5-mini"]),
        ("%llm_load oll", ["ollama/"]),
        ("%%llm openr", ["openrouter/"]),
        ("%llm_help llm_lo", ["llm_load"]),
        ("%llm_config mod", ["model"]),
        ("%llm_config model temperature=0 show_r", ["show_reasoning"]),
        ("%%llm --reasoning-effort m", ["minimal", "medium", "max"]),
        ("%llm_config reasoning_effort=x", ["xhigh"]),
        ("%llm_config max_to", ["max_tokens"]),
        ("%llm_config model=ti", ["tiny"]),
        ("%llm_config show_status=F", ["False"]),
    ],
)
def test_it_offers_what_can_stand_there(complete, line: str, expected: list[str]) -> None:
    assert complete(line) == expected


@pytest.mark.parametrize(
    "line", ["%%llm tiny ti", "%llm ti", "%llm_unload ti", "%load_ext ti", "ti", "%nothing ti"]
)
def test_it_offers_nothing_elsewhere(complete, line: str) -> None:
    assert "tiny" not in complete(line)


def test_what_is_loaded_can_be_unloaded(complete, shell: InteractiveShell) -> None:
    shell.run_line_magic("llm_load", "tiny --as little")
    assert complete("%llm_unload li") == ["little"]
    assert complete("%%llm li") == ["little"]


def test_a_group_of_magics_can_add_words(complete, shell: InteractiveShell) -> None:
    session = shell.magics_manager.registry["AskMagics"].session
    session.completions.words["output"] = lambda: ["answer"]
    assert complete("%%llm -o an") == ["answer"]


def test_lines_below_a_cell_magic_are_left_alone(complete) -> None:
    cell = "%%llm ti\n%llm_load ti"
    assert complete(cell, before=len("%%llm ti")) == ["tiny"]
    assert "tiny" in complete("x = 1\n%llm_load ti")


def test_it_takes_milliseconds(complete, shell: InteractiveShell) -> None:
    find = shell.magics_manager.registry["AskMagics"].session.completions.find
    line = "%%llm --temperature 0 ti"
    find(line)

    def seconds() -> float:
        began = time.perf_counter()
        assert find(line).words == ["tiny"]
        return time.perf_counter() - began

    assert min(seconds() for _ in range(20)) < 0.01  # 0.1 ms on an idle machine
