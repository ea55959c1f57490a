from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.local.token_text import TextAssembler

stops = st.lists(st.text("ab\u00e9", min_size=1, max_size=4), max_size=3).map(tuple)


def assemble(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], TextAssembler]:
    assembler = TextAssembler(stop)
    texts = [assembler.feed(piece) for piece in pieces]
    return [*texts, assembler.finish()], assembler


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


def expected(text: str, stop: tuple[str, ...]) -> str:
    starts = [text.find(word) for word in stop if word in text]
    return text[: min(starts)] if starts else text


def test_an_emoji_split_over_tokens_arrives_whole() -> None:
    texts, _ = assemble([b"a\xf0", b"\x9f", b"\xa6\x8a!", b""])
    assert texts == ["a", "", "\U0001f98a!", "", ""]


def test_an_unfinished_character_at_the_end_becomes_a_replacement() -> None:
    texts, _ = assemble([b"ok\xf0\x9f"])
    assert texts == ["ok", "\ufffd"]


def test_a_stop_string_that_spans_tokens_ends_the_text_before_it() -> None:
    texts, assembler = assemble([b"one EN", b"D two", b" three"], ("END",))
    assert "".join(texts) == "one "
    assert assembler.stopped == "END"


def test_text_that_only_began_like_a_stop_string_is_given_out() -> None:
    texts, assembler = assemble([b"EN", b"EMY"], ("END",))
    assert texts == ["", "ENEMY", ""]
    assert assembler.stopped is None


def test_text_held_back_at_the_end_is_not_lost() -> None:
    texts, _ = assemble([b"the EN"], ("END",))
    assert texts == ["the ", "EN"]


def test_the_earliest_stop_string_wins() -> None:
    texts, assembler = assemble([b"a stop then END"], ("END", "stop"))
    assert ("".join(texts), assembler.stopped) == ("a ", "stop")


@given(st.text(), st.lists(st.integers(0, 5)))
def test_any_cut_of_the_bytes_gives_the_same_text(text: str, sizes: list[int]) -> None:
    texts, _ = assemble(cut(text.encode(), sizes))
    assert "".join(texts) == text


@given(st.text("ab\u00e9c", max_size=30), st.lists(st.integers(0, 3)), stops)
def test_any_cut_stops_at_the_same_place(
    text: str, sizes: list[int], stop: tuple[str, ...]
) -> None:
    texts, assembler = assemble(cut(text.encode(), sizes), stop)
    got = "".join(texts)
    if assembler.stopped is None:
        assert got == text
    else:
        assert text.startswith(got + assembler.stopped)
    assert not any(word in got for word in stop)


@pytest.mark.parametrize("word", ["aab", "aba"])
def test_overlapping_beginnings_of_a_stop_string_are_seen(word: str) -> None:
    text = "a" + word
    for sizes in ([1] * len(text), [2, 1], [len(text)]):
        texts, assembler = assemble(cut(text.encode(), sizes), (word,))
        assert ("".join(texts), assembler.stopped) == (expected(text, (word,)), word)
