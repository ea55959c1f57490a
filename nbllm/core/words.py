"""Sizes and durations as a reader likes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["counted", "duration_words", "listed_words", "size_of", "size_words"]


def size_words(size_bytes: int) -> str:
    """A size for reading, in MiB below 1,000 of them, else in GiB.

    >>> size_words(96_468_992), size_words(4_402_341_478)
    ('92 MiB', '4.1 GiB')
    """
    mib = size_bytes / 2**20
    return f"{mib:,.0f} MiB" if mib < 1000 else f"{mib / 1024:,.1f} GiB"


_UNITS = {"": 1, "b": 1} | {
    f"{letter}{rest}": base**power
    for power, letter in enumerate("kmgt", 1)
    for rest, base in (("", 1024), ("b", 1000), ("ib", 1024))
}
_SIZE = r"(\d{1,19}(?:\.\d{1,6})?)\s*([a-z]{0,3})"


def size_of(text: str) -> int | None:
    """The bytes that a person means by a size; None where it is none.

    >>> [size_of(text) for text in ("2GiB", "1.5 GB", "500M", "two")]
    [2147483648, 1500000000, 524288000, None]
    """
    found = re.fullmatch(_SIZE, text.strip().lower(), re.ASCII)
    unit = _UNITS.get(found[2]) if found else None
    return None if found is None or unit is None else int(float(found[1]) * unit)


def duration_words(seconds: float) -> str:
    """A duration for reading.

    >>> [duration_words(seconds) for seconds in (0.41, 12.3, 740, 11_000, 172_800)]
    ['0.4 s', '12 s', '12 min', '3 h', '2 days']
    """
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.0f} h" if hours < 36 else f"{hours / 24:.0f} days"


def counted(count: int, noun: str) -> str:
    """A number of things for reading.

    >>> counted(1, "token"), counted(1_200, "token")
    ('1 token', '1,200 tokens')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed_words(words: Sequence[str]) -> str:
    """Words as a sentence lists them; there must be one at least.

    >>> listed_words(["a"]), listed_words(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
