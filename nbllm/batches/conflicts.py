"""Which options of a run do not go together: one table, for ``model.map`` and for tables.

It needs no model, so that whoever loads one checks by it before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_names import option_name, option_use

__all__ = ["check_apart"]

_DECIDES = "the vendor decides how much it does at a time"
_WHOLE = "a batch is sent as a whole; send fewer rows, or limit each answer"

_APART: tuple[tuple[str, str, str], ...] = (
    ("cancel_batch", "dry_run", ""),
    ("client", "batch_api", ""),
    ("client", "cancel_batch", ""),
    *(
        (name, by_vendor, why)
        for by_vendor in ("batch_api", "cancel_batch")
        for name, why in (("concurrency", _DECIDES), ("max_total_tokens", _WHOLE))
    ),
)
"""Two options, and why they cannot be combined where that is not plain."""

_REQUIRED = {"calibrate": "decide"}
"""Options that do something only beside another one."""


def check_apart(settings: Mapping[str, Any]) -> None:
    """Raise ``InvalidOptionError`` where two of the ``settings`` do not go together."""
    for name, other, why in _APART:
        if _is_set(name, settings) and _is_set(other, settings):
            what_to_do = f": {why}" if why else "; drop one"
            problem = f"cannot be combined with {option_name(other)}{what_to_do}"
            raise InvalidOptionError(name, problem)
    for name, needed in _REQUIRED.items():
        if _is_set(name, settings) and not _is_set(needed, settings):
            raise InvalidOptionError(name, f"requires {option_use(needed)}")


def _is_set(name: str, settings: Mapping[str, Any]) -> bool:
    value = settings.get(name)
    return value is not None and value is not False
