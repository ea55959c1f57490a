"""Values as texts of bounded length: what ``str`` makes of them, cut where there is too much.

What was left out is counted in the text itself and in a note. Containers are gone through without
code of their own; only an object inside that has a text of its own is asked for it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nbllm.core.words import counted
from nbllm.notebook.prompts.attributes import fields_of
from nbllm.notebook.prompts.evaluation import INT_BITS, Budget, Refused
from nbllm.notebook.prompts.plain_data import SCALARS, plain
from nbllm.notebook.prompts.value_kinds import (
    class_attribute,
    is_a,
    is_code,
    is_stdlib,
    kind_of,
    known_zone,
    module_of,
    mro_of,
    type_name,
)

__all__ = [
    "ADDRESS",
    "VALUE_CHARACTERS",
    "Written",
    "check_digits",
    "container_of",
    "cut",
    "has_text",
    "is_dict_view",
    "value_text",
    "written",
]

VALUE_CHARACTERS = 10_000
"""What a value that is neither a text nor a table may take in a prompt."""
ADDRESS = re.compile(r"<[^<>]{1,200} at 0x[0-9A-Fa-f]+>?")
"""The text of an object that has none of its own."""
_DEPTH = 8
_SMALLEST_ROOM = 20
_TABLES = ("frame", "series", "array", "index")
_READABLE = (
    ("argparse", "Namespace"),
    ("builtins", "BaseException"),
    ("datetime", "tzinfo"),
    ("enum", "Enum"),
    ("ipaddress", "_IPAddressBase"),
    ("pathlib", "PurePath"),
    ("types", "SimpleNamespace"),
    ("uuid", "UUID"),
)
"""The classes of Python itself, besides containers and scalars, of which a text is data."""
_BASES = (list, tuple, set, frozenset, dict, deque)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
    dict: ("{", "}"),
    deque: ("[", "]"),
}


@dataclass(frozen=True, slots=True)
class Written:
    """A text, and what was left out of it: "" or words such as "990 elements left out"."""

    text: str
    left_out: str = ""


def value_text(value: Any, *, quoted: bool = False) -> str:
    """The text of plain data, as ``str`` or, ``quoted``, as ``repr`` makes it; bounded."""
    return value if kind_of(value) == "text" and not quoted else written(value).text


def written(value: Any) -> Written:
    """``repr(value)`` of at most about ``VALUE_CHARACTERS``."""
    writer = _Writer()
    writer.write(value, VALUE_CHARACTERS, ())
    counts = [
        counted(count, what)
        for count, what in ((writer.elements, "element"), (writer.characters, "character"))
        if count
    ]
    return Written("".join(writer.parts), f"{' and '.join(counts)} left out" if counts else "")


def cut(text: str, characters: int) -> Written:
    """A text of at most ``characters``, with how many were left out at its end."""
    if len(text) <= characters:
        return Written(text)
    left_out = f"{len(text) - characters:,} characters left out"
    return Written(f"{text[:characters]}… [{left_out}]", left_out)


def container_of(value: Any) -> type | None:
    """The built-in container that ``value`` is, or is a subclass of without a text of its own."""
    for base in mro_of(type(value)):
        if any(base is each for each in _BASES):
            own = class_attribute(type(value), "__repr__")
            is_plain = own is base.__repr__ or kind_of(value) == "dict"
            return base if is_plain and not _has_own_str(value) else None
    return None


def is_dict_view(value: Any) -> bool:
    """Whether ``value`` is what ``keys()``, ``values()`` or ``items()`` of a dict gave."""
    return any(type(value) is each for each in _VIEWS)


@dataclass(slots=True)
class _Writer:
    """The ``parts`` of a text, and how many ``elements`` and ``characters`` it lacks."""

    parts: list[str] = field(default_factory=list)
    elements: int = 0
    characters: int = 0

    def write(self, value: Any, room: int, path: tuple[int, ...]) -> int:
        """Write ``value`` and return the characters that it took, about ``room`` at most.

        ``path`` are the containers around it, by ``id``.
        """
        kind = kind_of(value)
        if kind in ("text", "bytes"):
            return self._put_quoted(plain(value), room)
        if kind in SCALARS:
            return self._put(_leaf(value), room)
        base = container_of(value)
        is_view = is_dict_view(value)
        fields = None if base is not None or is_view else fields_of(value, Budget())
        if base is None and not is_view and fields is None:
            return self._put(_leaf(value), room)
        if id(value) in path or len(path) == _DEPTH:
            return self._put("…", room)
        inner = (*path, id(value))
        if fields is not None:
            start, end = f"{type_name(value)}(", ")"
            return self._all(start, _named(fields), len(fields), end, room, inner)
        if is_view:
            return self._all(f"{type_name(value)}([", _single(value), len(value), "])", room, inner)
        assert base is not None  # noqa: S101 - for the type checker
        return self._container(value, base, room, inner)

    def _container(self, value: Any, base: type, room: int, path: tuple[int, ...]) -> int:
        start, end = _BRACKETS[base]
        count = base.__len__(value)  # type: ignore[attr-defined]
        if base in (set, frozenset) and not count:
            return self._put(f"{base.__name__}()", room)
        if base in (frozenset, deque):
            start, end = f"{base.__name__}({start}", f"{end})"
        if base is tuple and count == 1:
            end = ",)"
        if base is dict:
            return self._all(start, _paired(value), count, end, room, path)
        elements = base.__iter__(value)  # type: ignore[attr-defined]
        return self._all(start, _single(elements), count, end, room, path)

    def _all(
        self,
        start: str,
        elements: Iterable[tuple[Any, ...]],
        count: int,
        end: str,
        room: int,
        path: tuple[int, ...],
    ) -> int:
        """The elements between ``start`` and ``end``, each in at most half of the room left.

        An element is what stands before it, and itself.
        """
        took = self._put(start, room)
        for number, element in enumerate(elements):
            if number and room - took < _SMALLEST_ROOM:
                self.elements += count - number
                took += self._put(f", … {count - number:,} more", _SMALLEST_ROOM * 2)
                break
            if number:
                took += self._put(", ", room)
            left = room - took
            took += self._element(element, left if number == count - 1 else left // 2, path)
        return took + self._put(end, room)

    def _element(self, element: tuple[Any, ...], room: int, path: tuple[int, ...]) -> int:
        took = 0
        for each in element:
            if type(each) is _Mark:
                took += self._put(each.text, room)
            else:
                took += self.write(each, max(room - took, _SMALLEST_ROOM), path)
        return took

    def _put_quoted(self, text: Any, room: int) -> int:
        room = max(room, _SMALLEST_ROOM)
        self.characters += max(0, len(text) - room)
        written = repr(text[:room])
        self.parts.append(f"{written[:-1]}…{written[-1]}" if len(text) > room else written)
        return len(self.parts[-1])

    def _put(self, text: str, room: int) -> int:
        room = max(room, _SMALLEST_ROOM)
        if len(text) > room:
            self.characters += len(text) - room
            text = f"{text[:room]}…"
        self.parts.append(text)
        return len(text)


@dataclass(frozen=True, slots=True)
class _Mark:
    text: str


def _single(elements: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    return ((each,) for each in elements)


def _paired(value: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    return ((name, _Mark(": "), each) for name, each in dict.items(value))


def _named(fields: list[tuple[str, Any]]) -> Iterator[tuple[Any, ...]]:
    return ((_Mark(f"{name}="), each) for name, each in fields)


def has_text(value: Any) -> bool:
    """Whether the class of ``value`` says how it is written, and is no system of Python's."""
    if is_stdlib(type(value)) and not any(is_a(value, *each) for each in _READABLE):
        return False
    own = class_attribute(type(value), "__repr__")
    return own is not object.__repr__ or _has_own_str(value)


def _has_own_str(value: Any) -> bool:
    return class_attribute(type(value), "__str__") is not object.__str__


def _leaf(value: Any) -> str:
    """The text of what is no container; of systems, code and objects without a text their kind."""
    kind = kind_of(value)
    if kind in _TABLES:
        return f"<{type_name(value)}, {' x '.join(map(str, value.shape))}>"
    if kind == "time" and not known_zone(getattr(value, "tzinfo", None)):
        return f"<{type_name(value)}>"
    if kind:
        check_digits(value)
        return str(value) if module_of(type(value)) == "numpy" else repr(value)
    if is_code(value) or not has_text(value):
        return f"<{type_name(value)}>"
    return ADDRESS.sub(f"<{type_name(value)}>", str.__str__(repr(value)))


def check_digits(value: Any) -> None:
    """Raises ``Refused`` for a number of so many digits that writing them takes long."""
    parts = (value.numerator, value.denominator) if type(value) is Fraction else (value,)
    for part in parts:
        bits = int.bit_length(part) if is_a(part, "builtins", "int") else 0
        if bits > INT_BITS:
            raise Refused(f"a number of {bits:,} bits is too long for a prompt")
