"""Prompts from rows: ``{column}`` in a text is the row's value, and nothing is evaluated.

``{{`` and ``}}`` are braces. A format follows a colon, as in ``{price:.2f}``: fill, sign, width,
precision and type of Python's format language, or a date's ``%Y-%m-%d``.
"""

from __future__ import annotations

import datetime
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.suggest import did_you_mean

__all__ = ["Template"]

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
        names = list(columns)
        try:
            pieces = list(string.Formatter().parse(text))
        except ValueError as error:
            raise InvalidOptionError(
                "template", f"{error}; write {{{{ and }}}} for braces that are no column"
            ) from None
        for _, name, spec, conversion in pieces:
            if name is None:
                continue
            if name.strip() not in names:
                raise InvalidOptionError(
                    "template",
                    f"{{{name}}} is not a column.{did_you_mean(name.strip(), names)} The columns "
                    f"are {', '.join(names[:20])}. Write {{{{ and }}}} for braces that are text",
                )
            if conversion or "{" in (spec or ""):
                raise InvalidOptionError("template", f"{{{name}!…}} is not supported")
        if not any(name is not None for _, name, _, _ in pieces):
            raise InvalidOptionError(
                "template", "names no column, so that every row would ask the same; write {column}"
            )
        return cls(
            tuple(
                (before, None if name is None else name.strip(), spec or "")
                for before, name, spec, _ in pieces
            )
        )

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


def _shown(name: str, value: Any, spec: str) -> str:
    if _is_missing(value):
        raise InvalidOptionError("template", f"the value of {name!r} is missing")
    if not spec:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)
    try:
        if isinstance(value, datetime.date | datetime.time) and _DATE_SPEC.fullmatch(spec):
            return format(value, spec)
        found = _SPEC.fullmatch(spec)
        if found is None or int(found["width"] or 0) > _MOST_WIDTH:
            raise ValueError("it is not a format that is supported")
        return format(value if isinstance(value, str | int | float) else _plain(value), spec)
    except (ValueError, TypeError) as error:
        raise InvalidOptionError("template", f"{{{name}:{spec}}}: {error}") from None


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
