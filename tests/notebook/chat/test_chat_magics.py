"""``%llm_chat`` and ``--chat`` in a shell within this process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.notebook.asking.ask_magics import ASK
from nbllm.notebook.chat.chat_step import OVERFLOWS
from nbllm.notebook.forms.answer_forms import FORMS
from nbllm.testing import FakeOpener, fake_info


@pytest.fixture
def run(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    manager = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener(text="Yes."))
    magics.load(shell, lambda: manager)

    def run_cell(cell: str) -> object:
        ran = shell.run_cell(cell)
        ran.raise_error()
        return ran.result

    run_cell("%llm -m tiny --chat trip One?")
    run_cell("%llm --chat trip Two?")
    return run_cell


def test_in_a_terminal_each_question_is_a_new_turn(run) -> None:
    run("%llm --chat trip Two?")
    assert run("%llm_chat")["turns"].tolist() == [3]


def test_the_list_says_what_there_is(run) -> None:
    (row,) = run("%llm_chat").to_dict("records")
    assert row["chat"] == "trip"
    assert row["model"] == "tiny"
    assert row["last question"] == "Two?"
    assert row["context used (tokens)"] == 4


def test_the_system_prompt_is_the_conversations_with_its_variables(run) -> None:
    run("name = 'Ada'")
    run('%llm --chat trip --system "Speak to {name}." Three?')
    run("name = 'Bob'")
    run("prompt = %llm --chat trip --show-prompt Four?")
    assert run("prompt.messages[0].text") == "Speak to Ada."
    run('%llm --chat trip --system "" Four?')
    run("prompt = %llm --chat trip --show-prompt Five?")
    assert run("prompt.messages[0].role") == "user"


def test_names_and_actions_complete(shell: InteractiveShell, run) -> None:
    def completed(text: str) -> set[str]:
        with provisionalcompleter():
            return {each.text for each in shell.Completer.completions(text, len(text))}

    assert "trip" in completed("%llm --chat tr")
    assert "trip" in completed("%llm_chat show tr")
    assert "branch" in completed("%llm_chat br")
    assert "summarise" in completed("%llm --overflow su")


def test_the_flags_offer_what_there_is() -> None:
    choices = {names[-1]: settings.get("choices") for names, settings in ASK.arguments}
    assert set(choices["--as"]) == {"markdown", *FORMS}
    assert choices["--overflow"] == OVERFLOWS


def test_branching_leaves_the_old_one_alone(run) -> None:
    run("%llm_chat branch trip other --at 1")
    run("%llm --chat other Else?")
    assert dict(run("%llm_chat").set_index("chat")["turns"]) == {"trip": 2, "other": 2}
    assert "Else?" in repr(run("%llm_chat show other"))
    assert "Two?" not in repr(run("%llm_chat show other"))


def test_a_conversation_can_be_taken_along(run, tmp_path: Path) -> None:
    run("%llm_chat system trip Be kind.")
    run("%llm_chat export trip 'a b.json'")
    run("%llm_chat delete trip")
    assert run("%llm_chat").empty
    table = run("%llm_chat import 'a b.json' again")
    assert table["system"].tolist() == ["Be kind."]
    assert table.attrs["notes"] == ("again was read from a b.json, with 2 turns.",)
    run("%llm_chat rename again back")
    run("%llm_chat reset back")
    assert run("%llm_chat")["turns"].tolist() == [0]


def test_saving_is_told_and_goes_on(run, tmp_path: Path) -> None:
    assert str(tmp_path / "trip.chat.json") in run("%llm_chat save trip").attrs["notes"][0]
    run("%llm --chat trip Three?")
    assert "Three?" in (tmp_path / "trip.chat.json").read_text()


def test_a_save_that_fails_leaves_the_conversation_usable(
    shell: InteractiveShell, run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not shell.run_cell("%llm_chat save trip sub/plan.json").success
    assert "not saved, only kept in memory" in capsys.readouterr().out
    run("%llm --chat trip Three?")
    assert run("%llm_chat")["turns"].tolist() == [3]


def test_a_file_that_is_lost_is_told_with_every_answer(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    run("%llm_chat save trip sub/plan.json")
    shutil.rmtree(tmp_path / "sub")
    capsys.readouterr()
    run("%llm --chat trip Three?")
    assert "not saved" in capsys.readouterr().out
    assert "not saved" in run("%llm_chat").attrs["notes"][0]
    run("%llm_config show_status=False")
    with pytest.warns(UserWarning, match="not saved"):
        run("%llm --chat trip Four?")
    (tmp_path / "sub").mkdir()
    run("%llm --chat trip Five?")
    assert "Three?" in (tmp_path / "sub" / "plan.json").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%llm_chat branch trip", "usage: %llm_chat branch OLD NEW"),
        ("%llm_chat show", "usage: %llm_chat show NAME"),
        ("%llm_chat list x", "usage: %llm_chat list"),
        ("%llm_chat show trip --at 1", "--at works with branch only: %llm_chat branch"),
        (
            "%llm_chat branch trip x --at 3",
            "--at must be between 0 and 2, the turns of trip (got 3)",
        ),
        ("%llm_chat show tripp", "Did you mean 'trip'?"),
        ("%llm_chat import none.json", "No such file or directory"),
        ("%llm_chat import ~nosuchuser/x.json", "no home folder for ~nosuchuser"),
        ("%llm_chat import /dev/zero", "it is a device"),
        ("%llm_chat save trip /dev/null", "it is a device"),
        ("%llm_chat export trip sub/x.json", "x.json could not be written: No such file"),
        ("%llm_chat export trip ~nosuchuser/x.md", "no home folder for ~nosuchuser"),
        ("%llm_chat rename trip a/b", "a name must have"),
        ("%llm --chat 'a b' Hi", "a name must have"),
        ("%llm --overflow summarise Hi", "it applies to conversations; add --chat NAME"),
        ("%llm --as json --bg Hi", "cannot be combined with --bg"),
        ("%llm --schema nothing Hi", "there is no variable nothing"),
        ("%llm_explain", "no cell has failed yet"),
    ],
)
def test_a_wrong_line_fails_with_one_line(
    shell: InteractiveShell, run, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    capsys.readouterr()
    assert not shell.run_cell(line).success
    out, error = capsys.readouterr()
    assert words in out + error
    assert len((out + error).strip().splitlines()) == 1


def test_a_background_answer_is_recorded_in_its_conversation(run) -> None:
    run("job = %llm --chat trip --bg Three?\njob.result(10)")
    assert run("%llm_chat")["turns"].tolist() == [3]
    assert run("%llm_chat")["incomplete"].tolist() == [0]


def test_another_notebook_says_where_it_goes_on_from(
    shell: InteractiveShell, run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("%llm_chat save trip")
    magics.unload(shell)
    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener(text="Yes."))
    magics.load(shell, lambda: manager)
    capsys.readouterr()
    run("%llm -m tiny --chat trip Three?")
    assert "goes on from trip.chat.json, 2 turns · chat trip, turn 3" in capsys.readouterr().out
    run("%llm --chat trip Four?")
    assert "goes on from" not in capsys.readouterr().out


def test_a_turn_is_shown_as_it_was_typed(run) -> None:
    run("import pandas as pd; df = pd.DataFrame({'n': range(9)})")
    run("%llm --chat trip What is the mean of {df}?")
    shown = run("%llm_chat show trip")
    assert "What is the mean of {df}?" in repr(shown)
    assert "as it was sent, with " in repr(shown)
    assert "<details>" in shown._repr_html_()
    assert "{df}" in run("%llm_chat")["last question"][0]
