"""Sets of characters, as a grammar's classes are: membership in constant time for ASCII."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["EVERYTHING", "LAST", "CharSet", "Range", "ranges_of"]

Range = tuple[int, int]
LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def ranges_of(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same characters in ascending ranges that do not touch; reversed ranges are empty."""
    merged: list[Range] = []
    for low, high in sorted(pair for pair in ranges if pair[0] <= pair[1]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class CharSet:
    """Code points in ``ranges``, ascending and apart. Build it with ``of``.

    ``ascii`` has a bit for each of the first 128; ``bounds`` alternates between the first code
    point inside and the first outside.
    """

    ranges: tuple[Range, ...]
    ascii: int
    bounds: tuple[int, ...]

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> CharSet:
        """The set of all code points in ``ranges``; surrogates are no characters."""
        kept = tuple(_without_surrogates(ranges_of(ranges)))
        bits = 0
        for low, high in kept:
            if low < 128:
                bits |= (1 << min(high + 1, 128)) - (1 << low)
        return cls(kept, bits, tuple(edge for low, high in kept for edge in (low, high + 1)))

    def complement(self) -> CharSet:
        """All other characters but U+0000, which ends texts in C."""
        edges = [0, *self.bounds, LAST + 1]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return CharSet.of((max(low, 1), behind - 1) for low, behind in pairs)

    def __contains__(self, point: int) -> bool:
        if point < 128:
            return bool(self.ascii >> point & 1)
        return bool(bisect_right(self.bounds, point) & 1)

    def meets(self, low: int, high: int) -> bool:
        """Whether a code point from ``low`` to ``high`` is among them."""
        return low in self or bisect_right(self.bounds, low) != bisect_right(self.bounds, high)

    @property
    def single(self) -> int | None:
        """The only code point, where there is one alone."""
        first, last = (self.ranges[0][0], self.ranges[-1][1]) if self.ranges else (0, 1)
        return first if first == last else None


def _without_surrogates(ranges: Iterable[Range]) -> Iterator[Range]:
    first, last = _SURROGATES
    for low, high in ranges:
        yield from (
            pair
            for pair in ((low, min(high, first - 1)), (max(low, last + 1), min(high, LAST)))
            if pair[0] <= pair[1]
        )


EVERYTHING = CharSet.of([(1, LAST)])
