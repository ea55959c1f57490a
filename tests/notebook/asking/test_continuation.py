"""``%llm --continue``: an answer that was cut off goes on as one text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.core.types import FinishReason
from nbllm.notebook import extension as magics
from nbllm.testing import FakeModel, FakeOpener, fake_info


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener(text="one two three four five")


@pytest.fixture
def run(shell: InteractiveShell, opener: FakeOpener, tmp_path: Path):
    models = [fake_info("tiny"), fake_info("hosted", local=False)]
    manager = ModelManager(models, folder=tmp_path, open_model=opener)
    magics.load(shell, lambda: manager)
    return lambda cell: shell.run_cell(cell).raise_error()


def sent(opener: FakeOpener) -> list[tuple[str, str]]:
    return [(m.role, m.text) for m in opener.opened[-1].requests[-1].messages]


def test_the_answer_goes_on_as_one_text(run, opener, shell: InteractiveShell, capsys) -> None:
    run("%%llm tiny --max-tokens 2 --system Brief. --temperature 0.5\nGo {on}")
    assert "%llm --continue goes on" in capsys.readouterr().out
    run("%llm --continue --max-tokens 2 -o more")
    asked = [("system", "Brief."), ("user", "Go {on}")]
    assert sent(opener) == [*asked, ("assistant", "one two")]
    assert opener.opened[-1].requests[-1].options.temperature == 0.5
    assert shell.user_ns["more"].text == "one twoone two"
    out = capsys.readouterr().out
    assert "one twoone two" in out
    run("%llm --continue")
    assert sent(opener) == [*asked, ("assistant", "one twoone two")]
    assert opener.opened[-1].requests[-1].options.max_tokens == 1000
    result = shell.user_ns["_llm"]
    assert result.text == "one twoone twoone two three four five"
    assert result.finish_reason is FinishReason.STOP


def test_vendors_are_asked_to_go_on(run, opener) -> None:
    run("%%llm hosted --max-tokens 2\nGo")
    run("%llm --continue")
    assert [role for role, _ in sent(opener)] == ["user", "assistant", "user"]
    assert sent(opener)[-1][1].startswith("Continue exactly where")


def test_a_raw_text_is_longer_by_its_continuation(run, opener) -> None:
    run("%%llm tiny --completion --max-tokens 2\nOnce,")
    run("%llm --continue")
    assert sent(opener) == [("user", "Once,one two")]


def test_the_turn_of_a_conversation_gets_the_longer_answer(run, opener) -> None:
    run("%%llm tiny --chat c --max-tokens 2\nGo")
    run("%llm --continue --max-tokens 3")
    run("%%llm tiny --chat c\nAnd now?")
    assert sent(opener) == [
        ("user", "Go"),
        ("assistant", "one twoone two three"),
        ("user", "And now?"),
    ]


def test_a_job_in_the_background_goes_on_too(run, opener, shell: InteractiveShell) -> None:
    run("%%llm tiny --max-tokens 2\nGo")
    run("%llm --continue --bg -o job")
    assert shell.user_ns["job"].result().text == "one twoone two three four five"


@pytest.mark.parametrize(
    ("before", "cell", "problem"),
    [
        ("", "%llm --continue", "no model has answered yet"),
        ("%llm -m tiny Go", "%llm --continue", "the last answer is complete"),
        ("%llm -m tiny --max-tokens 2 Go", "%llm --continue more", "takes no prompt"),
        ("%llm -m tiny --max-tokens 2 Go", "%%llm --continue\nmore", "takes no prompt"),
        ("%llm -m tiny --max-tokens 2 Go", "%llm --continue --chat c", "omit --chat"),
        ("%llm -m tiny --max-tokens 2 Go", "%llm --continue -m hosted", "omit a model"),
        ("%llm -m tiny --max-tokens 2 Go", "%llm --continue --show-prompt", "omit --show-prompt"),
        ("%llm -m tiny --max-tokens 2 Go", "%llm --continue --completion", "omit --completion"),
        (
            "%llm -m tiny --max-tokens 2 --as text Go",
            "%llm --continue",
            "larger --max-tokens",
        ),
    ],
)
def test_what_cannot_go_on_says_why(run, opener, before: str, cell: str, problem: str) -> None:
    if before:
        run(before)
    with pytest.raises(Exception, match=problem):
        run(cell)
    assert len(opener.opened[-1].requests if opener.opened else []) == bool(before)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FinishReason.REPETITION, ["stopped: it repeats itself", "%%llm --repeat-penalty 1.1"]),
        (FinishReason.LENGTH, ["the context of 4,096 tokens is full"]),
    ],
)
def test_an_early_end_names_its_remedy(run, monkeypatch, capsys, reason, told) -> None:
    whole = FakeModel._result

    def ended(self, *args):
        result = whole(self, *args)
        return replace(
            result, finish_reason=reason, usage=replace(result.usage, prompt_tokens=4091)
        )

    monkeypatch.setattr(FakeModel, "_result", ended)
    run("%llm -m tiny Go")
    out = capsys.readouterr().out
    assert all(words in out for words in told)
    assert "--continue" not in out
