"""Loops are stopped, and nothing else that repeats itself."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.local.scheduling.repetition import Repetition, is_watched

_PIECE = re.compile(r"\s?[A-Za-z]+|\s?\d|\s+|.", re.DOTALL)
_CHORUS = (
    "And we sail, and we sail, over the hills of the sea,\n"
    "and the wind will carry my song, my song back home to thee.\n"
)


def tokens_of(text: str) -> list[tuple[int, bytes]]:
    """Words, digits and signs, about as tokenizers cut them."""
    return [(zlib.crc32(piece.encode()) % 50_000, piece.encode()) for piece in _PIECE.findall(text)]


def stopped_at(tokens: Iterable[tuple[int, bytes]]) -> int | None:
    """Behind how many tokens the answer is stopped."""
    watcher = Repetition()
    return next((n for n, token in enumerate(tokens, 1) if watcher.add(*token)), None)


def words(count: int, seed: int = 0) -> str:
    """So many different words."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnoprstuvw"
    return " ".join("".join(draw.choices(letters, k=6)) for _ in range(count))


def verses(count: int, chorus: str, times: int) -> str:
    """A song whose verses are new, each with its chorus ``times`` behind it."""
    return "\n".join(words(40, seed) + "\n" + chorus * times for seed in range(count))


DAYS = words(12, 99).split()
GIFTS = [f"{number} {words(3, number)}" for number in range(12)]
HONEST = {
    "song": verses(12, _CHORUS, 1),
    "a chorus four times over": verses(4, _CHORUS, 4),
    "a refrain a whole song long": verses(1, _CHORUS, 9),
    "twelve days of Christmas": "\n".join(
        f"On the {day} day of Christmas my true love gave to me {', '.join(GIFTS[n::-1])}."
        for n, day in enumerate(DAYS)
    ),
    "99 bottles": "\n".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer. Take one down and pass it around, "
        f"{n - 1} bottles of beer on the wall."
        for n in range(99, 0, -1)
    ),
    "Old MacDonald": "\n".join(
        f"Old MacDonald had a farm, E-I-E-I-O. And on that farm he had a {beast}, E-I-E-I-O. "
        f"With a {cry} {cry} here and a {cry} {cry} there."
        for beast, cry in zip(words(20, 1).split(), words(20, 2).split(), strict=True)
    ),
    "ha, 300 times": "ha " * 300,
    "the same word in a list": "- buffalo\n" * 60,
    "numbered list": "\n".join(f"{n}. Take a step and breathe." for n in range(1, 300)),
    "count to 1000": "\n".join(map(str, range(1000))),
    "squares": "\n".join(f"{n} x {n} = {n * n}" for n in range(300)),
    "truth table": "\n".join(
        "| " + " | ".join(f"{n:06b}") + f" | {n.bit_count() % 2} |" for n in range(64)
    ),
    "markdown table": "| name | city | sum |\n|------|------|-----|\n"
    + "\n".join(f"| {words(1, n)} | Rome | {n} |" for n in range(200)),
    "multiplication table": "\n".join(
        "| " + " | ".join(str(a * b) for b in range(1, 13)) + " |" for a in range(1, 13)
    ),
    "separators": "\n".join("=" * 78 + f"\n{words(4, n)}\n" + "-" * 78 for n in range(20)),
    "one line of 400 dashes": "-" * 400,
    "JSON records": json.dumps([{"id": n, "ok": True, "name": words(1, n)} for n in range(150)]),
    "JSON of 200 equal numbers": json.dumps([0] * 200),
    "JSON matrix": json.dumps([[0] * 16] * 16),
    "CSV": "\n".join(f"2026-01-{n % 28 + 1:02},sensor A,{n * 37 % 101}.5" for n in range(300)),
    "chess board": "\n".join(" ".join("#." * 5) for _ in range(10)),
    "tree of stars": "\n".join(" " * (20 - n) + "*" * (2 * n + 1) for n in range(20)),
    "base64 of zeros": "AAAA" * 90,
    "code with like lines": "\n".join(
        f"    assert f({n}) == {n * n}, 'f({n})'" for n in range(150)
    ),
    "equal lines of code": "    print()\n" * 30,
    "HTML rows": "<tr><td></td><td></td><td></td></tr>\n" * 12,
    "a program told three times": "\nOnce more, as a whole:\n".join([words(500)] * 3),
    "prose": words(5000),
    "digits": "".join(map(str, random.Random(3).choices(range(10), k=3000))),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_repeats_itself_for_a_reason_goes_on(name: str) -> None:
    assert stopped_at(tokens_of(HONEST[name])) is None


@pytest.mark.parametrize("period", [1, 2, 3, 7, 20, 50, 100, 150])
def test_a_loop_ends_a_few_hundred_tokens_after_it_began(period: int) -> None:
    begin = words(300)
    loop = [token for _ in range(3000 // period) for token in tokens_of(" " + words(period, 9))]
    stop = stopped_at([*tokens_of(begin), *loop])
    assert stop is not None
    assert stop - len(tokens_of(begin)) < 400 + 4 * period * 2


def test_a_loop_of_signs_ends_later() -> None:
    assert stopped_at(tokens_of("0" * 5000)) in range(700, 800)


def test_phrases_that_alternate_at_random_are_a_loop_too() -> None:
    draw = random.Random(5)
    phrases = [f"| {color} | white |\n" for color in ("Mars", "Earth", "Venus")]
    stop = stopped_at(tokens_of("".join(draw.choices(phrases, k=400))))
    assert stop is not None
    assert stop < 1000


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
