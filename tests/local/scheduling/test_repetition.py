"""Loops are stopped, and nothing else that repeats itself."""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repeating_texts import TEXTS
from text_makers import words

from nbllm.local.scheduling.repetition import Repetition, is_watched

_PIECE = re.compile(r"\s?[A-Za-z]+|\s?\d|\s+|.", re.DOTALL)


def tokens_of(text: str) -> list[tuple[int, bytes]]:
    """Words, digits and signs, about as tokenizers cut them."""
    return [(zlib.crc32(piece.encode()) % 50_000, piece.encode()) for piece in _PIECE.findall(text)]


def stopped_at(tokens: Iterable[tuple[int, bytes]]) -> int | None:
    """Behind how many tokens the answer is stopped."""
    watcher = Repetition()
    return next((n for n, token in enumerate(tokens, 1) if watcher.add(*token)), None)


@pytest.mark.parametrize("name", TEXTS)
def test_what_repeats_itself_for_a_reason_goes_on(name: str) -> None:
    assert stopped_at(tokens_of(TEXTS[name])) is None


@pytest.mark.parametrize("period", [1, 2, 3, 7, 20, 50, 100, 150])
def test_a_loop_ends_a_few_hundred_tokens_after_it_began(period: int) -> None:
    begin = words(300)
    loop = [token for _ in range(3000 // period) for token in tokens_of(" " + words(period, 9))]
    stop = stopped_at([*tokens_of(begin), *loop])
    assert stop is not None
    assert stop - len(tokens_of(begin)) <= 384 + 24 + 4 * period


def test_a_loop_of_signs_ends_later() -> None:
    assert stopped_at(tokens_of("0" * 5000)) in range(768, 820)


def test_phrases_that_alternate_at_random_are_a_loop_too() -> None:
    draw = random.Random(5)
    phrases = [f"| {color} | white |\n" for color in ("Mars", "Earth")]
    stop = stopped_at(tokens_of("".join(draw.choices(phrases, k=400))))
    assert stop is not None
    assert stop < 2000


@pytest.mark.parametrize("block", [20, 100, 300, 380])
def test_one_new_word_in_a_block_is_progress(block: int) -> None:
    news = words(6000 // block, 1).split()
    rows = [f"{words(block - 1, 9)} {news[n]}" for n in range(6000 // block)]
    assert stopped_at(tokens_of("\n".join(rows))) is None


@pytest.mark.parametrize("bits", range(2, 11))
@pytest.mark.parametrize(
    ("between", "signs"), [("", "01"), (" | ", "01"), (" | ", "TF"), (", ", ("true", "false"))]
)
def test_counters_of_any_width_and_look_go_on(bits: int, between: str, signs: str) -> None:
    rows = [between.join(row) for row in itertools.product(signs, repeat=bits)]
    for end in ("\n", "; "):
        assert stopped_at(tokens_of(end.join(rows))[:8192]) is None


@given(st.lists(st.integers(0, 3), max_size=380))
def test_nothing_short_is_stopped(tokens: list[int]) -> None:
    assert stopped_at((token, b"a") for token in tokens) is None


def test_memory_is_bounded_and_what_is_long_past_is_forgotten() -> None:
    watcher = Repetition()
    for token in range(20_000):
        assert not watcher.add(token, b"a")
    assert len(watcher._counts) <= 4096


@pytest.mark.parametrize(
    ("options", "watched"),
    [
        ({}, True),
        ({"stop_repetition": False}, False),
        ({"grammar": 'root ::= "0"*'}, False),
        ({"response_schema": {"type": "array"}}, False),
        ({"ignore_eos": True}, False),
        ({"response_schema": {"type": "array"}, "stop_repetition": True}, True),
    ],
)
def test_what_is_watched(options: dict[str, object], watched: bool) -> None:
    assert is_watched(options) is watched
