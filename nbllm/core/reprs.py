"""The reprs of nbllm's values: short, and without what is not set."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

from nbllm.core.texts import shown, well_formed

__all__ = ["brief_repr"]

_LONGEST = 200


def brief_repr(value: Any) -> str:
    """The ``__repr__`` of a dataclass: its fields but for those that are as they are by default.

    A long text is cut, and its length told.
    """
    known = [field for field in fields(value) if field.repr]
    told = [
        f"{field.name}={_brief(getattr(value, field.name))}"
        for field in known
        if not _is_default(field, getattr(value, field.name))
    ]
    return f"{type(value).__qualname__}({', '.join(told)})"


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    default = field.default
    return value is default or (type(value) is type(default) and bool(value == default))


def _brief(value: object) -> str:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{well_formed(value[:_LONGEST])!r}… ({len(value):,} characters)"
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a repr in it may raise anything, and a repr must not
        return shown(value)
