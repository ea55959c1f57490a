"""What a format of tool calls is: how it is recognised, read and forced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "JSON_STRING",
    "PYTHON_STRING",
    "Braced",
    "Call",
    "CallFormat",
    "Elements",
    "Id",
    "Json",
    "Keywords",
    "Marks",
    "NoCallError",
    "Parameters",
    "Part",
    "Piece",
    "Schema",
    "Tools",
    "declared_in",
    "items_of",
    "property_of",
    "referred",
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


Part: TypeAlias = Call | str
"""A part of what a model wrote in a block: a call, or text that is no whole call."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of values that stand as they are, which may hold marks themselves.

    ``open`` has a group ``key``, and perhaps one ``text``, "true" where the value is a text.
    ``close`` ends a value, ``end`` the call; "" where only the block's closing mark does.
    ``begin`` begins a call. A value between ``quotes``, where there are any, holds no marks.
    """

    begin: re.Pattern[str]
    end: str
    open: re.Pattern[str]
    close: str
    quotes: tuple[str, str] | None = None


# ---------------------------------------------------------------- pieces of a forced call


@dataclass(frozen=True, slots=True)
class Json:
    """The arguments as one JSON object."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Each argument between two marks; texts stand there as they are, other values as JSON.

    ``open`` has ``{key}`` for the name, and may have ``{text}`` for "true" or "false" or ``{type}``
    for the type's name: what a value is stands in its mark then. Texts with one of ``unquoted``
    in them stand between ``quotes``.
    """

    open: str
    close: str
    quotes: tuple[str, str] | None = None
    unquoted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keywords:
    """Arguments as ``key=value`` with commas between them, values as JSON."""


@dataclass(frozen=True, slots=True)
class Braced:
    """Arguments as ``key:value`` in braces; texts stand between two ``quote`` marks."""

    quote: str


@dataclass(frozen=True, slots=True)
class Elements:
    """Each argument as an element, ``<key>…</key>``, those inside of it too, behind ``mark``."""

    mark: str


@dataclass(frozen=True, slots=True)
class Id:
    """So many small letters and digits, which the model makes up."""

    length: int


Piece: TypeAlias = str | Json | Parameters | Keywords | Braced | Elements | Id
"""A part of a forced call: text that stands there literally, or the arguments in some form.

In a text, ``{name}`` is the tool's name.
"""


JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
PYTHON_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?(?:"""|\\?\Z)'
    r"|'''(?:[^\\]|\\.)*?(?:'''|\\?\Z)"
    r'|"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
    r"|'(?:[^'\\]|\\.)*(?:'|\\?\Z)",
    re.DOTALL,
)
"""Texts in quotes; one that nothing closes goes on to the end."""

_SPECIAL = re.compile(
    r"<\|?[\w:▁/|\"]+\|?>|<｜[^<>｜]+｜>|</[\w:]+>|\[/?[A-Z_]+\]|◁/?think▷|｜DSML｜"
    r"|\]<\]minimax\[>\["
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
            the end of the answer. An opening mark that ends in "=" belongs to the call itself.
        read: Reads the calls in a block's body, or in a bare answer. Raises ``NoCallError`` where
            there is none.
        hints: A template that loses past calls has this format where its text holds all of these.
        forced: How a forced call is written.
        bare: Whether a call may stand without marks: nowhere, as the beginning of an answer, or
            anywhere in it.
        marks: Texts inside of blocks that may be special tokens.
        values: The marks of values inside of blocks, where values stand as they are.
        strings: A text in quotes, which goes on to the end where nothing closes it; marks in one
            are part of it.
    """

    name: str
    blocks: tuple[tuple[str, str], ...]
    read: Callable[[str, Tools], Sequence[Part]]
    hints: tuple[str, ...] = ()
    forced: tuple[Piece, ...]
    bare: Literal["no", "start", "anywhere"] = "start"
    marks: tuple[str, ...] = ()
    values: Marks | None = None
    strings: re.Pattern[str] = JSON_STRING

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


def declared_in(schema: Schema) -> dict[str, Any]:
    """The parameters of a tool by their names, those of all branches."""
    found: dict[str, Any] = {}
    for part in _parts(schema, schema):
        properties = part.get("properties")
        found = {**(properties if isinstance(properties, Mapping) else {}), **found}
    return found


def property_of(schema: object, key: str, root: Schema) -> object:
    """What a property must follow, True where nothing is said; ``schema`` is a part of ``root``."""
    told = [part.get("properties") for part in _parts(schema, root)]
    known = [each[key] for each in told if isinstance(each, Mapping) and key in each]
    return known[0] if len(known) == 1 else {"anyOf": known} if known else True


def items_of(schema: object, root: Schema) -> object:
    """What the items of a list must follow."""
    known = [part["items"] for part in _parts(schema, root) if "items" in part]
    return known[0] if len(known) == 1 else {"anyOf": known} if known else True


def _parts(schema: object, root: Schema) -> Iterator[Schema]:
    """A schema, what it refers to, and all that it may consist of; each once."""
    todo: list[object] = [schema]
    seen: set[int] = set()
    while todo:
        schema = todo.pop(0)
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            todo.append(referred(root, reference))
        for key in ("allOf", "anyOf", "oneOf"):
            branches = schema.get(key)
            todo += branches if isinstance(branches, list) else ()


def referred(root: object, reference: str) -> object:
    """The part of a schema that a reference such as ``#/$defs/A`` leads to; None where none is."""
    for key in reference[1:].split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, Mapping) else None
    return root
