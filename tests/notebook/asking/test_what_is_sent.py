"""What a cell sends: its prompt without blank ends, and a limit where none is set."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.errors import AnswerFormError
from nbllm.core.model_manager import ModelManager
from nbllm.core.texts import trimmed
from nbllm.core.types import GenerationOptions, ImagePart, TextPart
from nbllm.notebook import extension as magics
from nbllm.notebook.asking.pipeline import _trimmed_parts
from nbllm.testing import FakeOpener, fake_info


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener(text="one two three four five")


@pytest.fixture
def run(shell: InteractiveShell, opener: FakeOpener, tmp_path: Path):
    frugal = fake_info("frugal", options=GenerationOptions(max_tokens=2))
    hosted = fake_info("hosted", local=False)
    models = [fake_info("tiny"), frugal, hosted]
    manager = ModelManager(models, folder=tmp_path, open_model=opener)
    magics.load(shell, lambda: manager)
    return lambda cell: shell.run_cell(cell).raise_error()


def sent(opener: FakeOpener) -> str:
    return opener.opened[-1].requests[-1].messages[-1].text


QUESTION = "What is the capital of Germany?"


@pytest.mark.parametrize(
    "cell",
    [
        f"%llm -m tiny {QUESTION}",
        f"%llm -m tiny   {QUESTION}  ",
        f"%%llm tiny\n{QUESTION}",
        f"%%llm tiny\n{QUESTION}\n",
        f"%%llm tiny\n\n  {QUESTION}  \n\n\n",
        f"q = '\\n{QUESTION}\\n'\n%llm -m tiny {{q}}",
        f"%%llm tiny --raw\n{QUESTION}\n",
        f"%%llm tiny --chat c\n{QUESTION}\n",
    ],
)
def test_one_prompt_is_one_request(run, opener: FakeOpener, cell: str) -> None:
    run(cell)
    assert sent(opener) == QUESTION


def test_raw_text_loses_no_more_than_the_newline_of_the_cell(run, opener: FakeOpener) -> None:
    run("%%llm tiny --raw\n  a {b} \n\n")
    assert sent(opener) == "  a {b} \n"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        (" \n ", ""),
        ("a\n", "a"),
        ("\n\n    def f():\n        pass\n\n", "    def f():\n        pass"),
        ("\u2003a\nb\u00a0", "\u2003a\nb"),
    ],
)
def test_the_first_of_several_lines_keeps_its_indentation(text: str, whole: str) -> None:
    assert trimmed(text) == whole


def test_blank_texts_about_images_go() -> None:
    image = ImagePart(url="https://example.com/a.png")
    parts = (TextPart(" \n"), image, TextPart(" and \n"))
    assert _trimmed_parts(parts) == (image, TextPart(" and"))
    assert _trimmed_parts((TextPart(" a "),)) == (TextPart("a"),)


@pytest.mark.parametrize(
    ("flags", "limit"),
    [
        ("tiny", 1000),
        ("tiny --max-tokens 7", 7),
        ("tiny --reasoning-effort high", None),
        ("frugal", 2),
        ("hosted", 4000),
    ],
)
def test_every_cell_has_a_limit(run, opener: FakeOpener, flags: str, limit: int | None) -> None:
    run(f"%%llm {flags}\nGo")
    assert opener.opened[-1].requests[-1].options.max_tokens == limit


def test_a_limit_that_bites_says_how_to_go_on(run, opener: FakeOpener, capsys) -> None:
    run("%llm_config cell_limit=3")
    run("%%llm tiny\nGo")
    told = capsys.readouterr().out
    assert "cells are limited to 3 tokens: %%llm --max-tokens N sets another limit" in told
    assert "%llm_config cell_limit=N" in told
    run("%%llm tiny --max-tokens 2\nGo")
    assert "cells stop" not in capsys.readouterr().out
    run("%llm_config cell_limit=0\n")
    run("%%llm tiny\nGo")
    assert opener.opened[-1].requests[-1].options.max_tokens is None


def test_a_negative_limit_is_refused(run, capsys) -> None:
    run("%llm_config cell_limit=5")
    with pytest.raises(Exception, match=r"must be between 0 \(no limit\) and"):
        run("%llm_config cell_limit=-1")


def test_only_local_models_are_bound_by_the_forms_grammar(run, opener: FakeOpener) -> None:
    with suppress(AnswerFormError):
        run("%%llm tiny --as table\nGo")
    request = opener.opened[-1].requests[-1]
    assert request.options.response_schema["type"] == "array"
    assert request.options.stop_repetition is True
    assert sent(opener).startswith("Go\n\nAnswer with a JSON array of objects only")
    with suppress(AnswerFormError):
        run("%%llm hosted --as table\nGo")
    assert opener.opened[-1].requests[-1].options.response_schema is None
    assert sent(opener) == "Go\n\nAnswer with a Markdown table only."
