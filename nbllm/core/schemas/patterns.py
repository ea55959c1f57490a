r"""Regular expressions of JSON schemas, read into a tree; see ``value_checks``.

The dialect is ECMA-262's (https://tc39.es/ecma262/#sec-patterns), with what Python and Rust, whose
libraries make many schemas, write besides: named groups, ``\A``, ``\Z``, inline flags i and s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NoReturn, TypeAlias

from nbllm.core.grammars.charsets import EVERYTHING, CharSet
from nbllm.core.schemas.pattern_classes import NO_CHARS, PatternChars, category, class_of

__all__ = ["Alternatives", "Assertion", "Look", "Node", "Repeated", "Series", "read_pattern"]

_MOST_CHARACTERS = 20_000
_MOST_NESTING = 30


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of them."""

    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """From ``least`` to ``most`` times; None is without end."""

    item: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Assertion:
    """A place between two characters: an end of the text, or one of a word."""

    kind: Literal["start", "end", "boundary", "inside"]


@dataclass(frozen=True, slots=True)
class Look:
    """A place behind or before which ``item`` matches, or does not."""

    item: Node
    ahead: bool
    negated: bool


Node: TypeAlias = PatternChars | Series | Alternatives | Repeated | Assertion | Look

_REPEAT = re.compile(r"([*+?]|\{(\d*)(?:(,)(\d*))?\})([?+]?)")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PROPERTY = re.compile(r"[pP](?:\{(\^?)([^}]*)\}|([A-Z]))")
_GROUP = re.compile(
    r"\(\?(?:(?P<plain>:)|P?<(?P<name>[A-Za-z_$][\w$]*)>|(?P<look><?[=!])|(?P<comment>#[^)]*\))"
    r"|(?P<flags>[aius]*)(?:-(?P<off>[is]+))?(?P<end>[:)]))"
)
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0, "a": 7, "e": 27}
_ANCHORS: dict[str, Assertion] = {
    "b": Assertion("boundary"),
    "B": Assertion("inside"),
    "A": Assertion("start"),
    "Z": Assertion("end"),
    "z": Assertion("end"),
}


@lru_cache(maxsize=512)
def read_pattern(pattern: str) -> Node:
    """The tree of a pattern.

    Takes time in proportion to its length. Raises ``ValueError`` with the place and the reason,
    for what is not regular (backreferences) too.
    """
    if len(pattern) > _MOST_CHARACTERS:
        raise ValueError(f"more than {_MOST_CHARACTERS:,} characters")
    reader = _Reader(pattern)
    node = reader.alternatives(0)
    if reader.at < len(pattern):
        reader.refuse("an unmatched ')'")
    return node


class _Reader:
    """Reads ``pattern`` from ``at`` on; ``flags`` are those that hold here."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at, self.flags = pattern, 0, frozenset[str]()

    def alternatives(self, depth: int) -> Node:
        branches = [self._series(depth)]
        while self._next("|"):
            branches.append(self._series(depth))
        return branches[0] if len(branches) == 1 else Alternatives(tuple(branches))

    def _series(self, depth: int) -> Node:
        items: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            node = self._atom(depth)
            items.append(self._repeated(node))
        return items[0] if len(items) == 1 else Series(tuple(items))

    def _repeated(self, item: Node) -> Node:
        match = self._repeat_here()
        if match is None:
            return item
        if isinstance(item, Assertion):
            self.refuse("nothing to repeat")
        self.at = match.end()
        if match[5] == "+":
            self.refuse("possessive repetition, which is not supported")
        if self._repeat_here() is not None:
            self.refuse("nothing to repeat")
        least, most = _counts(match)
        if most is not None and most < least:
            self.refuse(f"a repetition of at least {least} and at most {most} times")
        return Repeated(item, least, most)

    def _repeat_here(self) -> re.Match[str] | None:
        """A repetition that begins here; braces of another form are characters like others."""
        match = _REPEAT.match(self.pattern, self.at)
        if match is None or match[1] == "{}" or match[1] == "{,}":
            return None
        return match

    def _atom(self, depth: int) -> Node:
        if self._repeat_here() is not None:
            self.refuse("nothing to repeat")
        sign = self.pattern[self.at]
        if sign == "(":
            return self._group(depth + 1)
        self.at += 1
        match sign:
            case "^":
                return Assertion("start")
            case "$":
                return Assertion("end")
            case ".":
                return PatternChars.exactly(EVERYTHING) if "s" in self.flags else class_of(".")
            case "[":
                return self._folded(self._class())
            case "\\":
                return self._escape()
        return self._folded(_one(self._character(sign)))

    # ------------------------------------------------------------ groups

    def _group(self, depth: int) -> Node:
        if depth > _MOST_NESTING:
            self.refuse(f"more than {_MOST_NESTING} nested groups")
        flags = self.flags
        if not self.pattern.startswith("(?", self.at):
            self.at += 1
            return self._inner(depth, flags)
        match = _GROUP.match(self.pattern, self.at)
        if match is None:
            self.refuse(f"a group {self.pattern[self.at : self.at + 4]}…, which is not supported")
        self.at = match.end()
        if match["comment"]:
            return Series(())
        if match["end"] is not None:
            self.flags = (flags | set(match["flags"])) - set(match["off"] or "")
            return Series(()) if match["end"] == ")" else self._inner(depth, flags)
        inner = self._inner(depth, flags)
        look = match["look"]
        return Look(inner, len(look) == 1, look.endswith("!")) if look else inner

    def _inner(self, depth: int, flags: frozenset[str]) -> Node:
        """A group's content; flags that are set in it end with it."""
        node = self.alternatives(depth)
        if not self._next(")"):
            self.refuse("an unclosed '('")
        self.flags = flags
        return node

    # ------------------------------------------------------------ characters

    def _escape(self) -> Node:
        kind = self.pattern[self.at : self.at + 1]
        if kind in _ANCHORS and kind:
            self.at += 1
            return _ANCHORS[kind]
        if kind.isdigit() and kind != "0":
            self.refuse(f"a backreference (\\{kind}), which is not supported")
        if kind == "k":
            self.refuse("a backreference (\\k), which is not supported")
        return self._folded(self._escaped())

    def _escaped(self) -> PatternChars:
        """The characters of an escape; the backslash has been read."""
        kind = self.pattern[self.at : self.at + 1]
        if not kind:
            self.refuse("a trailing backslash")
        if match := _HEX.match(self.pattern, self.at):
            self.at = match.end()
            return _one(self._paired(int(match[match.lastindex or 0], 16)))
        if match := _PROPERTY.match(self.pattern, self.at):
            self.at = match.end()
            negated = (match[0][0] == "P") != bool(match[1])
            try:
                return category(match[2] or match[3] or "", negated=negated)
            except ValueError as error:
                self.refuse(str(error))
        self.at += 1
        if kind in "dDwWsS":
            return class_of(kind)
        if kind in _CONTROLS:
            return _one(_CONTROLS[kind])
        if kind == "c" and (letter := self.pattern[self.at : self.at + 1]).isalpha():
            self.at += 1
            return _one(ord(letter) % 32)
        if kind.isalnum():
            self.refuse(f"the escape \\{kind}, which is not supported")
        return _one(self._character(kind))

    def _paired(self, point: int) -> int:
        """A code point; the escapes of two surrogates are one character."""
        match = _LOW_SURROGATE.match(self.pattern, self.at)
        if 0xD800 <= point < 0xDC00 and match:
            self.at = match.end()
            return 0x10000 + (point - 0xD800 << 10) + int(match[1], 16) - 0xDC00
        if 0xD800 <= point <= 0xDFFF or point > 0x10FFFF:
            self.refuse(f"U+{point:04X}, which is not a character")
        return point

    def _character(self, sign: str) -> int:
        return self._paired(ord(sign))

    def _class(self) -> PatternChars:
        """A class behind its bracket. One that closes first stands for itself if it can."""
        negated = self._next("^")
        members = list(self._members())
        chars = members[0] if members else NO_CHARS
        for more in members[1:]:
            chars = chars.joined(more)
        chars = self._folded(chars)
        return chars.complement() if negated else chars

    def _members(self) -> Iterator[PatternChars]:
        if self._next("]"):
            if "]" not in self.pattern[self.at :]:
                return
            yield _one(ord("]"))
        while not self._next("]"):
            if self.at >= len(self.pattern):
                self.refuse("an unclosed '['")
            yield from self._member()

    def _member(self) -> Iterator[PatternChars]:
        start = self._class_character()
        dash = self.pattern.startswith("-", self.at)
        if not dash or self.pattern[self.at + 1 : self.at + 2] in ("]", ""):
            yield start
            return
        self.at += 1
        end = self._class_character()
        low, high = start.sure.single, end.sure.single
        if low is None or high is None:  # a class is no end of a range, so the dash is itself
            yield from (start, _one(ord("-")), end)
            return
        if low > high:
            self.refuse("a range out of order")
        yield PatternChars.exactly(CharSet.of([(low, high)]))

    def _class_character(self) -> PatternChars:
        sign = self.pattern[self.at]
        self.at += 1
        if sign != "\\":
            return _one(self._character(sign))
        if self._next("b"):
            return _one(8)
        return self._escaped()

    def _folded(self, chars: PatternChars) -> PatternChars:
        return chars.folded() if "i" in self.flags else chars

    # ------------------------------------------------------------ reading

    def _next(self, sign: str) -> bool:
        found = self.pattern.startswith(sign, self.at)
        self.at += found
        return found

    def refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"{reason}, at character {min(self.at, len(self.pattern)) + 1}")


def _one(point: int) -> PatternChars:
    return PatternChars.exactly(CharSet.of([(point, point)]))


def _counts(match: re.Match[str]) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if match[1] in simple:
        return simple[match[1]]
    least = min(int(match[2] or 0), 10**6)
    if not match[3]:
        return least, least
    return least, min(int(match[4]), 10**6) if match[4] else None
