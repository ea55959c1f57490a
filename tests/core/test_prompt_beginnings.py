"""The first words of prompts, whatever they hold."""

from __future__ import annotations

import time

import pytest

from nbllm.core.messages import LONGEST_BEGINNING, ImagePart, Message, TextPart, beginning_of


@pytest.mark.parametrize(
    ("prompt", "beginning"),
    [
        ("Hello", "Hello"),
        ("  \n\n Two\n\tlines ", "Two lines"),
        ("<b>bold</b> & co", "<b>bold</b> & co"),
        ("turned \u202e around\u2066", "turned around"),
        ("bell\x07 null\x00 line\u2028end", "bell null line end"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("", ""),
        ("word " * 1_000, ("word " * 40)[:-1][: LONGEST_BEGINNING - 1].rstrip() + "…"),
    ],
)
def test_a_beginning_is_one_line_that_can_be_seen(prompt: str, beginning: str) -> None:
    found = beginning_of([Message("user", prompt)])
    assert found == beginning
    assert len(found) <= LONGEST_BEGINNING


def test_it_is_that_of_the_newest_question() -> None:
    turns = [Message("system", "Be brief."), Message("user", "One?"), Message("assistant", "1.")]
    assert beginning_of([*turns, Message("user", "Two?"), Message("assistant", "2")]) == "Two?"
    assert beginning_of(turns[:1]) == "Be brief."
    assert beginning_of([]) == ""


def test_images_are_words() -> None:
    parts = (ImagePart("image/png", data=b"\x89PNG\r\n\x1a\n"), TextPart("What is this?"))
    assert beginning_of([Message("user", parts)]) == "(image) What is this?"


@pytest.mark.parametrize("text", ["x" * 50_000_000, " " * 50_000_000], ids=["text", "blanks"])
def test_long_prompts_cost_no_more(text: str) -> None:
    message = Message("user", text)
    began = time.process_time()
    beginning_of([message])
    assert time.process_time() - began < 0.1
