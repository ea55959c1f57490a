"""The store of conversations: names, files, crashes, and what fits into a context."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbllm.core.conversations.conversation_files import read_conversation
from nbllm.core.conversations.saved_conversation import Conversation, Turn
from nbllm.core.errors import ContextLengthError, ConversationError
from nbllm.core.types import FinishReason, GenerationOptions, Message
from nbllm.notebook.chat.chat_step import fitted
from nbllm.notebook.chat.chats import Cell, Chats, running_cell
from nbllm.testing import FakeModel, fake_info


def turn(place: str, words: int = 1) -> Turn:
    return Turn(
        place=place,
        question=Message("user", f"{place} " + "q " * (words - 1)),
        answer=Message("assistant", "a " * words),
        finish_reason=FinishReason.STOP,
    )


def chat_of(*turns: Turn) -> Conversation:
    return Conversation(name="c", turns=turns)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ------------------------------------------------------------ names and files


def test_nothing_is_written_before_it_is_asked_for(tmp_path: Path) -> None:
    chats = Chats()
    chats.begin("trip")
    chats.update("trip", lambda chat: chat.put(turn("a")))
    assert list(tmp_path.iterdir()) == []


def test_a_saved_conversation_is_found_again_after_a_restart(tmp_path: Path) -> None:
    chats = Chats()
    chats.begin("trip")
    file = chats.save("trip")
    chats.update("trip", lambda chat: chat.put(turn("a")))
    assert file == tmp_path / "trip.chat.json"
    later = Chats()
    assert later.get("trip") == chats.get("trip")
    later.update("trip", lambda chat: chat.put(turn("b")))
    assert [each.place for each in read_conversation(file).turns] == ["a", "b"]


def test_renaming_and_deleting_take_the_file_along(tmp_path: Path) -> None:
    chats = Chats()
    chats.begin("trip")
    chats.save("trip")
    chats.rename("trip", "plan")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.chat.json"]
    assert chats.names() == ["plan"]
    assert chats.delete("plan") == tmp_path / "plan.chat.json"
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_readers_own_name_keeps_it(tmp_path: Path) -> None:
    chats = Chats()
    chats.begin("trip")
    chats.save("trip", Path("mine.json"))
    chats.rename("trip", "plan")
    assert chats.file("plan") == tmp_path / "mine.json"
    assert read_conversation(tmp_path / "mine.json").name == "plan"


def test_names_are_checked_and_suggested() -> None:
    chats = Chats()
    with pytest.raises(
        ConversationError, match=r"not found\. %%llm --chat NAME starts a conversation"
    ):
        chats.get("trip")
    chats.begin("trip")
    with pytest.raises(ConversationError, match="Did you mean 'trip'"):
        chats.get("tripp")
    with pytest.raises(ConversationError, match="it already exists"):
        chats.add(Conversation(name="trip"))
    with pytest.raises(ConversationError, match="a name must have"):
        chats.begin("../x")


def test_exports_need_an_ending_and_hold_what_there_is(tmp_path: Path) -> None:
    chats = Chats()
    chats.add(chat_of(turn("a")))
    assert chats.export("c", Path("c.md")).read_text().startswith("# c\n\n## 1. You\n\na")
    assert read_conversation(chats.export("c", tmp_path / "c.json")) == chats.get("c")
    with pytest.raises(ConversationError, match=r"must end in \.md or \.json"):
        chats.export("c", Path("c.txt"))


def test_what_cannot_be_saved_is_kept_and_told(tmp_path: Path) -> None:
    chats = Chats()
    chats.add(chat_of())
    with pytest.raises(ConversationError, match="not saved, only kept in memory"):
        chats.save("c", tmp_path / "absent" / "c.json")
    assert chats.get("c") == chat_of()


WRITER = """
import sys
from pathlib import Path
from nbllm.core.conversations.saved_conversation import Conversation, Turn
from nbllm.core.types import Message
from nbllm.notebook.chat.chats import Chats
chats = Chats()
chats.add(Conversation(name="c"))
chats.save("c", Path(sys.argv[1]))
for number in range(10_000):
    turn = Turn(place=str(number), question=Message("user", "x" * 50_000))
    chats.update("c", lambda chat: chat.until(3).put(turn))
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL")
def test_a_crash_while_writing_loses_nothing(tmp_path: Path) -> None:
    """What was reported as saved is in the file, whenever the process is killed."""
    file = tmp_path / "c.chat.json"
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(5):
            told = int(writer.stdout.readline())
        time.sleep(0.013)
        writer.send_signal(signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().split())])
        writer.stdout.close()
        writer.wait()
        saved = read_conversation(file)
        assert int(saved.turns[-1].place) >= told


# ------------------------------------------------------------ two notebooks, one file


def two_notebooks() -> tuple[Chats, Chats]:
    one, other = Chats(), Chats()
    one.begin("c")
    one.save("c")
    assert other.find("c") is not None
    return one, other


def put(chats: Chats, place: str, second: int = 0) -> None:
    at = f"2026-11-28T17:00:{second:02}+00:00"
    chats.update("c", lambda chat: chat.put(replace(turn(place), asked_at=at)))


def places(chats: Chats) -> list[str]:
    return [each.place for each in chats.get("c").turns]


def test_two_notebooks_keep_the_turns_of_both(tmp_path: Path) -> None:
    one, other = two_notebooks()
    put(one, "a", 1)
    put(other, "b", 2)
    put(one, "c", 3)
    assert places(one) == ["a", "b", "c"]
    assert [each.place for each in read_conversation(tmp_path / "c.chat.json").turns] == places(one)
    other.refresh("c")
    assert other.get("c") == one.get("c")


def test_an_answer_reaches_its_question_that_another_notebook_has_seen() -> None:
    one, other = two_notebooks()
    asked = replace(turn("a"), answer=None, finish_reason=None)
    one.update("c", lambda chat: chat.put(asked))
    put(other, "b", 1)
    one.settle("c", turn("a"))
    other.refresh("c")
    assert [each.answer is not None for each in other.get("c").turns] == [True, True]
    assert places(other) == ["a", "b"]


def test_a_new_conversation_takes_in_the_file_of_its_name_and_an_other_is_refused() -> None:
    one, other, third = Chats(), Chats(), Chats()
    for chats in (one, other, third):
        chats.add(chat_of())
    put(one, "a")
    one.save("c")
    other.save("c")
    assert places(other) == ["a"]
    put(third, "b")
    with pytest.raises(
        ConversationError, match=r"has turns that this one does not have \(1 of 1\)"
    ) as caught:
        third.save("c")
    assert "%llm_chat import FILE NAME" in str(caught.value)
    assert third.file("c") is None
    one.refresh("c")
    assert places(one) == ["a"]
    assert places(third) == ["b"]


def test_a_file_that_became_another_conversation_is_left_as_it_is(tmp_path: Path) -> None:
    one, _ = two_notebooks()
    put(one, "a")
    stranger = Chats()
    stranger.add(Conversation(name="other", turns=(turn("x"),)))
    file = stranger.export("other", tmp_path / "c.chat.json")
    text = file.read_text()
    put(one, "b")
    assert "its conversation 'other' has turns that this one does not have" in one.problem("c")
    file.write_text("{")
    put(one, "d")
    assert "it is not valid JSON" in one.problem("c")
    assert file.read_text() == "{" != text
    assert places(one) == ["a", "b", "d"]
    one.save("c", tmp_path / "mine.json")
    assert one.problem("c") == ""


def test_what_another_notebook_added_is_not_deleted_unseen(tmp_path: Path) -> None:
    one, other = two_notebooks()
    put(other, "a")
    with pytest.raises(ConversationError, match="another notebook has changed it"):
        one.delete("c")
    assert places(one) == ["a"]
    put(other, "b")
    one.rename("c", "d")
    assert len(one.get("d").turns) == 2
    assert one.delete("d") == tmp_path / "d.chat.json"


APPEND = """
import sys
from dataclasses import replace
from nbllm.core.conversations.saved_conversation import Turn
from nbllm.core.types import FinishReason, Message
from nbllm.notebook.chat.chats import Chats
chats = Chats()
chats.begin("c")
chats.save("c")
for number in range(15):
    turn = Turn(place=f"{sys.argv[1]}-{number}", question=Message("user", "?"))
    chats.update("c", lambda chat: chat.put(turn))
    answer = Message("assistant", f"{sys.argv[1]}-{number}")
    chats.settle("c", replace(turn, answer=answer, finish_reason=FinishReason.STOP))
assert not chats.problem("c"), chats.problem("c")
"""


def test_processes_that_ask_in_one_conversation_lose_no_turn(tmp_path: Path) -> None:
    asking = [
        subprocess.Popen([sys.executable, "-c", APPEND, name], cwd=tmp_path) for name in "xyz"
    ]
    assert [process.wait(120) for process in asking] == [0, 0, 0]
    saved = read_conversation(tmp_path / "c.chat.json")
    expected = {f"{name}-{number}" for name in "xyz" for number in range(15)}
    assert {each.place for each in saved.turns} == expected
    assert all(each.answer and each.answer.text == each.place for each in saved.turns)
    assert [path.name for path in tmp_path.iterdir()] == ["c.chat.json"]


# ------------------------------------------------------------ files that cannot be written


def test_a_save_that_failed_is_forgotten(tmp_path: Path) -> None:
    chats = Chats()
    chats.add(chat_of())
    for path in ("sub/plan.json", "~nosuchuser/x.json", "x\0.json", "n" * 300, "/dev/null", "."):
        with pytest.raises(ConversationError):
            chats.save("c", path)
        put(chats, path)
    assert chats.file("c") is None
    assert list(tmp_path.iterdir()) == []
    chats.save("c", "good.json")
    with pytest.raises(ConversationError):
        chats.save("c", "sub/plan.json")
    put(chats, "later")
    assert chats.file("c") == tmp_path / "good.json"
    assert read_conversation("good.json") == chats.get("c")


def test_a_file_that_cannot_be_written_later_stops_nothing(tmp_path: Path) -> None:
    chats = Chats()
    chats.add(chat_of())
    folder = tmp_path / "sub"
    folder.mkdir()
    chats.save("c", folder / "c.json")
    (folder / "c.json").unlink()
    folder.rmdir()
    put(chats, "a")
    assert "not saved, only kept in memory" in chats.problem("c")
    assert "No such file" in chats.problem("c")
    folder.mkdir()
    put(chats, "b")
    assert chats.problem("c") == ""
    assert [each.place for each in read_conversation(folder / "c.json").turns] == ["a", "b"]


def test_a_full_disk_leaves_the_file_and_the_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = Chats()
    chats.add(chat_of(turn("a")))
    file = chats.save("c")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        put(chats, "b")
        assert "No space left on device" in chats.problem("c")
        with pytest.raises(ConversationError, match="No space left"):
            chats.rename("c", "d")
        with pytest.raises(ConversationError, match="could not be written: No space left"):
            chats.export("c", tmp_path / "c.md")
    assert [each.place for each in read_conversation(file).turns] == ["a"]
    assert chats.names() == ["c"]
    put(chats, "c")
    assert [each.place for each in read_conversation(file).turns] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a/b", "x\0", "..", "~", "n" * 300, "\ud83d", ""])
def test_a_name_that_no_file_can_have_is_not_found(name: str) -> None:
    chats = Chats()
    assert chats.find(name) is None
    with pytest.raises(ConversationError):
        chats.get(name)
    with pytest.raises(ConversationError):
        read_conversation(f"{name}.chat.json")


# ------------------------------------------------------------ places


def test_each_call_in_one_run_of_a_cell_is_a_place_of_its_own() -> None:
    chats = Chats()
    first = [chats.place("c", Cell("id", "run 1")) for _ in range(2)]
    again = chats.place("c", Cell("id", "run 2"))
    other = chats.place("c", Cell("other", "run 3"))
    assert [place.key for place in (*first, again, other)] == ["id", "id#1", "id", "other"]
    assert [place.previous for place in first] == [None, "id"]
    assert again.is_leftover("id#1")
    assert not first[1].is_leftover("id#1")
    assert not again.is_leftover("other")


# ------------------------------------------------------------ what fits

QUESTION = Message("user", "now " * 5)


def model(context: int, **arguments: object) -> FakeModel:
    info = fake_info(context_length=context)
    return FakeModel(replace(info, local=bool(arguments.pop("local", True))), **arguments)


async def fit(chat: Conversation, model: FakeModel, overflow: str = "error", **options: int):
    return await fitted(model, chat, QUESTION, GenerationOptions(**options), overflow)


LONG = chat_of(*(turn(str(n), words=10) for n in range(4)))  # 80 tokens, and 5 of the question


def without_oldest(count: int) -> tuple[Message, ...]:
    return replace(LONG, turns=LONG.turns[count:]).messages(QUESTION)


async def test_what_fits_is_sent_whole() -> None:
    told = await fit(LONG, model(200))
    assert told.messages == LONG.messages(QUESTION)
    assert told.words == ""


async def test_too_many_turns_are_an_error_with_the_remedy() -> None:
    with pytest.raises(ContextLengthError) as caught:
        await fit(LONG, model(100), max_tokens=20)
    assert caught.value.prompt_tokens == 85
    assert caught.value.context_length == 100
    for words in ("'c' (4 turns) has 85 tokens", "of 100 tokens holds 80 besides an answer of 20",
                  "--overflow drop-oldest", "--overflow summarise", "larger --ctx"):  # fmt: skip
        assert words in str(caught.value)


@pytest.mark.parametrize(("max_tokens", "dropped"), [(20, 1), (25, 1), (15, 0)])
async def test_no_more_turns_are_dropped_than_needed(max_tokens: int, dropped: int) -> None:
    told = await fit(LONG, model(100), "drop-oldest", max_tokens=max_tokens)
    assert told.messages == without_oldest(dropped)
    assert told.words == ("the oldest turn was left out" if dropped else "")
    assert told.conversation == LONG, "nothing is forgotten, only not sent"


async def test_a_question_that_never_fits_says_so() -> None:
    for chat in (LONG, chat_of()):
        with pytest.raises(ContextLengthError, match="the prompt alone exceeds the context"):
            await fit(chat, model(5), "drop-oldest")


async def test_a_summary_by_the_model_takes_the_place_of_the_oldest() -> None:
    fake = model(100, text="All of it in short.")
    told = await fit(LONG, fake, "summarise", max_tokens=20)
    assert told.words == "the 2 oldest turns were summarised"
    assert told.conversation.summary.places == ("0", "1")
    assert "All of it in short." in told.messages[0].text
    assert [message.text for message in told.messages[1:]] == [
        message.text for message in without_oldest(2)
    ]
    asked = fake.requests[0].messages[0].text
    assert asked.count("user: ") == 2
    further = await fit(
        told.conversation.put(turn("4", words=20)), fake, "summarise", max_tokens=20
    )
    assert further.conversation.summary.places[:2] == ("0", "1")
    assert "Before: All of it in short." in fake.requests[1].messages[0].text


async def test_a_vendor_is_not_asked_to_count_what_it_checks_itself() -> None:
    told = await fit(LONG, model(10, local=False))
    assert told.messages == LONG.messages(QUESTION)


def cell_of(metadata: dict[str, object], code: str = "x", message: str = "1") -> Cell:
    """The cell that a front end's request asks for."""
    request = {"header": {"msg_id": message}, "metadata": metadata, "content": {"code": code}}
    shell: Any = SimpleNamespace(get_parent=lambda: request)
    return running_cell(shell)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"cellId": "abc"}, "abc"),
        ({"colab": {"cell_id": "xyz"}}, "xyz"),
        ({"cellId": "vscode-notebook-cell:/a.ipynb#W0"}, "vscode-notebook-cell:/a.ipynb#W0"),
    ],
)
def test_front_ends_tell_which_cell_runs(metadata: dict[str, object], expected: str) -> None:
    assert cell_of(metadata).id == expected


def test_without_ids_the_source_tells() -> None:
    assert cell_of({}, "a", "1").id == cell_of({}, "a", "2").id != cell_of({}, "b", "3").id


def test_where_nothing_is_told_each_run_is_a_cell_of_its_own() -> None:
    shell: Any = SimpleNamespace()
    assert running_cell(shell).id != running_cell(shell).id
