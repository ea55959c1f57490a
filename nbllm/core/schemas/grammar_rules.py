"""Rules of a grammar while they are made, and their text in GBNF."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

__all__ = ["WS", "Part", "Rules", "Use", "add_texts", "literal"]

_MOST_RULES = 20_000
_MOST_CHARACTERS = 900_000
_MOST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Use:
    """A rule in the alternative of another, as often as ``sign`` says: ``?``, ``*``, ``{2,5}``."""

    name: str
    sign: str = ""

    @property
    def optional(self) -> bool:
        """Whether it may be left out."""
        return self.sign.startswith(("?", "*", "{0,"))


Part: TypeAlias = str | Use
"""A piece of GBNF without names of rules, or a rule."""

WS = Use("ws")
"""Space behind a comma or a colon: none or one, and none elsewhere.

JSON may have space between any two parts. Where it is for a small model to choose, it does so
forever, or loses what it was to write: ``{ "name" : ""``.
"""


class Rules:
    """Rules by their names, each with its alternatives. ``text`` leaves out what cannot be used.

    ``spare`` is how many steps of work may be done for better rules than are needed.
    Raises ``ValueError`` where there are too many, or they take too long to make.
    """

    def __init__(self) -> None:
        self._rules: dict[str, list[tuple[Part, ...]]] = {}
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._size = 0
        self._deadline = time.monotonic() + _MOST_SECONDS
        self.spare = 30_000

    def __contains__(self, name: str) -> bool:
        return name in self._rules

    def fresh(self, stem: str = "s") -> str:
        """A name that is not taken."""
        self._numbers[stem] += 1
        return f"{stem}-{self._numbers[stem]}"

    def add(self, name: str, *alternatives: Iterable[Part]) -> Use:
        """A rule; one without alternatives matches nothing."""
        self._rules[name] = [tuple(alternative) for alternative in alternatives]
        self._size += sum(len(str(part)) for one in self._rules[name] for part in one)
        if len(self._rules) > _MOST_RULES or self._size > _MOST_CHARACTERS:
            raise ValueError(
                f"the schema's grammar has more than {_MOST_RULES:,} rules or "
                f"{_MOST_CHARACTERS:,} characters; make the schema smaller"
            )
        if time.monotonic() > self._deadline:
            raise ValueError(
                f"compiling the schema into a grammar takes more than {_MOST_SECONDS:g} s; make "
                "the schema smaller"
            )
        return Use(name)

    def unusable(self) -> list[str]:
        """The rules that no text follows, those without alternatives first."""
        usable = self._usable()
        names = [name for name in self._rules if name not in usable]
        return sorted(names, key=lambda name: bool(self._rules[name]))

    def text(self, *names: str) -> str:
        """These rules, which must not be unusable, with all that they need."""
        usable = self._usable()
        lines: dict[str, str] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in lines:
                kept = [_kept(one, usable) for one in self._rules[name]]
                lines[name] = " | ".join(_written(one) for one in kept if one is not None)
                todo += [p.name for one in kept for p in one or () if isinstance(p, Use)]
        return "".join(f"{name} ::= {line}\n" for name, line in reversed(lines.items()))

    def _usable(self) -> set[str]:
        """The rules that some text follows: those of whose alternatives one has only such."""
        missing: dict[tuple[str, int], set[str]] = {}
        users: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        usable: set[str] = set()
        todo: list[str] = []
        for name, alternatives in self._rules.items():
            for number, parts in enumerate(alternatives):
                needed = {p.name for p in parts if isinstance(p, Use) and not p.optional}
                missing[name, number] = needed
                for other in needed:
                    users[other].append((name, number))
                if not needed:
                    todo.append(name)
        while todo:
            name = todo.pop()
            if name in usable:
                continue
            usable.add(name)
            for user in users[name]:
                missing[user].discard(name)
                if not missing[user]:
                    todo.append(user[0])
        return usable


def add_texts(rules: Rules, texts: Iterable[str]) -> Use:
    """One of several texts: a tree, so that there is never more than one way to go on."""
    top = Use(rules.fresh("text"))
    todo = [(top.name, sorted(texts))]
    while todo:
        name, group = todo.pop()
        options: list[list[Part]] = []
        for _, same in groupby(group, key=lambda text: text[:1]):
            alike = list(same)
            begin = _common_start(alike[0], alike[-1])
            options.append([literal(begin)] if begin else [])
            if len(alike) > 1:
                todo.append((rules.fresh("text"), [text[len(begin) :] for text in alike]))
                options[-1].append(Use(todo[-1][0]))
        rules.add(name, *options)
    return top


def _common_start(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _kept(parts: tuple[Part, ...], usable: set[str]) -> tuple[Part, ...] | None:
    """An alternative without what cannot be used; None where it needs such a thing."""
    if any(isinstance(p, Use) and p.name not in usable and not p.optional for p in parts):
        return None
    return tuple(p for p in parts if isinstance(p, str) or p.name in usable)


def _written(parts: tuple[Part, ...]) -> str:
    pieces = [p if isinstance(p, str) else f"{p.name}{p.sign}" for p in parts]
    return " ".join(pieces) or '""'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def literal(text: str) -> str:
    """A text in GBNF; nothing where it is empty."""
    written = "".join(_ESCAPES.get(c) or (c if c >= " " else f"\\x{ord(c):02X}") for c in text)
    return f'"{written}"' if text else ""
