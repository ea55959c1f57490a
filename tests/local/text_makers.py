"""Texts of many kinds that are made of a few pieces."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import date, timedelta

__all__ = [
    "dates",
    "drawn",
    "gray_codes",
    "hanoi",
    "hex_dump",
    "life",
    "lines",
    "song",
    "times_tables",
    "truth_table",
    "words",
]


def words(count: int, seed: int = 0) -> str:
    """So many different words."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnoprstuvw"
    return " ".join("".join(draw.choices(letters, k=6)) for _ in range(count))


def lines(form: str, count: int) -> str:
    """``form`` for the numbers from 1 on."""
    return "\n".join(
        form.format(n=n, word=words(1, n), two=words(2, n), square=n * n, left=100 - n)
        for n in range(1, count + 1)
    )


def truth_table(inputs: int, yes: str = "1", no: str = "0") -> str:
    """All rows of a parity function as a Markdown table."""
    names = [chr(ord("A") + n) for n in range(inputs)]
    head = "| " + " | ".join([*names, "Result"]) + " |\n" + "|---" * (inputs + 1) + "|\n"
    rows = itertools.product((no, yes), repeat=inputs)
    return head + "\n".join(
        f"| {' | '.join(row)} | {yes if row.count(yes) % 2 else no} |" for row in rows
    )


def times_tables(upto: int) -> str:
    pairs = itertools.product(range(1, upto + 1), repeat=2)
    return "\n".join(f"{a} x {b} = {a * b}" for a, b in pairs)


def dates(count: int, form: str) -> str:
    start = date(2026, 1, 1)
    return "\n".join((start + timedelta(days=n)).strftime(form) for n in range(count))


def song(verses: int, chorus: str, times: int = 1) -> str:
    """Verses that are new, each with its chorus ``times`` behind it."""
    return "\n".join(words(40, seed) + "\n" + chorus * times for seed in range(verses))


def drawn(pieces: str | list[str], count: int, joined: str = "", seed: int = 3) -> str:
    return joined.join(random.Random(seed).choices(pieces, k=count))


def hex_dump(data: bytes) -> str:
    def row(at: int) -> str:
        part = data[at : at + 16]
        shown = "".join(chr(b) if 31 < b < 127 else "." for b in part)
        return f"{at:08x}  {part.hex(' ')}  |{shown}|"

    return "\n".join(row(at) for at in range(0, len(data), 16))


def gray_codes(bits: int) -> str:
    return "\n".join(f"{n ^ (n >> 1):0{bits}b}" for n in range(2**bits))


def hanoi(disks: int, source: str = "A", over: str = "B", target: str = "C") -> Iterator[str]:
    if disks:
        yield from hanoi(disks - 1, source, target, over)
        yield f"Move disk {disks} from {source} to {target}."
        yield from hanoi(disks - 1, over, source, target)


def life(size: int, steps: int) -> str:
    """A glider on its way."""
    cells = {(0, 1), (1, 2), (2, 0), (2, 1), (2, 2)}
    boards = []
    for _ in range(steps):
        rows = ("".join(".#"[(y, x) in cells] for x in range(size)) for y in range(size))
        boards.append("\n".join(rows))
        near = [(y + a, x + b) for y, x in cells for a in (-1, 0, 1) for b in (-1, 0, 1)]
        counts = {cell: near.count(cell) for cell in near}
        cells = {c for c, k in counts.items() if k == 3 or (k == 4 and c in cells)}
    return "\n\n".join(boards)
