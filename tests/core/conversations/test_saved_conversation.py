"""Conversations as values, and as JSON and Markdown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from made_conversations import conversations

from nbllm.core.conversations.conversation_files import to_json
from nbllm.core.conversations.conversation_reading import from_json
from nbllm.core.conversations.saved_conversation import Conversation, Summary, Turn, check_name
from nbllm.core.conversations.shown_conversation import to_html, to_markdown
from nbllm.core.errors import ConversationError
from nbllm.core.types import (
    FinishReason,
    GenerationResult,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    Usage,
)


def turn(place: str, *, text: str | None = None, answer: str | None = "") -> Turn:
    question = Message("user", text or f"asked in {place}")
    if answer is None:
        return Turn(place=place, question=question)
    told = Message("assistant", answer or f"answered in {place}")
    return Turn(place=place, question=question, answer=told, finish_reason=FinishReason.STOP)


def conversation(*places: str, **fields: object) -> Conversation:
    return Conversation(name="c", turns=tuple(map(turn, places)), **fields)


def places(chat: Conversation) -> list[str]:
    return [f"{each.place}{'*' * each.is_stale}" for each in chat.turns]


def test_a_new_place_comes_last_and_an_old_one_is_replaced_where_it_is() -> None:
    chat = conversation("a", "b").put(turn("c"))
    assert places(chat) == ["a", "b", "c"]
    again = chat.put(turn("b", text="other"))
    assert places(again) == ["a", "b", "c*"]
    assert again.turns[1].question.text == "other"
    assert places(again.put(turn("c"))) == ["a", "b", "c"]


def test_a_turn_can_be_put_behind_another() -> None:
    chat = conversation("a", "b")
    assert places(chat.put(turn("a#1"), after="a")) == ["a", "a#1", "b*"]
    assert places(chat.put(turn("x"), after="unknown")) == ["a", "b", "x"]


def test_what_is_sent_is_what_stood_before() -> None:
    chat = replace(conversation("a", "b", "c"), system="Be brief.")
    sent = chat.before("b").messages(Message("user", "now"))
    assert [(message.role, message.text) for message in sent] == [
        ("system", "Be brief."),
        ("user", "asked in a"),
        ("assistant", "answered in a"),
        ("user", "now"),
    ]
    assert chat.before("new") == chat


def test_a_turn_without_an_answer_is_not_sent() -> None:
    chat = conversation("a").put(turn("b", answer=None))
    assert len(chat.messages(Message("user", "now"))) == 3


def test_an_answer_is_recorded_as_it_ended_and_only_where_its_turn_still_is() -> None:
    partial = GenerationResult(
        text="half",
        model="tiny",
        finish_reason=FinishReason.CANCELLED,
        usage=Usage(prompt_tokens=3),
    )
    asked = turn("b", answer=None)
    chat = conversation("a").put(asked)
    told = chat.settled(asked.answered(partial)).turns[1]
    assert (told.answer.text, told.model, told.is_whole) == ("half", "tiny", False)
    assert told.usage.prompt_tokens == 3
    assert chat.until(1).settled(asked.answered(partial)) == chat.until(1)
    empty = replace(partial, text="", finish_reason=FinishReason.FAILED)
    assert asked.answered(empty).messages == ()


def test_a_summary_stands_for_its_turns_until_one_of_them_changes() -> None:
    chat = replace(conversation("a", "b", "c"), summary=Summary("short", ("a", "b")))
    sent = chat.messages(Message("user", "now"))
    assert sent[0].role == "system"
    assert "short" in sent[0].text
    assert [message.text for message in sent[1:]] == ["asked in c", "answered in c", "now"]
    assert chat.put(turn("c")).summary is not None
    assert chat.put(turn("d")).summary is not None
    assert chat.put(turn("a")).summary is None
    assert chat.until(1).summary is None


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "../a", "a" * 101, "x\n"])
def test_a_name_must_fit_a_files_name(name: str) -> None:
    with pytest.raises(ConversationError, match="a name must have"):
        check_name(name)


def test_good_names_pass() -> None:
    assert [check_name(name) for name in ("a", "Ä-1_b.c", "7")] == ["a", "Ä-1_b.c", "7"]


# ------------------------------------------------------------ JSON and Markdown


@given(conversations)
def test_json_holds_everything(chat: Conversation) -> None:
    assert from_json(to_json(chat), "file") == chat


@given(conversations)
def test_any_conversation_can_be_read_as_markdown(chat: Conversation) -> None:
    assert to_markdown(chat).startswith("# ")


def test_half_a_surrogate_pair_does_not_lose_a_conversation() -> None:
    chat = Conversation(name="c", turns=(turn("a", text="half \ud83d"),))
    assert from_json(to_json(chat), "file").turns[0].question.text == "half \ufffd"


def test_counts_that_a_vendor_told_wrongly_do_not_lose_a_conversation() -> None:
    wrong = Usage(prompt_tokens=-1, completion_tokens=3, cost_usd=float("nan"))
    chat = Conversation(name="c", turns=(replace(turn("a"), usage=wrong),))
    read = from_json(to_json(chat), "file").turns[0].usage
    assert read == Usage(prompt_tokens=0, completion_tokens=3)


def test_markdown_tells_how_answers_ended_and_defuses_html() -> None:
    chat = Conversation(
        name="trip",
        system="Be brief.",
        turns=(
            replace(turn("a", answer="<script>x</script>"), model="tiny"),
            replace(turn("b"), finish_reason=FinishReason.CANCELLED, is_stale=True),
            turn("c", answer=None),
            Turn(place="d", question=Message("user", (TextPart("see"), ImagePart(data=b"123")))),
        ),
    )
    text = to_markdown(chat)
    assert text.startswith("# trip\n\n**System**\n\nBe brief.\n\n## 1. You\n\nasked in a\n")
    assert "**Answer** (tiny)\n\n&lt;script&gt;" in text
    assert "(stopped, answered before an earlier turn was changed)" in text
    assert "**Answer** (no answer)" in text
    assert r"*\[image: image/png, 3 bytes\]*" in text


# ---------------------------------------------------------------- whose signatures


def saved(model: str, **part: object) -> str:
    """A file of before parts told whose signature they have."""
    chat = to_json(conversation("a"))
    value = json.loads(chat)
    value["turns"][0]["model"] = model
    value["turns"][0]["answer"]["content"] = [part]
    return json.dumps(value)


REASONING = {"type": "reasoning", "text": "Hm.", "signature": "c2ln"}
CALL = {"type": "tool_call", "id": "1", "name": "f", "arguments": "{}", "signature": "c2ln"}


@pytest.mark.parametrize("part", [REASONING, CALL])
@pytest.mark.parametrize(
    ("model", "vendor"),
    [
        ("claude-opus-4-5", "anthropic"),
        ("gemini-3-pro", "gemini"),
        ("gpt-5", "openai"),
        ("anthropic/my-own", "anthropic"),
        ("my-alias", None),
        ("", None),
    ],
)
def test_an_older_file_tells_the_vendor_of_a_signature_by_the_model(
    part: dict[str, str], model: str, vendor: str | None
) -> None:
    answer = from_json(saved(model, **part), "file").turns[0].answer
    assert answer is not None
    (read,) = answer.parts
    assert isinstance(read, ReasoningPart | ToolCall)
    assert (read.vendor, read.signature) == (vendor, "c2ln" if vendor else None)


def test_a_newer_file_tells_it_itself() -> None:
    message = Message("assistant", (ReasoningPart("Hm.", "c2ln", "gemini"),))
    chat = replace(conversation("a"), turns=(replace(turn("a"), answer=message, model="claude-9"),))
    answer = from_json(to_json(chat), "file").turns[0].answer
    assert answer is not None
    (read,) = answer.parts
    assert isinstance(read, ReasoningPart)
    assert (read.vendor, read.signature) == ("gemini", "c2ln")


def test_the_question_is_shown_as_it_was_typed_and_what_was_sent_is_folded() -> None:
    sent = Message("user", "What is the mean of <b>x y\n" + "1 2\n" * 500 + "?")
    asked = Turn(place="a", question=sent, typed="What is the mean of {df}?")
    chat = Conversation(name="c", turns=(asked,))
    assert from_json(to_json(chat), "file") == chat
    assert "typed" not in to_json(Conversation(name="c", turns=(turn("a"),)))
    markdown, html = to_markdown(chat), to_html(chat)
    assert "What is the mean of {df}?" in markdown
    assert "as it was sent, with 2,0" in markdown
    assert "1 2" not in markdown
    shown, _, folded = html.partition("<details>")
    assert "{df}" in shown
    assert "1 2" in folded
    assert "<b>" not in html
