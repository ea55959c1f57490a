from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.vendors.openai.answer_parts import InlineReasoning


def split(*pieces: str) -> tuple[str, str]:
    """The reasoning and the text of an answer that comes in these pieces."""
    reader = InlineReasoning()
    found = [piece for more in pieces for piece in reader.feed(more)] + reader.finish()
    assert all(text for _, text in found)
    return (
        "".join(text for kind, text in found if kind == "reasoning"),
        "".join(text for kind, text in found if kind == "text"),
    )


CASES = [
    ("Hello", ("", "Hello")),
    ("", ("", "")),
    ("  Hello ", ("", "  Hello ")),
    ("<think>Hm.</think>Yes.", ("Hm.", "Yes.")),
    ("\n<think>\nHm.\n\nSo.\n</think>\n\nYes.\n", ("Hm.\n\nSo.", "Yes.\n")),
    ("<think></think>Yes.", ("", "Yes.")),
    ("<think>\n</think>\n\nYes.", ("", "Yes.")),
    ("<think>a</think> <think>b</think>Yes.", ("ab", "Yes.")),
    ("<think>Hm.", ("Hm.", "")),
    ("<think>Hm.</thi", ("Hm.</thi", "")),
    ("</think>\n\nYes.", ("", "Yes.")),
    ("[THINK]Hm.[/THINK]Yes.", ("Hm.", "Yes.")),
    ("◁think▷Hm.◁/think▷Yes.", ("Hm.", "Yes.")),
    ("<seed:think>Hm.</seed:think>Yes.", ("Hm.", "Yes.")),
    ("<think>a < b </ c</think>x < y", ("a < b </ c", "x < y")),
    ("<thinking>is my tag</thinking>", ("", "<thinking>is my tag</thinking>")),
    ("The mark <think>x</think> is theirs", ("", "The mark <think>x</think> is theirs")),
    ("Yes.<think>x</think>", ("", "Yes.<think>x</think>")),
    ("<thi", ("", "<thi")),
    ("<html>", ("", "<html>")),
    ("<think>x</think>", ("x", "")),
    ("<think>x</think>  ", ("x", "")),
    ("   ", ("", "   ")),
]


@pytest.mark.parametrize(("text", "parts"), CASES)
def test_reasoning_is_what_stands_between_marks_at_the_beginning(
    text: str, parts: tuple[str, str]
) -> None:
    assert split(text) == parts


@pytest.mark.parametrize(("text", "parts"), CASES)
def test_the_cuts_make_no_difference(text: str, parts: tuple[str, str]) -> None:
    for size in range(1, 9):
        assert split(*(text[n : n + size] for n in range(0, len(text), size))) == parts


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<", "think", ">", "/", " ", "\n", "a", "[THINK]", "[/THINK]", "[",
         "◁think▷", "◁/think▷", "é", "<seed:think>", "</seed:think>"]
    )
)  # fmt: skip


@given(PIECES, st.data())
def test_any_text_in_any_pieces_is_split_alike_and_nothing_is_lost(
    pieces: list[str], data: Any
) -> None:
    text = "".join(pieces)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    cuts = [text[a:b] for a, b in pairwise([0, *places, len(text)])]
    assert split(*cuts) == split(text)
    reasoning, rest = split(text)
    marks = ("<think>", "</think>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷", "seed:think")
    if not any(mark in text for mark in marks):
        assert (reasoning, rest) == ("", text)


def test_a_long_text_is_read_in_linear_time() -> None:
    reader = InlineReasoning()
    reader.feed("<think>")
    for _ in range(20_000):
        reader.feed("word ")
    assert len(reader.finish()) <= 1
