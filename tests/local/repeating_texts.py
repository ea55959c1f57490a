"""Texts that repeat themselves for a reason, by name: none of them may be stopped as a loop."""

from __future__ import annotations

import itertools
import json

from repeating_data import CODE, DATA, PROSE
from text_makers import (
    drawn,
    gray_codes,
    hanoi,
    life,
    lines,
    song,
    times_tables,
    truth_table,
    words,
)

__all__ = ["TEXTS"]

CHORUS = (
    "And we sail, and we sail, over the hills of the sea,\n"
    "and the wind will carry my song, my song back home to thee.\n"
)
DAYS = words(12, 99).split()
GIFTS = [f"{number} {words(3, number)}" for number in range(12)]
BEASTS = ["cow", "pig", "duck", "horse", "sheep", "hen", "cat", "dog", "goat", "turkey"]
CRIES = ["moo", "oink", "quack", "neigh", "baa", "cluck", "meow", "woof", "maa", "gobble"]

SONGS = {
    "song": song(12, CHORUS),
    "chorus four times over": song(4, CHORUS, 4),
    "refrain a whole song long": song(1, CHORUS, 9),
    "hey jude": words(150) + "\n" + "Na na na nananana, nananana, hey Jude\n" * 18,
    "hallelujah": "\n".join(words(30, n) + "\n" + "Hallelujah, " * 4 for n in range(8)),
    "row your boat as a round": (
        "Row, row, row your boat,\nGently down the stream.\n"
        "Merrily, merrily, merrily, merrily,\nLife is but a dream.\n"
    )
    * 6,
    "frere jacques twice in two languages": (
        "Frère Jacques, Frère Jacques,\nDormez-vous? Dormez-vous?\nSonnez les matines!\nDing, "
        "dang, dong.\nAre you sleeping? Are you sleeping?\nBrother John, Brother John,\n"
        "Morning bells are ringing!\nDing, dang, dong.\n"
    )
    * 3,
    "twelve days of Christmas": "\n".join(
        f"On the {day} day of Christmas my true love gave to me {', '.join(GIFTS[n::-1])}."
        for n, day in enumerate(DAYS)
    ),
    "99 bottles": "\n".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer. Take one down and pass it around, "
        f"{n - 1} bottles of beer on the wall."
        for n in range(99, 0, -1)
    ),
    "ten green bottles": "\n\n".join(
        f"{n} green bottles hanging on the wall,\n"
        * 2
        + f"And if one green bottle should accidentally fall,\nThere'll be {n - 1} green bottles "
        "hanging on the wall."
        for n in range(10, 0, -1)
    ),
    "ten little monkeys": "\n".join(
        f"{n} little monkeys jumping on the bed, one fell off and bumped his head. Mama called the "
        "doctor and the doctor said: no more monkeys jumping on the bed!"
        for n in range(10, 0, -1)
    ),
    "Old MacDonald": "\n".join(
        f"Old MacDonald had a farm, E-I-E-I-O. And on that farm he had a {beast}, E-I-E-I-O. With "
        f"a {cry}-{cry} here and a {cry}-{cry} there. Here a {cry}, there a {cry}, everywhere a "
        f"{cry}-{cry}. Old MacDonald had a farm, E-I-E-I-O."
        for beast, cry in zip(BEASTS, CRIES, strict=True)
    ),
    "wheels on the bus": "\n\n".join(
        f"The {a} on the bus go {b}, {b}, {b}, {b}, {b}, {b}, {b}, {b}, {b}, all through the town."
        for a, b in zip(words(15, 1).split(), words(15, 2).split(), strict=True)
    ),
    "house that Jack built": "\n\n".join(
        "This is "
        + " ".join(f"the {words(1, n)} that {words(1, n + 50)}" for n in range(k, -1, -1))
        for k in range(12)
    ),
    "villanelle": "\n".join(
        f"{words(8, n)}\nDo not go gentle into that good night" for n in range(6)
    ),
    "litany": "\n".join(f"Saint {words(1, n).title()}, pray for us." for n in range(120)),
    "psalm 136": "\n".join(f"{words(9, n)}: for his mercy endureth for ever." for n in range(26)),
    "rosary decade": (
        "Hail Mary, full of grace, the Lord is with thee; blessed art thou among women.\n" * 10
    ),
    "blues": "\n\n".join(f"{words(9, n)}\n" * 2 + words(9, n + 50) for n in range(20)),
    "happy birthday in ten names": "\n".join(
        f"Happy birthday to you, happy birthday to you, happy birthday dear {words(1, n)}, happy "
        "birthday to you!"
        for n in range(20)
    ),
}
SIGNS = {
    "ha, 300 times": "ha " * 300,
    "buffalo in a list": "- buffalo\n" * 60,
    "I must not talk, 30 times": "I must not talk in class.\n" * 30,
    "knock knock": "Knock, knock, knock. Penny? " * 12,
    "tick tock": "tick tock " * 90,
    "row of 400 dashes": "-" * 400,
    "separators": "\n".join("=" * 78 + f"\n{words(4, n)}\n" + "-" * 78 for n in range(20)),
    "dot leaders": lines("{two} " + "." * 60 + " {n}", 40),
    "tree of stars": "\n".join(" " * (20 - n) + "*" * (2 * n + 1) for n in range(20)),
    "box": "+" + "-" * 60 + "+\n" + ("|" + " " * 60 + "|\n") * 24 + "+" + "-" * 60 + "+",
    "chess board": "\n".join(" ".join("#." * 5) for _ in range(10)),
    "chess position": "\n".join(["r n b q k b n r", "p " * 8, *[". " * 8] * 4, "P " * 8]),
    "right triangle": "\n".join("*" * n for n in range(1, 41)),
    "diamond": "\n".join("*" * (2 * min(n, 30 - n) + 1) for n in range(30)),
    "brick wall": "\n".join(("|___" if n % 2 else "_|__") * 16 for n in range(16)),
    "bar chart": lines("{n:>3} " + "█" * 12 + " {square}", 40),
    "progress bars": "\n".join(f"[{'#' * n}{' ' * (50 - n)}] {2 * n} %" for n in range(51)),
    "game of life": life(12, 8),
    "maze": "\n".join(drawn(["+--", "+  "], 15, seed=n) + "+" for n in range(24)),
    "snow": "\n".join(drawn(" .*", 40, seed=n) for n in range(24)),
    "emoji row": "🎉" * 100,
    "sudoku": "\n".join(" ".join(drawn("123456789", 9, seed=n)) for n in range(9)),
}
NUMBERS = {
    "count to 1000": "\n".join(map(str, range(1000))),
    "count down": "\n".join(map(str, range(500, 0, -1))),
    "counting sheep": lines("{n} sheep jumped over the fence.", 150),
    "numbered steps": lines("{n}. Take a step and breathe.", 300),
    "steps with one word each": lines("Step {n}: {word}.", 200),
    "squares": lines("{n} x {n} = {square}", 300),
    "sums": lines("{n} + {left} = 100", 99),
    "times tables": times_tables(12),
    "grid of products": "\n".join(
        "| " + " | ".join(str(a * b) for b in range(1, 13)) + " |" for a in range(1, 13)
    ),
    "truth table of 6 inputs": truth_table(6),
    "truth table of 7 inputs": truth_table(7),
    "truth table of 8 inputs": truth_table(8),
    "truth table of 9 inputs": truth_table(9),
    "truth table of 8 inputs with letters": truth_table(8, "T", "F"),
    "truth table of 8 inputs in words": truth_table(8, "True", "False"),
    "truth table of 7 inputs in long cells": truth_table(7, "  true ", "  false "),
    "truth table as JSON": json.dumps([list(map(int, f"{n:07b}")) for n in range(128)]),
    "truth table as text": "\n".join(
        f"A={n >> 3 & 1}, B={n >> 2 & 1}, C={n >> 1 & 1}, D={n & 1} => {n % 3 % 2}"
        for n in range(16)
    ),
    "truth table of 5 inputs in words": truth_table(5, "True", "False"),
    "truth table of 7 inputs in words": truth_table(7, "True", "False"),
    "truth table of 7 inputs with letters": truth_table(7, "T", "F"),
    "truth table of 6 inputs with yes and no": truth_table(6, "yes", "no"),
    "truth table without a frame": "\n".join(" ".join(f"{n:07b}") for n in range(128)),
    "truth table as CSV": "\n".join(",".join(f"{n:07b}") for n in range(128)),
    "binary numbers": "\n".join(f"{n} = {n:b}" for n in range(256)),
    "gray codes": gray_codes(7),
    "hanoi": "\n".join(hanoi(7)),
    "fizz buzz": "\n".join(
        "Fizz" * (n % 3 == 0) + "Buzz" * (n % 5 == 0) or str(n) for n in range(1, 200)
    ),
    "collatz": "\n".join(f"{n} -> {n // 2 if n % 2 == 0 else 3 * n + 1}" for n in range(1, 200)),
    "matrix of zeros": json.dumps([[0] * 16] * 16),
    "200 zeros": json.dumps([0] * 200),
    "identity matrix": "\n".join(" ".join(str(int(a == b)) for a in range(20)) for b in range(20)),
    "digits": drawn("0123456789", 3000),
    "bits": drawn("01", 1500),
    "coin tosses": drawn(["heads", "tails"], 250, ", "),
    "dice": drawn("123456", 600, " "),
    "Fibonacci words": "abaababaabaab" * 12,
    "roman numerals": "\n".join("X" * (n // 10) + "I" * (n % 10) for n in range(1, 90)),
    "pascal": "\n".join(
        " ".join(str(value) for value in row)
        for row in itertools.accumulate(
            range(14), lambda r, _: [1, *map(sum, itertools.pairwise(r)), 1], initial=[1]
        )
    ),
}
TEXTS: dict[str, str] = {**SONGS, **SIGNS, **NUMBERS, **DATA, **CODE, **PROSE}
