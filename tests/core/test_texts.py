from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.texts import sentence, shown, well_formed

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_every_text_can_be_encoded_and_what_could_be_stays(text: str) -> None:
    mended = well_formed(text)
    mended.encode()
    assert well_formed(mended) == mended
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert mended == text


def test_both_halves_make_the_character_and_a_lone_one_a_replacement() -> None:
    assert well_formed("a\ud83d\ude00b\ud83d") == "a\U0001f600b\ufffd"
    assert well_formed(json.loads('"caf\\ud83d"')) == "caf\ufffd"


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("must be at least 0", "x must be at least 0"),
        ("is not a GGUF: it is empty", "x is not a GGUF: it is empty"),
        ("has no entries", "x has no entries"),
        ("cannot be read: it is a device", "x cannot be read: it is a device"),
        ("cannot parse the grammar", "x: cannot parse the grammar"),
        ("unknown option", "x: unknown option"),
        ("island", "x: island"),
    ],
)
def test_a_predicate_follows_its_subject(problem: str, told: str) -> None:
    assert sentence("x", problem) == told
    assert sentence("", problem) == problem


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value", [10**5000, Nasty(), "x" * 10**6, [[[[1]]]], "\ud83d", b"\0", {}], ids=type
)
def test_anything_can_be_shown_briefly(value: object) -> None:
    assert len(shown(value).encode()) < 120
