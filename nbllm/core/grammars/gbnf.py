"""GBNF, llama.cpp's notation of grammars, read into rules.

Source: llama.cpp's ``grammars/README.md`` and its parser ``llama_grammar_parser``, whose reasons
for a refusal are given in its words, with the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from nbllm.core.grammars.charsets import EVERYTHING, CharSet, Range

__all__ = [
    "Chars",
    "Choice",
    "Element",
    "GrammarError",
    "Literal",
    "Ref",
    "Repeat",
    "Token",
    "read_gbnf",
]

MOST_CHARACTERS = 1_000_000
MOST_NESTING = 64
MOST_REPEATS = 2_000  # llama.cpp's own threshold
_MOST_SIGNS = 4  # of repetition, one on the other


class GrammarError(ValueError):
    """A grammar cannot be used; the text says where, and why."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A text as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the model's vocabulary, or any but that."""

    id: int
    negated: bool


@dataclass(frozen=True, slots=True)
class Ref:
    """What the rule ``name`` stands for."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences."""

    sequences: tuple[tuple[Element, ...], ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``item`` from ``least`` to ``most`` times; None is without end."""

    item: Element
    least: int
    most: int | None


Element: TypeAlias = Literal | Chars | Token | Ref | Choice | Repeat

_NAME = re.compile(r"[a-zA-Z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_LITERAL_RUN = re.compile(r'[^"\\\ud800-\udfff]+')
_LINE_END = re.compile(r"\r\n?|\n")
_REPEATS = re.compile(r"\{[ \t]*(\d{1,9})[ \t]*(?:(,)[ \t]*(\d{1,9})?[ \t]*)?\}")
_TOKEN = re.compile(r"(!?)<(?:\[(\d{1,9})\]|([^>]*))>")
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def read_gbnf(text: str, token_of: Callable[[str], int | None]) -> Mapping[str, Choice]:
    """The rules of a grammar by their names.

    ``token_of`` finds the id of the one token that ``<text>`` is. Takes time in proportion to the
    length of ``text``. Raises ``GrammarError``.
    """
    if len(text) > MOST_CHARACTERS:
        raise GrammarError(
            f"it has {len(text):,} characters; at most {MOST_CHARACTERS:,} are supported"
        )
    return _Reader(text, token_of).rules()


class _Reader:
    """Reads from ``self._at`` on."""

    def __init__(self, text: str, token_of: Callable[[str], int | None]) -> None:
        self._text, self._token_of, self._at = text, token_of, 0

    def rules(self) -> dict[str, Choice]:
        rules: dict[str, Choice] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._name()
            self._skip(lines=False)
            if not self._text.startswith("::=", self._at):
                self._refuse("expecting ::=")
            self._at += 3
            self._skip(lines=True)
            rules[name] = self._choice(0)
            if self._at < len(self._text) and not self._take(_LINE_END):
                self._refuse("expecting newline or end")
            self._skip(lines=True)
        return rules

    def _choice(self, depth: int) -> Choice:
        sequences = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._skip(lines=True)
            sequences.append(self._sequence(depth))
        return Choice(tuple(sequences))

    def _sequence(self, depth: int) -> tuple[Element, ...]:
        items: list[Element] = []
        while (sign := self._peek()) and (item := self._item(sign, items, depth)) is not None:
            items.append(item)
            self._skip(lines=depth > 0)
        return tuple(items)

    def _item(self, sign: str, before: list[Element], depth: int) -> Element | None:
        """The next element; a repetition takes the one before back. None ends a sequence."""
        if sign == '"':
            return self._literal()
        if sign == "[":
            return self._chars()
        if sign == "(":
            return self._group(depth + 1)
        if sign in "<!":
            return self._token()
        if sign == ".":
            self._at += 1
            return Chars(EVERYTHING)
        if sign in "*+?{":
            return self._repeat(sign, before)
        return Ref(self._name()) if _NAME.match(sign) else None

    def _group(self, depth: int) -> Choice:
        if depth > MOST_NESTING:
            self._refuse(f"more than {MOST_NESTING} nested groups")
        self._at += 1
        self._skip(lines=True)
        inner = self._choice(depth)
        if self._peek() != ")":
            self._refuse("expecting ')'")
        self._at += 1
        return inner

    def _repeat(self, sign: str, before: list[Element]) -> Repeat:
        if not before:
            self._refuse("expecting preceding item to */+/?/{")
        if _signs(before[-1]) >= _MOST_SIGNS:
            self._refuse(f"more than {_MOST_SIGNS} nested repetitions")
        least, most = _SIGNS[sign] if sign in _SIGNS else self._counts()
        self._at += sign in _SIGNS
        if max(least, most or 0) > MOST_REPEATS:
            self._refuse(f"number of repetitions exceeds {MOST_REPEATS:,}")
        if most is not None and most < least:
            self._refuse(f"at least {least} and at most {most} repetitions")
        return Repeat(before.pop(), least, most)

    def _counts(self) -> tuple[int, int | None]:
        match = _REPEATS.match(self._text, self._at) or self._refuse("expecting an int and '}'")
        self._at = match.end()
        least = int(match[1])
        if match[3]:
            return least, int(match[3])
        return least, None if match[2] else least

    def _literal(self) -> Literal:
        self._at += 1
        pieces: list[str] = []
        while self._peek() != '"':
            run = self._take(_LITERAL_RUN)
            pieces.append(run or chr(self._char()))
        self._at += 1
        return Literal("".join(pieces))

    def _chars(self) -> Chars:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[Range] = []
        while self._peek() != "]":
            first = last = self._char()
            if self._peek() == "-" and not self._text.startswith("-]", self._at):
                self._at += 1
                last = self._char()
            ranges.append((first, last))
        self._at += 1
        chars = CharSet.of(ranges)
        return Chars(chars.complement() if negated else chars)

    def _char(self) -> int:
        sign = self._peek()
        if sign != "\\":
            if not sign:
                self._refuse("unexpected end of input")
            if "\ud800" <= sign <= "\udfff":
                self._refuse(f"a lone surrogate (U+{ord(sign):04X}), which is not a character")
            self._at += 1
            return ord(sign)
        kind = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        if kind in _HEX_LENGTHS:
            return self._hex(_HEX_LENGTHS[kind])
        return ord(_ESCAPES.get(kind) or self._refuse("unknown escape", back=2))

    def _hex(self, length: int) -> int:
        digits = self._text[self._at : self._at + length]
        if not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digits):
            self._refuse(f"expecting {length} hex chars")
        self._at += length
        return int(digits, 16)

    def _token(self) -> Token:
        match = _TOKEN.match(self._text, self._at) or self._refuse("expecting a token such as <x>")
        number = int(match[2]) if match[2] else self._token_of(f"<{match[3]}>")
        if number is None:
            self._refuse(f"invalid token '<{match[3]}>': it is not a single token of this model")
        self._at = match.end()
        return Token(number, bool(match[1]))

    def _name(self) -> str:
        return self._take(_NAME) or self._refuse("expecting name")

    # ------------------------------------------------------------ characters

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[0] if match else ""

    def _skip(self, *, lines: bool) -> None:
        self._take(_SPACE_AND_LINES if lines else _SPACE)

    def _refuse(self, reason: str, back: int = 0) -> NoReturn:
        at = max(0, self._at - back)
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        rest = self._text[at : at + 30].split("\n")[0].encode(errors="replace").decode()
        found = f"at {rest!r}" if rest else "at the end of the line"
        raise GrammarError(f"line {line}, column {column}: {reason} {found}")


def _signs(item: Element) -> int:
    count = 0
    while isinstance(item, Repeat):
        item, count = item.item, count + 1
    return count
