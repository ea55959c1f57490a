"""Prompts from rows: ``{column}`` in a text is the row's value, and nothing is evaluated.

``{{`` and ``}}`` are braces. A format follows a colon, as in ``{price:.2f}``: fill, sign, width,
precision and type of Python's format language, or a date's ``%Y-%m-%d``. A column may be called
anything that has no braces, ``price (USD)`` and ``a.b`` too.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import capped

__all__ = ["Template"]

_PARTS = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<inner>[^{}]*)\}|(?P<alone>[{}])")
_CONVERSION = re.compile(r"(?P<name>.*)![a-z](:.*)?", re.DOTALL)
_SPEC = re.compile(
    r"(?:.?[<>=^])?[+\- ]?#?0?(?P<width>\d{0,4})[,_]?(?:\.(?P<digits>\d{1,3}))?[a-zA-Z%]?"
)
_DATE_SPEC = re.compile(r"[\w%:/., \-]{1,60}")
_MOST_WIDTH = 1_000


@dataclass(frozen=True, slots=True)
class Template:
    """A text in pieces: what stands before a column, the column, and its format."""

    pieces: tuple[tuple[str, str | None, str], ...]

    @classmethod
    def of(cls, text: str, columns: Iterable[str]) -> Template:
        """Read a text. Raises ``InvalidOptionError`` for a brace that names no column."""
        names, pieces = list(columns), []
        before, end = "", 0
        for found in _PARTS.finditer(text):
            before, end = before + text[end : found.start()], found.end()
            if found["brace"]:
                before += found["brace"][0]
            elif found["alone"]:
                raise _refused(f"has a single {found['alone']}. {_DOUBLED}")
            else:
                pieces.append((before, *_column(found["inner"], names)))
                before = ""
        if not pieces:
            raise _refused(
                f"has no column in braces, so that every row would ask the same. {_known(names)}"
            )
        return cls((*pieces, (before + text[end:], None, "")))

    @property
    def columns(self) -> frozenset[str]:
        """Those that it names."""
        return frozenset(name for _, name, _ in self.pieces if name is not None)

    def fill(self, row: Mapping[str, Any]) -> str:
        """The prompt of a row. Raises ``InvalidOptionError`` for a value that is missing."""
        parts = []
        for before, name, spec in self.pieces:
            parts.append(before)
            if name is not None:
                parts.append(_shown(name, row[name], spec))
        return "".join(parts)


def _column(inner: str, names: Sequence[str]) -> tuple[str, str]:
    """The column that stands in braces, and its format; the longest name that fits."""
    head, spec = inner, ""
    while (name := _named(head, names)) is None:
        head, colon, _ = head.rpartition(":")
        if not colon:
            raise _refused(_why_not(inner, names))
        spec = inner[len(head) + 1 :]
    if names.count(name) > 1:
        raise _refused(f"has {{{name}}}, but several columns have that name; rename them first")
    return name, spec


def _named(written: str, names: Sequence[str]) -> str | None:
    """The column that is meant, with or without blanks about it, as tables of files have them."""
    if written in names:
        return written
    return next((name for name in names if name.strip() == written.strip()), None)


def _why_not(inner: str, names: Sequence[str]) -> str:
    """What is wrong with braces that name no column."""
    shown = f"has {{{capped(inner, 80)}}}, "
    name = inner.strip()
    converted = _CONVERSION.fullmatch(inner)
    if converted and converted["name"].strip() in names:
        return f"{shown}but conversions are not supported; write {{{converted['name'].strip()}}}"
    owner = re.split(r"[.\[]", name, maxsplit=1)[0]
    if owner != name and owner in names:
        return f"{shown}but attributes and items of values are not read; make a column of them"
    if not name.partition(":")[0].strip():
        return f"{shown}without a column's name. {_known(names)} {_DOUBLED}"
    hint = did_you_mean(name.partition(":")[0].strip(), names)
    return f"{shown}which is not a column.{hint} {_known(names)} {_DOUBLED}"


_DOUBLED = "Braces that are text are doubled: {{ and }}"
_MOST_NAMED = 20


def _known(names: Sequence[str]) -> str:
    if not names:
        return "The DataFrame has no columns."
    more = len(names) - _MOST_NAMED
    end = f" and {more:,} more" if more > 0 else ""
    return f"The columns are {', '.join(capped(name, 60) for name in names[:_MOST_NAMED])}{end}."


def _refused(problem: str) -> InvalidOptionError:
    return InvalidOptionError("template", problem)


def _shown(name: str, value: Any, spec: str) -> str:
    if _is_missing(value):
        raise _refused(f"the value of {name!r} is missing")
    if not spec:
        return _text_of(name, value)
    try:
        if isinstance(value, datetime.date | datetime.time) and _DATE_SPEC.fullmatch(spec):
            return format(value, spec)
        found = _SPEC.fullmatch(spec)
        if found is None or int(found["width"] or 0) > _MOST_WIDTH:
            raise ValueError("it is not a format that is supported")
        return format(value if isinstance(value, str | int | float) else _plain(value), spec)
    except (ValueError, TypeError) as error:
        raise _refused(f"{{{name}:{spec}}}: {error}") from None


def _text_of(name: str, value: Any) -> str:
    """The value as text; the items of a list, also of an array, with commas between them."""
    if hasattr(value, "ndim") and hasattr(value, "tolist"):
        value = value.tolist()
    try:
        return ", ".join(map(str, value)) if isinstance(value, _LISTS) else str(value)
    except Exception as error:  # noqa: BLE001 - of the value's own __str__; its row fails alone
        reason = capped(str(error), 80) or type(error).__name__
        raise _refused(f"the value of {name!r} cannot be made text: {reason}") from None


_LISTS = (list, tuple, set, frozenset)


def _plain(value: Any) -> Any:
    """A number of NumPy's or of decimal's as Python's own."""
    return value.item() if hasattr(value, "item") else float(value)


def _is_missing(value: Any) -> bool:
    """None, NaN, NaT and pandas' NA: each is unequal to itself, or cannot say."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # NA, or an array, of which only the first is missing
        return type(value).__name__ == "NAType"
