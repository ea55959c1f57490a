"""The store of conversations: names, files, crashes, and what fits into a context."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nbllm.core.conversations.conversation import Conversation, Turn
from nbllm.core.errors import ContextLengthError, ConversationError
from nbllm.core.types import FinishReason, GenerationOptions, Message
from nbllm.notebook.chat.budget import fitted
from nbllm.notebook.chat.cells import Cell
from nbllm.notebook.chat.chats import Chats, read_conversation
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
    with pytest.raises(ConversationError, match="There is none; %%llm --chat NAME begins one"):
        chats.get("trip")
    chats.begin("trip")
    with pytest.raises(ConversationError, match="Did you mean 'trip'"):
        chats.get("tripp")
    with pytest.raises(ConversationError, match="there is one already"):
        chats.add(Conversation(name="trip"))
    with pytest.raises(ConversationError, match="a name is made of"):
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
    with pytest.raises(ConversationError, match="it is kept here and was not saved"):
        chats.save("c", tmp_path / "absent" / "c.json")
    assert chats.get("c") == chat_of()


WRITER = """
import sys
from pathlib import Path
from nbllm.core.conversations.conversation import Conversation, Turn
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
    for words in ("'c' with 4 turns has 85 tokens", "an answer of 20 the context takes 80",
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
        with pytest.raises(ContextLengthError, match="the question alone is too long"):
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
