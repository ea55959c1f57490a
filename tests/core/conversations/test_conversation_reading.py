"""Conversations from strangers: a file is read whole, or refused with the place of the fault."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_conversations import conversations

from nbllm.core.conversations.conversation_files import read_conversation, to_json
from nbllm.core.conversations.conversation_reading import from_json
from nbllm.core.conversations.saved_conversation import Conversation, Turn
from nbllm.core.conversations.shown_conversation import to_markdown
from nbllm.core.errors import ConversationError
from nbllm.core.types import FinishReason, ImagePart, Message, TextPart, VendorPart
from nbllm.notebook.chat.chat_magics import Transcript, chats_table
from nbllm.notebook.chat.chats import Chats

CHAT = Conversation(
    name="c",
    system="Be brief.",
    turns=(
        Turn(
            place="a",
            question=Message("user", (TextPart("see"), ImagePart(data=b"123"))),
            answer=Message("assistant", (TextPart("yes"), VendorPart("openai", "{}"))),
            finish_reason=FinishReason.STOP,
            asked_at="2026-11-28T17:00:00+00:00",
        ),
        Turn(place="b", question=Message("user", "and?")),
    ),
)


def changed(*path: str | int, to: Any) -> str:
    """The JSON of the conversation with another value at a place."""
    value = json.loads(to_json(CHAT))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return json.dumps(value)


def removed(*path: str | int) -> str:
    value = json.loads(changed(*path, to=None))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(value)


FIRST = ("turns", 0)
PART = (*FIRST, "question", "content", 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "it is not valid JSON: Expecting property name"),
        ("[]", "not a conversation exported by nbllm"),
        ("null", "not a conversation exported by nbllm"),
        (changed("version", to=2), "version 2 is not supported \\(expected 1\\); update nbllm"),
        (changed("version", to=True), "version true"),
        (changed("version", to=[[]]), r"version \[\[\]\]"),
        (changed("name", to=3), "name must be a string"),
        (changed("name", to="../../x"), "name: a name must have"),
        (changed("name", to="a\x1b[2J"), "name: a name must have"),
        (removed("name"), "name: this key is required"),
        (changed("system", to=["x"]), "system must be a string"),
        (changed("more", to=1), "more: unknown key; the file may come from a newer nbllm"),
        (changed("turns", to=3), "turns must be a list"),
        (changed("turns", to={"0": 1}), "turns must be a list"),
        (changed("turns", 1, to=None), r"turns\[1\] must be an object"),
        (changed("turns", 1, to={}), r"turns\[1\]\.place: this key is required"),
        (changed("turns", 1, "place", to="a"), "turns: two turns have the same place"),
        (changed(*FIRST, "place", to=""), r"turns\[0\]\.place must have 1 to"),
        (changed(*FIRST, "asked_at", to="yesterday"), "asked_at must be a UTC time such as"),
        (changed(*FIRST, "asked_at", to="2026-13-28T17:00:00+00:00"), "must be a UTC time"),
        (changed(*FIRST, "is_stale", to="no"), "is_stale must be true or false"),
        (changed(*FIRST, "finish_reason", to="bored"), "finish_reason must be one of"),
        (changed(*FIRST, "finish_reason", to=[]), "finish_reason must be a string"),
        (changed(*FIRST, "model", to=None), "model must be a string"),
        (changed(*FIRST, "usage", to=None), "usage must be an object"),
        (
            changed(*FIRST, "usage", "prompt_tokens", to="7"),
            "usage.prompt_tokens must be an integer",
        ),
        (changed(*FIRST, "usage", "prompt_tokens", to=-1), "must be between 0 and"),
        (changed(*FIRST, "usage", "prompt_tokens", to=10**30), "must be between 0 and"),
        (changed(*FIRST, "usage", "prompt_tokens", to=1.5), "a number stands where a whole|usage"),
        (changed(*FIRST, "usage", "prompt_tokens", to=True), "must be an integer \\(got a boolean"),
        (changed(*FIRST, "usage", "cost_usd", to=-0.1), "cost_usd must be between 0 and"),
        (changed(*FIRST, "usage", "cost_usd", to="much"), "cost_usd must be a number"),
        (changed(*FIRST, "usage", "__class__", to=1), "usage.__class__: unknown key"),
        (changed(*FIRST, "question", "role", to="system"), "question.role must be 'user'"),
        (changed(*FIRST, "answer", "role", to="user"), "answer.role must be 'assistant'"),
        (changed(*FIRST, "question", "content", to=5), "question.content must be a list"),
        (changed(*PART, to="text"), r"content\[1\] must be a part of type text or image"),
        (changed(*PART, "type", to="tool_call"), "must be a part of type text or image"),
        (changed(*PART, "type", to=["text"]), "must be a part of type"),
        (changed(*PART, "data", to="no base64!"), r"content\[1\]\.data must be valid base64"),
        (changed(*PART, "data", to="caf\u00e9"), r"content\[1\]\.data must be valid base64"),
        (changed(*PART, "data", to=[1, 2]), "data must be a string"),
        (changed(*PART, "data", to=None), r"content\[1\]: an image needs data or a url"),
        (changed(*PART, "media_type", to="a b\n"), "must be a media type such as image/png"),
        (changed(*PART, "url", to=7), "url must be a string"),
        (changed(*FIRST, "answer", "content", 1, "content", to="{"), "must be valid JSON"),
        (changed("summary", to="x"), "summary must be an object"),
        (
            changed("summary", to={"text": "x", "places": ["z"]}),
            "one of these places belongs to no turn",
        ),
        (changed("summary", to={"text": "x", "places": "a"}), "summary.places must be a list"),
        (changed("system", to="@").replace('"@"', "NaN"), "NaN is not a finite number"),
        (changed("system", to="@").replace('"@"', "9" * 5_000), "a number with too many digits"),
        (changed("system", to="@").replace('"@"', "[" * 99_999), "nested too deeply"),
        (changed("system", to="@").replace('"@"', "[" * 200 + "]" * 200), "nested too deeply"),
        (
            '{"format": "a", "format": "nbllm-conversation"}',
            "duplicate key 'format'",
        ),
        ("[" + "0," * 5_000_001 + "0]", "more than 5,000,000 values"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(text: str, problem: str) -> None:
    with pytest.raises(ConversationError, match=problem) as caught:
        from_json(text, "some.chat.json")
    assert "some.chat.json" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_an_older_nbllm_did_not_know_has_its_default() -> None:
    read = from_json(removed(*FIRST, "usage", "accepted_draft_tokens"), "file")
    assert read == CHAT


def test_half_a_surrogate_pair_is_mended() -> None:
    read = from_json(changed("system", to="half \ud83d"), "file")
    assert read.system == "half \ufffd"


# ---------------------------------------------------------------- anything at all

STRANGE = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        10**20,
        "",
        "x",
        "\ud83d",
        "\0",
        "../x",
        [],
        {},
        [[]],
        {"type": "text"},
    ]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a document with every key or index in it."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += places_in(value[key])
    return found


@st.composite
def mutated(draw: Callable[..., Any]) -> str:
    value = json.loads(to_json(draw(conversations)))
    for _ in range(draw(st.integers(1, 3))):
        within, key = draw(st.sampled_from(places_in(value) or [(value, "name")]))
        match draw(st.sampled_from(["put", "remove", "add", "double", "move"])):
            case "put":
                within[key] = draw(STRANGE)
            case "remove":
                del within[key]
            case "add" if isinstance(within, dict):
                within[draw(st.text(max_size=5))] = draw(STRANGE)
            case "double" if isinstance(within, list):
                within.append(copy.deepcopy(within[key]))
            case "move":
                other, name = draw(st.sampled_from(places_in(value)))
                other[name] = copy.deepcopy(within[key])
    text = json.dumps(value)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_mutated_file_is_refused_or_serves_every_action(text: str) -> None:
    try:
        chat = from_json(text, "file")
    except ConversationError:
        return
    with tempfile.TemporaryDirectory() as folder:
        use(chat, Path(folder))


def use(chat: Conversation, folder: Path) -> None:
    """What ``%llm_chat`` does with a conversation, all of it."""
    assert from_json(to_json(chat), "file") == chat
    chats = Chats()
    chats.add(chat)
    repr(chats_table(chats)), chats_table(chats)._repr_html_()
    assert to_markdown(chat) == repr(Transcript(chat))
    for ending in ("md", "json"):
        chats.export(chat.name, folder / f"copy.{ending}")
    assert read_conversation(folder / "copy.json") == chat
    saved = chats.save(chat.name, folder / "saved.json")
    chats.update(chat.name, lambda each: each.put(Turn(place="new", question=Message("user", "?"))))
    assert chat.messages(Message("user", "?"))
    chats.rename(chat.name, "renamed")
    chats.update("renamed", lambda each: each.until(0))
    assert read_conversation(saved).name == "renamed"
    chats.delete("renamed")
