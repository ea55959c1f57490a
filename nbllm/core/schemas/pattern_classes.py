r"""Classes of characters in patterns, which ECMA-262 and Python do not read alike.

``\w`` is ASCII in the one and Unicode in the other. What is written by a pattern is to satisfy
both, and what is checked by it either, so a class is two sets.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from nbllm.core.grammars.charsets import CharSet

__all__ = ["NO_CHARS", "PatternChars", "category", "class_of"]

_MOST_FOLDED = 3_000


@dataclass(frozen=True, slots=True)
class PatternChars:
    """One character: of ``sure`` for every reader, of ``loose`` for one at least."""

    sure: CharSet
    loose: CharSet

    @classmethod
    def exactly(cls, chars: CharSet) -> PatternChars:
        """The same for every reader."""
        return cls(chars, chars)

    def complement(self) -> PatternChars:
        """All other characters."""
        return PatternChars(self.loose.complement(), self.sure.complement())

    def joined(self, other: PatternChars) -> PatternChars:
        """The characters of both."""
        return PatternChars(
            CharSet.of(self.sure.ranges + other.sure.ranges),
            CharSet.of(self.loose.ranges + other.loose.ranges),
        )

    def folded(self) -> PatternChars:
        """With the other case of each letter."""
        return PatternChars(_folded(self.sure), _folded(self.loose))


NO_CHARS = PatternChars.exactly(CharSet.of(()))
_ECMA_SPACES = "\t\n\v\f\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_CLASSES = {  # of ECMA-262, and what Python adds
    "d": ("[0-9]", r"\d"),
    "w": ("[0-9A-Za-z_]", r"\w"),
    "s": (r"[\t\n\v\f\r ]", rf"[\s{_ECMA_SPACES}]"),
    ".": ("[^\n\r\u2028\u2029]", "[^\n]"),
}


@lru_cache(maxsize=16)
def class_of(kind: str) -> PatternChars:
    r"""The characters of ``.``, or of ``\d``, ``\w``, ``\s`` and their complements."""
    if kind.isupper():
        return class_of(kind.lower()).complement()
    sure, loose = _CLASSES[kind]
    return PatternChars(_matching(sure), _matching(loose))


@lru_cache(maxsize=64)
def category(name: str, *, negated: bool) -> PatternChars:
    """The characters of a general category of Unicode, such as ``Lu``. Raises ``ValueError``."""
    if negated:
        return category(name, negated=False).complement()
    short = name.rpartition("=")[2]
    short = _LONG_NAMES.get(short, short)
    if not re.fullmatch("[LMNPSZC][a-z]?", short):
        raise ValueError(f"the property \\p{{{name}}}, which is not supported")
    points = range(sys.maxunicode + 1)
    found = (p for p in points if unicodedata.category(chr(p)).startswith(short))
    return PatternChars.exactly(CharSet.of((point, point) for point in found))


_LONG_NAMES = {
    "Letter": "L",
    "Alphabetic": "L",
    "Lowercase_Letter": "Ll",
    "Uppercase_Letter": "Lu",
    "Lowercase": "Ll",
    "Uppercase": "Lu",
    "Number": "N",
    "Decimal_Number": "Nd",
    "Punctuation": "P",
    "Symbol": "S",
    "Separator": "Z",
    "Mark": "M",
}


@lru_cache(maxsize=1)
def _all_characters() -> str:
    return "".join(map(chr, range(sys.maxunicode + 1)))


def _matching(expression: str) -> CharSet:
    """The characters that Python matches by a class; takes about 20 ms."""
    found = re.finditer(f"{expression}+", _all_characters())
    return CharSet.of((match.start(), match.end() - 1) for match in found)


def _folded(chars: CharSet) -> CharSet:
    """With the other case; of large sets for ASCII only, whose members are nearly all in it."""
    points = (p for low, high in chars.ranges for p in range(low, high + 1))
    if sum(high - low + 1 for low, high in chars.ranges) > _MOST_FOLDED:
        points = (p for p in range(128) if p in chars)
    cases = {ord(c) for p in points for c in chr(p).swapcase() if len(chr(p).swapcase()) == 1}
    return CharSet.of([*chars.ranges, *((p, p) for p in cases)])
