"""Bounds of the tables that local models write: small ones find no end of one by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ROWS", "row_words"]

_MOST_ROWS, _MOST_COLUMNS, _MOST_CHARACTERS = 100, 20, 500
_SCALAR = {"type": ["string", "number", "boolean", "null"], "maxLength": _MOST_CHARACTERS}
ROWS: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": _MOST_ROWS,
    "items": {
        "type": "object",
        "additionalProperties": _SCALAR,
        "minProperties": 1,
        "maxProperties": _MOST_COLUMNS,
    },
}


def row_words(rows: int, *, is_bound: bool) -> list[str]:
    """What the status line tells of a table's rows; ``is_bound`` says that ``ROWS`` held."""
    if not rows:
        return ["no rows"]
    is_full = is_bound and rows == _MOST_ROWS
    return [f"stopped at {rows} rows, the limit; use --schema for more"] if is_full else []
