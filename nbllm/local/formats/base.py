"""What a format of tool calls is: how it is recognised, read and forced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "Braced",
    "Call",
    "CallFormat",
    "Json",
    "Keywords",
    "NoCallError",
    "Parameters",
    "Piece",
    "Schema",
    "Tools",
    "shapes_call",
    "special_marks",
]

Schema: TypeAlias = Mapping[str, Any]
Tools: TypeAlias = Mapping[str, Schema]
"""The tools that a request offers: their names with the JSON schemas of their parameters."""


class NoCallError(ValueError):
    """A text is no complete call of this format."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a model wrote; ``arguments`` is a JSON object as text."""

    name: str
    arguments: str


# ---------------------------------------------------------------- pieces of a forced call


@dataclass(frozen=True, slots=True)
class Json:
    """The arguments as one JSON object."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Each argument between two marks; texts stand there as they are, other values as JSON.

    ``open`` has ``{key}`` for the name. ``quotes_text`` says that texts are JSON too.
    """

    open: str
    close: str
    between: str = "\n"
    quotes_text: bool = False


@dataclass(frozen=True, slots=True)
class Keywords:
    """Arguments as ``key=value`` with commas between them, values as JSON."""


@dataclass(frozen=True, slots=True)
class Braced:
    """Arguments as ``key:value`` in braces; texts stand between two ``quote`` marks."""

    quote: str


Piece: TypeAlias = str | Json | Parameters | Keywords | Braced
"""A part of a forced call: text that stands there literally, or the arguments in some form.

In a text, ``{name}`` is the tool's name.
"""


_SPECIAL = re.compile(
    r"<\|?[\w:▁/|\"]+\|?>|<｜[^<>｜]+｜>|</[\w:]+>|\[/?[A-Z_]+\]|◁/?think▷|｜DSML｜"
)


def special_marks(texts: Iterable[str]) -> set[str]:
    """What looks like special tokens in texts."""
    return {mark for text in texts for mark in _SPECIAL.findall(text)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """One way to write calls.

    Attributes:
        name: Its name, which goes over the worker's protocol.
        blocks: The marks between which calls stand; a block whose closing mark is "" goes on to
            the end of the answer.
        read: Reads the calls in a block's body, or in a bare answer. Raises ``NoCallError``.
        hints: A template that loses past calls has this format where its text holds all of these.
        forced: How a forced call is written.
        bare: Whether a call may stand without marks: nowhere, as the beginning of an answer, or
            anywhere in it.
        marks: Texts inside of blocks that may be special tokens.
    """

    name: str
    blocks: tuple[tuple[str, str], ...]
    read: Callable[[str, Tools], Sequence[Call]]
    hints: tuple[str, ...] = ()
    forced: tuple[Piece, ...]
    bare: Literal["no", "start", "anywhere"] = "start"
    marks: tuple[str, ...] = ()

    @property
    def all_marks(self) -> set[str]:
        """What may be special tokens in the calls of this format."""
        return special_marks([*(mark for block in self.blocks for mark in block), *self.marks])

    def is_in(self, template: str) -> bool:
        """Whether a template has any of its marks."""
        return any(mark in template for mark in self.all_marks)


def shapes_call(pieces: Sequence[Piece], name: str) -> list[Piece]:
    """The pieces of a call of one tool, with its name in the texts."""
    return [p.replace("{name}", name) if isinstance(p, str) else p for p in pieces]


_NAME = re.compile(r"[\w.\-]+")


def checked_name(name: object) -> str:
    """A tool's name as models write them. Raises ``NoCallError``."""
    if isinstance(name, str) and _NAME.fullmatch(name.strip()):
        return name.strip()
    raise NoCallError("a tool's name is missing")
